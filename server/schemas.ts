// What clients may send: OpenAI's fields, vLLM's extras, and a limit on every one of them. Unknown fields are
// accepted and ignored, as vLLM does; null stands for "not given", as OpenAI's clients send it.

import Type, { type Static, type TSchema } from 'typebox';

export const maxTextLength = 4_000_000;
export const maxTokenId = 2 ** 31 - 1;

export const maybe = <T extends TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]));
const tokenId = Type.Integer({ minimum: 0, maximum: maxTokenId });
export const text = (maxLength: number) => Type.String({ maxLength });
export const flag = Type.Boolean();
export const oneOf = <T extends string>(...names: T[]) =>
  Type.Unsafe<T>(Type.Union(names.map((name) => Type.Literal(name))));

/** A JSON schema, or something like it: looked at when it is compiled. */
export const schema = Type.Record(Type.String(), Type.Unknown());
const maxGrammarLength = 262_144;

/** Fields that chat and text completions share. */
export const sampling = {
  model: maybe(text(1000)),
  max_tokens: maybe(
    Type.Integer({
      minimum: 0,
      maximum: maxTokenId,
      description: 'Output tokens at most; cut to what the context leaves.',
    }),
  ),
  temperature: maybe(Type.Number({ minimum: 0, maximum: 2, description: '0 is greedy.' })),
  top_p: maybe(Type.Number({ exclusiveMinimum: 0, maximum: 1 })),
  top_k: maybe(Type.Integer({ minimum: -1, maximum: maxTokenId, description: '0 and -1 are off.' })),
  min_p: maybe(Type.Number({ minimum: 0, maximum: 1 })),
  n: maybe(Type.Integer({ minimum: 1, maximum: 128 })),
  use_beam_search: maybe(
    Type.Boolean({ description: 'Search with n beams instead of sampling; n of at most --max-logprobs.' }),
  ),
  length_penalty: maybe(
    Type.Number({
      minimum: -10,
      maximum: 10,
      description: 'Of a beam search: log-probabilities are divided by length to this power; 1 by default.',
    }),
  ),
  seed: maybe(Type.Number({ minimum: -(2 ** 63), maximum: 2 ** 63, description: 'A whole number, int64.' })),
  stop: maybe(Type.Union([text(1000), Type.Array(text(1000), { maxItems: 16 })])),
  stop_token_ids: maybe(Type.Array(tokenId, { maxItems: 512 })),
  include_stop_str_in_output: maybe(flag),
  ignore_eos: maybe(flag),
  min_tokens: maybe(Type.Integer({ minimum: 0, maximum: maxTokenId })),
  skip_special_tokens: maybe(flag),
  presence_penalty: maybe(Type.Number({ minimum: -2, maximum: 2 })),
  frequency_penalty: maybe(Type.Number({ minimum: -2, maximum: 2 })),
  repetition_penalty: maybe(Type.Number({ exclusiveMinimum: 0, maximum: 100 })),
  logit_bias: maybe(
    Type.Record(Type.String(), Type.Number({ minimum: -100, maximum: 100 }), { maxProperties: 500 }),
  ),
  bad_words: maybe(
    Type.Array(Type.String({ minLength: 1, maxLength: 1000 }), {
      maxItems: 128,
      description: 'Texts that the output never completes.',
    }),
  ),
  allowed_token_ids: maybe(
    Type.Array(tokenId, { minItems: 1, maxItems: 1_000_000, description: 'The output has no others.' }),
  ),
  prompt_logprobs: maybe(Type.Integer({ minimum: 0, maximum: 64 })),
  truncate_prompt_tokens: maybe(
    Type.Integer({
      minimum: -1,
      maximum: maxTokenId,
      description: 'Tokens of the prompt that are kept; -1 keeps what leaves room for max_tokens.',
    }),
  ),
  truncation_side: maybe(oneOf('left', 'right')),
  stream: maybe(flag),
  stream_options: maybe(Type.Object({ include_usage: maybe(flag), continuous_usage_stats: maybe(flag) })),
  priority: maybe(
    Type.Integer({ minimum: -(2 ** 31), maximum: maxTokenId, description: 'Lower is served earlier.' }),
  ),
  cache_salt: maybe(Type.String({ minLength: 1, maxLength: 1000 })),
  return_token_ids: maybe(flag),
  return_tokens_as_token_ids: maybe(flag),
  add_special_tokens: maybe(flag),
  response_format: maybe(
    Type.Object({
      type: text(100),
      json_schema: maybe(
        Type.Object({
          name: maybe(text(1000)),
          description: maybe(text(100_000)),
          schema: maybe(schema),
          strict: maybe(flag),
        }),
      ),
    }),
  ),
  structured_outputs: maybe(
    Type.Object(
      {
        json: maybe(Type.Union([schema, text(maxGrammarLength)])),
        regex: maybe(text(maxGrammarLength)),
        choice: maybe(Type.Array(text(10_000), { minItems: 1, maxItems: 10_000 })),
        grammar: maybe(text(maxGrammarLength)),
        json_object: maybe(flag),
        structural_tag: maybe(Type.Union([schema, text(maxGrammarLength)])),
      },
      { description: 'One of the kinds.' },
    ),
  ),
  user: maybe(text(10_000)),
};

