// A request for a response as a chat request, and the errors of that chat in the words of the response's
// fields.

import { PromptError } from '../../engine/engine.ts';
import { toolNamed } from '../chat-tools.ts';
import { ApiError } from '../errors.ts';
import type { ChatRequest, ToolField } from '../schemas.ts';
import { shown } from '../validation.ts';
import type { Item } from './input-items.ts';
import { toMessages } from './prompt-messages.ts';
import { type ResponseRequest, sharedFields } from './schemas.ts';

/** Of OpenAI's fields those that change the answer and are not served here. */
const unsupported = ['conversation', 'prompt', 'moderation', 'context_management'] as const;

export function refuseUnsupportedFields(body: ResponseRequest): void {
  const fields = body as Record<string, unknown>;
  const field = unsupported.find((name) => fields[name] != null);
  if (field === undefined) return;
  throw new ApiError(
    'unsupported_value',
    `${field}: found ${shown(fields[field])}, supported: requests without it`,
    field,
  );
}

export function toChatRequest(body: ResponseRequest, items: readonly Item[]): ChatRequest {
  const shared = Object.fromEntries(sharedFields.map((name) => [name, body[name]]));
  const tools = chosenTools(body, (body.tools ?? []).map(toTool));
  return {
    ...shared,
    messages: toMessages(body.instructions ?? null, items),
    max_completion_tokens: body.max_output_tokens,
    tools,
    tool_choice: toToolChoice(body.tool_choice),
    parallel_tool_calls: body.parallel_tool_calls,
    response_format: toResponseFormat(body.text?.format),
    verbosity: body.text?.verbosity,
    reasoning_effort: body.reasoning?.effort,
    thinking_token_budget: body.thinking_token_budget,
    chat_template_kwargs: body.chat_template_kwargs,
    ...(wantsLogprobs(body) ? { logprobs: true, top_logprobs: body.top_logprobs ?? 0 } : {}),
  };
}

export function wantsLogprobs({ include, top_logprobs: top }: ResponseRequest): boolean {
  return include?.includes('message.output_text.logprobs') === true || (top ?? 0) > 0;
}

type ToolGiven = NonNullable<ResponseRequest['tools']>[number];

function toTool({ type, name, description, parameters, strict }: ToolGiven, i: number): ToolField {
  if (type !== 'function') {
    const field = `tools.${i}.type`;
    throw new ApiError(
      'unsupported_value',
      `${field}: found ${shown(type)}, supported: "function"; this server runs no tools of its own`,
      field,
    );
  }
  if (name == null || !/^[\w.:-]{1,256}$/.test(name)) {
    const field = `tools.${i}.name`;
    throw new ApiError(
      'invalid_value',
      `${field}: found ${shown(name)}, allowed: a string like ^[\\w.:-]+$`,
      field,
    );
  }
  return { type: 'function', function: { name, description, parameters, strict } };
}

/** `allowed_tools` names those of the tools that may be called this time. */
function chosenTools({ tool_choice: choice }: ResponseRequest, tools: ToolField[]): ToolField[] {
  if (typeof choice !== 'object' || choice?.type !== 'allowed_tools') return tools;
  return (choice.tools ?? []).map(({ name }, i) =>
    toolNamed(tools, name ?? '', `tool_choice.tools.${i}.name`),
  );
}

function toToolChoice(choice: ResponseRequest['tool_choice']): ChatRequest['tool_choice'] {
  if (choice == null || typeof choice === 'string') return choice;
  switch (choice.type) {
    case 'function':
      return { type: 'function', function: { name: choice.name ?? '' } };
    case 'allowed_tools':
      return choice.mode ?? 'auto';
    default:
      throw new ApiError(
        'unsupported_value',
        `tool_choice.type: found ${shown(choice.type)}, supported: "function", "allowed_tools"`,
        'tool_choice.type',
      );
  }
}

type Format = NonNullable<ResponseRequest['text']>['format'];

function toResponseFormat(format: Format): ChatRequest['response_format'] {
  if (format == null) return undefined;
  const { type, ...json } = format;
  switch (type) {
    case 'text':
    case 'json_object':
      return { type };
    case 'json_schema':
      return { type, json_schema: json };
    default:
      throw new ApiError(
        'unsupported_value',
        `text.format.type: found ${shown(type)}, supported: "text", "json_object", "json_schema"`,
        'text.format.type',
      );
  }
}

/** Where the fields of a chat come from. */
const origins: ReadonlyArray<readonly [chatField: RegExp, field: string]> = [
  [/^messages\b.*/, 'input'],
  [/^max_(completion_)?tokens$/, 'max_output_tokens'],
  [/^response_format(\.json_schema)?/, 'text.format'],
  [/^(tools\.\d+)\.function/, '$1'],
  [/^tool_choice\.function/, 'tool_choice'],
];

/** Asks something of the chat; its errors name this request's fields. */
export async function inOwnWords<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof PromptError) throw new ApiError('invalid_prompt', error.message, 'input');
    if (!(error instanceof ApiError) || error.param === null) throw error;
    const { param, message, errorName } = error;
    const origin = origins.find(([chatField]) => chatField.test(param));
    if (origin === undefined) throw error;
    const field = param.replace(...origin);
    const text = message.startsWith(param) ? field + message.slice(param.length) : message;
    throw new ApiError(errorName, text, field);
  }
}
