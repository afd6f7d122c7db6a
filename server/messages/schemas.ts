// What clients of Anthropic's Messages API may send. What the server has nothing to do with (cache_control,
// citations, betas) is ignored like every unknown field.

import Type, { type Static } from 'typebox';
import { flag, functionName, maxTextLength, maxTokenId, maybe, oneOf, schema, text } from '../schemas.ts';

const cacheControl = maybe(
  Type.Object(
    { type: text(100), ttl: maybe(text(100)) },
    { description: 'Taken, and without effect: prefixes are always cached.' },
  ),
);

const textBlock = Type.Object({
  type: text(100),
  text: maybe(text(maxTextLength)),
  cache_control: cacheControl,
});
const textBlocks = Type.Union([text(maxTextLength), Type.Array(textBlock, { maxItems: 10_000 })]);

/** Every kind of block in one: which fields a block needs follows from its type (chat-request.ts). */
const block = Type.Object({
  type: Type.String({
    maxLength: 100,
    description: 'text, tool_use, tool_result, thinking, redacted_thinking.',
  }),
  text: maybe(text(maxTextLength)),
  id: maybe(text(1000)),
  name: maybe(text(1000)),
  input: maybe(schema),
  tool_use_id: maybe(text(1000)),
  content: maybe(textBlocks),
  is_error: maybe(flag),
  thinking: maybe(text(maxTextLength)),
  signature: maybe(text(maxTextLength)),
  data: maybe(text(maxTextLength)),
  cache_control: cacheControl,
});

const message = Type.Object({
  role: oneOf('user', 'assistant', 'system'),
  content: Type.Union([text(maxTextLength), Type.Array(block, { maxItems: 10_000 })]),
});

const tool = Type.Object({
  type: maybe(Type.String({ maxLength: 100, description: 'custom.' })),
  name: functionName,
  description: maybe(text(100_000)),
  input_schema: maybe(schema),
  strict: maybe(flag),
  cache_control: cacheControl,
});

const toolChoice = Type.Object({
  type: oneOf('auto', 'any', 'tool', 'none'),
  name: maybe(text(1000)),
  disable_parallel_tool_use: maybe(flag),
});

const thinking = Type.Object({
  type: oneOf('enabled', 'adaptive', 'disabled'),
  budget_tokens: maybe(
    Type.Integer({
      minimum: 1,
      maximum: maxTokenId,
      description: 'Tokens of thinking at most; with "enabled".',
    }),
  ),
  display: maybe(oneOf('summarized', 'omitted')),
});

const outputFormat = Type.Object({ type: Type.Literal('json_schema'), schema });

/** What the prompt is made of; all that is counted. */
const prompt = {
  model: text(1000),
  messages: Type.Array(message, { minItems: 1, maxItems: 10_000 }),
  system: maybe(textBlocks),
  tools: maybe(Type.Array(tool, { maxItems: 512 })),
  tool_choice: maybe(toolChoice),
  thinking: maybe(thinking),
  output_config: maybe(
    Type.Object({
      format: maybe(outputFormat),
      effort: maybe(oneOf('low', 'medium', 'high', 'xhigh', 'max')),
    }),
  ),
  output_format: maybe(outputFormat),
  cache_control: cacheControl,
  speed: maybe(oneOf('standard', 'fast')),
  thread: maybe(
    Type.Object(
      { type: text(100), previous_message_id: maybe(text(1000)) },
      { description: 'Refused: every request brings its whole conversation. Clients then do.' },
    ),
  ),
  mcp_servers: maybe(
    Type.Array(Type.Unknown(), { maxItems: 0, description: 'None: the server calls nobody.' }),
  ),
};

export const countTokensRequest = Type.Object(prompt);

export const messagesRequest = Type.Object({
  ...prompt,
  max_tokens: Type.Integer({
    minimum: 1,
    maximum: maxTokenId,
    description: 'Output tokens at most; cut to what the context leaves.',
  }),
  temperature: maybe(Type.Number({ minimum: 0, maximum: 2, description: '0 is greedy.' })),
  top_p: maybe(Type.Number({ exclusiveMinimum: 0, maximum: 1 })),
  top_k: maybe(Type.Integer({ minimum: -1, maximum: maxTokenId, description: '0 and -1 are off.' })),
  stop_sequences: maybe(Type.Array(Type.String({ minLength: 1, maxLength: 1000 }), { maxItems: 16 })),
  stream: maybe(flag),
  metadata: maybe(Type.Object({ user_id: maybe(text(10_000)) })),
  service_tier: maybe(oneOf('auto', 'standard_only')),
});

export type MessagesRequest = Static<typeof messagesRequest>;
export type PromptRequest = Static<typeof countTokensRequest>;
export type MessageParam = PromptRequest['messages'][number];
export type Block = Static<typeof block>;
export type TextBlocks = Static<typeof textBlocks>;