const contentPart = Type.Object({
  type: text(100),
  text: maybe(text(maxTextLength)),
  refusal: maybe(text(maxTextLength)),
});
const content = Type.Union([text(maxTextLength), Type.Array(contentPart, { maxItems: 10_000 })]);
const role = oneOf('system', 'developer', 'user', 'assistant', 'tool', 'function');

const calledFunction = Type.Object({ name: text(1000), arguments: text(maxTextLength) });
const toolCall = Type.Object({
  id: text(1000),
  type: maybe(Type.Literal('function')),
  function: calledFunction,
});

const message = Type.Object({
  role,
  content: maybe(content),
  name: maybe(text(1000)),
  tool_calls: maybe(Type.Array(toolCall, { maxItems: 1000 })),
  tool_call_id: maybe(text(1000)),
  function_call: maybe(calledFunction),
  reasoning: maybe(text(maxTextLength)),
  reasoning_content: maybe(text(maxTextLength)),
});

export const functionName = Type.String({ minLength: 1, maxLength: 256, pattern: '^[\\w.:-]+$' });
const functionTool = Type.Object({
  name: functionName,
  description: maybe(text(100_000)),
  parameters: maybe(schema),
  strict: maybe(flag),
});
export const tool = Type.Object({ type: Type.Literal('function'), function: functionTool });

const namedFunction = { type: maybe(Type.Literal('function')), function: Type.Object({ name: text(1000) }) };

const toolChoice = Type.Union([
  Type.Literal('none'),
  Type.Literal('auto'),
  Type.Literal('required'),
  Type.Object(namedFunction),
  Type.Object({
    type: Type.Literal('allowed_tools'),
    allowed_tools: Type.Object(
      {
        mode: maybe(oneOf('auto', 'required')),
        tools: Type.Array(Type.Object(namedFunction), { minItems: 1, maxItems: 512 }),
      },
      { description: 'Those of tools that the model is shown.' },
    ),
  }),
]);

/** Of OpenAI's fields those that a server of one's own has nothing to do with, so that clients may send them. */
export const accepted = {
  store: maybe(flag),
  metadata: maybe(Type.Record(Type.String(), text(512), { maxProperties: 16, propertyNames: text(64) })),
  service_tier: maybe(oneOf('auto', 'default', 'flex', 'scale', 'priority')),
  prediction: maybe(Type.Object({ type: Type.Literal('content'), content })),
  safety_identifier: maybe(text(10_000)),
  prompt_cache_key: maybe(text(10_000)),
};

export const reasoningEffort = oneOf('none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max');
export const thinkingBudget = Type.Integer({
  minimum: -1,
  maximum: maxTokenId,
  description: 'Tokens of reasoning at most; -1 is no limit.',
});

export const chatRequest = Type.Object({
  ...sampling,
  ...accepted,
  messages: Type.Array(message, { minItems: 1, maxItems: 10_000 }),
  max_completion_tokens: maybe(Type.Integer({ minimum: 1, maximum: maxTokenId })),
  logprobs: maybe(flag),
  top_logprobs: maybe(Type.Integer({ minimum: 0, maximum: 64 })),
  add_generation_prompt: maybe(flag),
  continue_final_message: maybe(flag),
  chat_template_kwargs: maybe(Type.Record(Type.String(), Type.Unknown(), { maxProperties: 100 })),
  documents: maybe(Type.Array(Type.Unknown(), { maxItems: 1000 })),
  tools: maybe(Type.Array(tool, { maxItems: 512 })),
  tool_choice: maybe(toolChoice),
  parallel_tool_calls: maybe(flag),
  functions: maybe(Type.Array(functionTool, { maxItems: 512, description: 'The older form of tools.' })),
  function_call: maybe(
    Type.Union([Type.Literal('none'), Type.Literal('auto'), Type.Object({ name: functionName })]),
  ),
  reasoning_effort: maybe(reasoningEffort),
  verbosity: maybe(oneOf('low', 'medium', 'high')),
  thinking_token_budget: maybe(thinkingBudget),
  thinking_budget: maybe(thinkingBudget),
  include_reasoning: maybe(flag),
  echo: maybe(flag),
});

