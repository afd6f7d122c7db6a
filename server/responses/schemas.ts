// What clients may send to /v1/responses. Items, parts and tools have a loose form here and are looked at one
// by one in input-items.ts and chat-request.ts, which say which kinds there are.

import Type, { type Static } from 'typebox';
import {
  accepted,
  flag,
  maxTextLength,
  maxTokenId,
  maybe,
  oneOf,
  reasoningEffort,
  sampling,
  schema,
  text,
  thinkingBudget,
} from '../schemas.ts';

/** Fields that mean the same as in a chat completion. */
export const sharedFields = [
  'model', 'temperature', 'top_p', 'top_k', 'min_p', 'seed', 'stop', 'stop_token_ids',
  'include_stop_str_in_output', 'ignore_eos', 'min_tokens', 'skip_special_tokens', 'presence_penalty',
  'frequency_penalty', 'repetition_penalty', 'logit_bias', 'bad_words', 'allowed_token_ids', 'priority',
  'cache_salt', 'structured_outputs',
] as const satisfies ReadonlyArray<keyof typeof sampling>; // biome-ignore format: one list

type SharedField = (typeof sharedFields)[number];
const shared = Object.fromEntries(sharedFields.map((name) => [name, sampling[name]])) as Pick<
  typeof sampling,
  SharedField
>;

const part = Type.Object({
  type: text(100),
  text: maybe(text(maxTextLength)),
  refusal: maybe(text(maxTextLength)),
});
const parts = Type.Array(part, { maxItems: 10_000 });
const textOrParts = Type.Union([text(maxTextLength), parts]);

export const inputItem = Type.Object({
  type: maybe(text(100)),
  id: maybe(text(1000)),
  role: maybe(oneOf('user', 'assistant', 'system', 'developer')),
  content: maybe(textOrParts),
  call_id: maybe(text(1000)),
  name: maybe(text(1000)),
  arguments: maybe(text(maxTextLength)),
  output: maybe(textOrParts),
  summary: maybe(parts),
  status: maybe(oneOf('in_progress', 'completed', 'incomplete')),
});

const namedTool = Type.Object({ type: text(100), name: maybe(text(1000)) });

const tool = Type.Object({
  type: text(100),
  name: maybe(text(1000)),
  description: maybe(text(100_000)),
  parameters: maybe(schema),
  strict: maybe(flag),
});

const toolChoice = Type.Union([
  Type.Literal('none'),
  Type.Literal('auto'),
  Type.Literal('required'),
  Type.Object({
    type: text(100),
    name: maybe(text(1000)),
    mode: maybe(oneOf('auto', 'required')),
    tools: maybe(Type.Array(namedTool, { minItems: 1, maxItems: 512 })),
  }),
]);

const includable = oneOf(
  'message.output_text.logprobs',
  'reasoning.encrypted_content',
  'file_search_call.results',
  'web_search_call.results',
  'web_search_call.action.sources',
  'message.input_image.image_url',
  'computer_call_output.output.image_url',
  'code_interpreter_call.outputs',
);

export const responseRequest = Type.Object({
  ...shared,
  input: Type.Union([text(maxTextLength), Type.Array(inputItem, { maxItems: 10_000 })]),
  instructions: maybe(text(maxTextLength)),
  previous_response_id: maybe(text(1000)),
  max_output_tokens: maybe(Type.Integer({ minimum: 1, maximum: maxTokenId })),
  max_tool_calls: maybe(Type.Integer({ minimum: 1, maximum: maxTokenId })),
  tools: maybe(Type.Array(tool, { maxItems: 512 })),
  tool_choice: maybe(toolChoice),
  parallel_tool_calls: maybe(flag),
  text: maybe(
    Type.Object({
      format: maybe(
        Type.Object({
          type: text(100),
          name: maybe(text(1000)),
          description: maybe(text(100_000)),
          schema: maybe(schema),
          strict: maybe(flag),
        }),
      ),
      verbosity: maybe(oneOf('low', 'medium', 'high')),
    }),
  ),
  reasoning: maybe(
    Type.Object({
      effort: maybe(reasoningEffort),
      summary: maybe(oneOf('auto', 'concise', 'detailed')),
      generate_summary: maybe(oneOf('auto', 'concise', 'detailed')),
    }),
  ),
  thinking_token_budget: maybe(thinkingBudget),
  chat_template_kwargs: maybe(Type.Record(Type.String(), Type.Unknown(), { maxProperties: 100 })),
  include: maybe(Type.Array(includable, { maxItems: 20 })),
  top_logprobs: maybe(Type.Integer({ minimum: 0, maximum: 64 })),
  truncation: maybe(oneOf('auto', 'disabled')),
  background: maybe(flag),
  stream: maybe(flag),
  stream_options: maybe(Type.Object({ include_obfuscation: maybe(flag) })),
  store: maybe(Type.Boolean({ description: 'True unless said otherwise.' })),
  metadata: accepted.metadata,
  service_tier: accepted.service_tier,
  safety_identifier: accepted.safety_identifier,
  prompt_cache_key: accepted.prompt_cache_key,
  user: sampling.user,
});

/** Every field may be missing, since OpenAI's may; those that say nothing about the prompt change nothing. */
export const inputTokensRequest = Type.Object({
  ...responseRequest.properties,
  input: maybe(responseRequest.properties.input),
});

export const responseParams = Type.Object({ response_id: Type.String({ minLength: 1, maxLength: 1000 }) });

export const retrieveQuery = Type.Object({
  stream: Type.Optional(flag),
  starting_after: Type.Optional(
    Type.Integer({ minimum: 0, maximum: maxTokenId, description: 'Events with larger numbers are wanted.' }),
  ),
});

export const inputItemsQuery = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
  order: Type.Optional(oneOf('asc', 'desc')),
  after: Type.Optional(text(1000)),
});

export type ResponseRequest = Static<typeof responseRequest>;
export type InputTokensRequest = Static<typeof inputTokensRequest>;
export type InputItemField = Static<typeof inputItem>;
export type RetrieveQuery = Static<typeof retrieveQuery>;
export type InputItemsQuery = Static<typeof inputItemsQuery>;
