// What Ollama's clients may send.

import Type, { type Static } from 'typebox';
import { maxInputs } from '../encoders/schemas.ts';
import { flag, maxTextLength, maxTokenId, maybe, oneOf, schema, text, tool } from '../schemas.ts';

const anyNumber = Type.Number({ minimum: -(2 ** 31), maximum: maxTokenId });

/** Options that say how a machine runs a model: taken, and without effect here. */
const unused = {
  num_ctx: maybe(anyNumber),
  num_keep: maybe(anyNumber),
  num_batch: maybe(anyNumber),
  num_gpu: maybe(anyNumber),
  main_gpu: maybe(anyNumber),
  num_thread: maybe(anyNumber),
  repeat_last_n: maybe(anyNumber),
  mirostat_tau: maybe(anyNumber),
  mirostat_eta: maybe(anyNumber),
  penalize_newline: maybe(flag),
  numa: maybe(flag),
  low_vram: maybe(flag),
  use_mmap: maybe(flag),
  use_mlock: maybe(flag),
};

const options = Type.Object({
  num_predict: maybe(
    Type.Integer({
      minimum: -(2 ** 31),
      maximum: maxTokenId,
      description: 'Output tokens at most; 0 and below: what the context leaves.',
    }),
  ),
  temperature: maybe(Type.Number({ minimum: 0, maximum: 2, description: '0 is greedy.' })),
  top_k: maybe(Type.Integer({ minimum: -1, maximum: maxTokenId, description: '0 and -1 are off.' })),
  top_p: maybe(Type.Number({ exclusiveMinimum: 0, maximum: 1 })),
  min_p: maybe(Type.Number({ minimum: 0, maximum: 1 })),
  seed: maybe(
    Type.Number({
      minimum: -(2 ** 63),
      maximum: 2 ** 63,
      description: 'A whole number, int64; -1 is a random one.',
    }),
  ),
  stop: maybe(Type.Union([text(1000), Type.Array(text(1000), { maxItems: 16 })])),
  repeat_penalty: maybe(
    Type.Number({
      exclusiveMinimum: 0,
      maximum: 100,
      description: 'Over all of the text, as repetition_penalty.',
    }),
  ),
  presence_penalty: maybe(Type.Number({ minimum: -2, maximum: 2 })),
  frequency_penalty: maybe(Type.Number({ minimum: -2, maximum: 2 })),
  typical_p: maybe(Type.Number({ minimum: 1, maximum: 1, description: 'Off.' })),
  tfs_z: maybe(Type.Number({ minimum: 1, maximum: 1, description: 'Off.' })),
  mirostat: maybe(Type.Integer({ minimum: 0, maximum: 0, description: 'Off.' })),
  ...unused,
});

const images = maybe(
  Type.Array(text(maxTextLength), { maxItems: 0, description: 'None: the model reads text.' }),
);

/** Fields that chat and generate share. */
const common = {
  model: Type.String({ minLength: 1, maxLength: 1000, description: 'With or without ":latest".' }),
  stream: maybe(Type.Boolean({ description: 'True unless it is false.' })),
  format: maybe(Type.Union([oneOf('json', ''), schema])),
  options: maybe(options),
  think: maybe(Type.Union([flag, oneOf('low', 'medium', 'high', 'max')])),
  keep_alive: maybe(Type.Union([text(100), anyNumber])),
  logprobs: maybe(flag),
  top_logprobs: maybe(Type.Integer({ minimum: 0, maximum: 64 })),
};

const toolCall = Type.Object({
  id: maybe(text(1000)),
  function: Type.Object({ name: text(1000), arguments: maybe(schema) }),
});

const message = Type.Object({
  role: oneOf('system', 'user', 'assistant', 'tool'),
  content: maybe(text(maxTextLength)),
  thinking: maybe(text(maxTextLength)),
  images,
  tool_calls: maybe(Type.Array(toolCall, { maxItems: 1000 })),
  tool_name: maybe(text(1000)),
  tool_call_id: maybe(text(1000)),
});

export const ollamaChatRequest = Type.Object({
  ...common,
  messages: maybe(Type.Array(message, { maxItems: 10_000 })),
  tools: maybe(Type.Array(tool, { maxItems: 512 })),
});

export const ollamaGenerateRequest = Type.Object({
  ...common,
  prompt: maybe(text(maxTextLength)),
  system: maybe(text(maxTextLength)),
  raw: maybe(Type.Boolean({ description: 'The prompt as it stands, without the chat template.' })),
  suffix: maybe(Type.String({ maxLength: 0 })),
  template: maybe(Type.String({ maxLength: 0, description: "None: the model's own is used." })),
  context: maybe(Type.Array(Type.Integer({ minimum: 0, maximum: maxTokenId }), { maxItems: 0 })),
  images,
});

export const ollamaShowRequest = Type.Object({
  model: maybe(text(1000)),
  name: maybe(text(1000)),
  verbose: maybe(flag),
});

const { model, options: embedOptions, keep_alive } = common;

export const ollamaEmbedRequest = Type.Object({
  model,
  input: maybe(Type.Union([text(maxTextLength), Type.Array(text(maxTextLength), { maxItems: maxInputs })])),
  truncate: maybe(
    Type.Boolean({ description: 'Cut inputs to what the model takes, at the end; true unless it is false.' }),
  ),
  dimensions: maybe(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
  options: embedOptions,
  keep_alive,
});

export const ollamaEmbeddingsRequest = Type.Object({
  model,
  prompt: maybe(text(maxTextLength)),
  options: embedOptions,
  keep_alive,
});

export type OllamaEmbedRequest = Static<typeof ollamaEmbedRequest>;
export type OllamaEmbeddingsRequest = Static<typeof ollamaEmbeddingsRequest>;
export type OllamaChatRequest = Static<typeof ollamaChatRequest>;
export type OllamaGenerateRequest = Static<typeof ollamaGenerateRequest>;
export type OllamaShowRequest = Static<typeof ollamaShowRequest>;
export type OllamaMessage = NonNullable<OllamaChatRequest['messages']>[number];
/** Of a request, all but what its prompt is made from. */
export type OllamaFields = Omit<OllamaChatRequest, 'messages' | 'tools'>;