export const tokenIds = Type.Array(tokenId, { minItems: 1, maxItems: 10_000_000 });

export const completionRequest = Type.Object({
  ...sampling,
  prompt: Type.Union([
    text(maxTextLength),
    Type.Array(text(maxTextLength), { minItems: 1, maxItems: 1024 }),
    tokenIds,
    Type.Array(tokenIds, { minItems: 1, maxItems: 1024 }),
  ]),
  logprobs: maybe(Type.Integer({ minimum: 0, maximum: 64 })),
  best_of: maybe(
    Type.Integer({
      minimum: 1,
      maximum: 128,
      description: 'Choices that are made for each prompt; the n likeliest per token are given.',
    }),
  ),
  echo: maybe(flag),
});

export const tokenizeRequest = Type.Object({
  model: maybe(text(1000)),
  prompt: maybe(text(maxTextLength)),
  messages: maybe(Type.Array(message, { minItems: 1, maxItems: 10_000 })),
  add_special_tokens: maybe(flag),
  add_generation_prompt: maybe(flag),
  continue_final_message: maybe(flag),
  chat_template_kwargs: maybe(Type.Record(Type.String(), Type.Unknown(), { maxProperties: 100 })),
  tools: maybe(Type.Array(tool, { maxItems: 512 })),
  return_token_strs: maybe(flag),
});

export const detokenizeRequest = Type.Object({
  model: maybe(text(1000)),
  tokens: Type.Array(tokenId, { maxItems: 10_000_000 }),
});

const adapterName = Type.String({ minLength: 1, maxLength: 256, pattern: '^[\\w.:/-]+$' });

export const loadAdapterRequest = Type.Object({
  lora_name: adapterName,
  lora_path: Type.String({ minLength: 1, maxLength: 4096, description: 'A folder as peft saves it.' }),
});

export const unloadAdapterRequest = Type.Object({ lora_name: adapterName });

export const modelParams = Type.Object({
  '*': Type.String({ description: 'A name that /v1/models lists, slashes and all.' }),
});

const requestId = Type.String({
  minLength: 1,
  maxLength: 1000,
  description: 'X-Request-Id of a request, or the id of its answer.',
});

export const abortRequest = Type.Object({
  request_ids: maybe(Type.Array(requestId, { maxItems: 10_000, description: 'Requests to end.' })),
  rid: maybe(requestId),
  abort_all: maybe(Type.Boolean({ description: 'Ends every request; false by default.' })),
});

export const pauseQuery = Type.Object({
  mode: Type.Optional(
    Type.Union([Type.Literal('keep'), Type.Literal('abort')], {
      description: 'What becomes of requests under way: they wait (keep, the default), or end.',
    }),
  ),
});

export const sleepQuery = Type.Object({
  level: Type.Optional(
    Type.Integer({
      const: 1,
      description: 'The KV cache is given back, the weights stay: there is no other.',
    }),
  ),
});

export const wakeUpQuery = Type.Object({
  tags: Type.Optional(Type.String({ maxLength: 1000, description: 'Taken, and changes nothing.' })),
});

export type AbortRequest = Static<typeof abortRequest>;
export type PauseQuery = Static<typeof pauseQuery>;
export type LoadAdapterRequest = Static<typeof loadAdapterRequest>;
export type UnloadAdapterRequest = Static<typeof unloadAdapterRequest>;
export type ChatRequest = Static<typeof chatRequest>;
export type CompletionRequest = Static<typeof completionRequest>;
export type TokenizeRequest = Static<typeof tokenizeRequest>;
export type DetokenizeRequest = Static<typeof detokenizeRequest>;
export type SamplingFields = Omit<ChatRequest, 'messages' | 'logprobs' | 'top_logprobs'>;
export type ToolField = NonNullable<ChatRequest['tools']>[number];
export type ToolCallField = Static<typeof toolCall>;
export type MessageField = ChatRequest['messages'][number];
