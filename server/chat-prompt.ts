// The messages of a request as the chat template expects them.

import type { ChatMessage, ChatPrompt } from '../engine/engine.ts';
import type { ToolFormat } from './answer/tool-formats.ts';
import { templateCalls } from './chat-tools.ts';
import { ApiError } from './errors.ts';
import type { ChatRequest, MessageField, ToolCallField, ToolField } from './schemas.ts';

/** Of a request, what its prompt is made from. */
type PromptFields = Pick<
  ChatRequest,
  | 'messages'
  | 'documents'
  | 'add_generation_prompt'
  | 'continue_final_message'
  | 'add_special_tokens'
  | 'chat_template_kwargs'
  | 'reasoning_effort'
  | 'verbosity'
>;

/** `tools` are those that the template shows; none is as if the request had no field. */
export function toChatPrompt(
  body: PromptFields,
  tools: readonly ToolField[],
  callIds: ToolFormat['callIds'],
): ChatPrompt {
  const continueFinalMessage = body.continue_final_message ?? false;
  const addGenerationPrompt = body.add_generation_prompt ?? !continueFinalMessage;
  if (continueFinalMessage && addGenerationPrompt) {
    const field = 'continue_final_message';
    throw new ApiError(
      'invalid_value',
      `${field}: found true, allowed: false while add_generation_prompt is true`,
      field,
    );
  }
  return {
    messages: toTemplateMessages(body.messages, callIds),
    tools: tools.length > 0 ? [...tools] : undefined,
    documents: body.documents ?? undefined,
    addGenerationPrompt,
    continueFinalMessage,
    templateVariables: templateVariables(body),
    addSpecialTokens: body.add_special_tokens ?? false,
  };
}

/**
 * reasoning_effort under the names that templates know: gpt-oss' own, and Qwen's and DeepSeek's switches. What
 * chat_template_kwargs say goes before.
 */
function templateVariables(body: PromptFields): Record<string, unknown> {
  const { reasoning_effort: effort, verbosity, chat_template_kwargs: given } = body;
  return {
    ...(effort == null ? {} : { reasoning_effort: effort }),
    ...(effort === 'none' ? { enable_thinking: false, thinking: false } : {}),
    ...(verbosity == null ? {} : { verbosity }),
    ...given,
  };
}

/** Content parts become one text, and OpenAI's newer `developer` the `system` that templates know. */
function toTemplateMessages(
  messages: readonly MessageField[],
  callIds: ToolFormat['callIds'],
): ChatMessage[] {
  const called = new Map(
    messages.flatMap(({ tool_calls: calls }) => calls ?? []).map((call) => [call.id, call]),
  );
  return messages.map((message, i) => {
    const field = `messages.${i}.content`;
    const parts = message.content;
    if (parts == null && message.role !== 'assistant' && message.role !== 'function') {
      throw new ApiError(
        'invalid_value',
        `${field}: found nothing, allowed: a string or a list of text parts`,
        field,
      );
    }
    return {
      ...ownFields(message),
      role: message.role === 'developer' ? 'system' : message.role,
      content: contentText(parts, field),
      ...templateReasoning(message),
      ...templateCalls(message, `messages.${i}`, callIds),
      ...resultName(message, called.get(message.tool_call_id ?? '')),
    };
  });
}

/** Whose result a message is: some templates show it, and clients leave it to the id. */
function resultName(message: MessageField, call: ToolCallField | undefined): object {
  return message.role === 'tool' && message.name == null && call !== undefined
    ? { name: call.function.name }
    : {};
}

/** What templates ask for by `in` or `is defined` must be absent where it is nothing; calls are converted. */
function ownFields(message: MessageField): object {
  const { tool_calls: _calls, function_call: _call, ...fields } = message;
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value != null));
}

/** Earlier reasoning under both names, since templates know one or the other. */
function templateReasoning({ reasoning, reasoning_content: older }: MessageField): object {
  const text = reasoning ?? older;
  return text == null ? {} : { reasoning: text, reasoning_content: text };
}

/** A message's content as one text: parts are joined by newlines, nothing is ''. `field` is for errors. */
export function contentText(content: MessageField['content'], field: string): string {
  if (!Array.isArray(content)) return content ?? '';
  return content.map((part, i) => textOf(part, `${field}.${i}`)).join('\n');
}

type ContentPart = Extract<MessageField['content'], readonly unknown[]>[number];

function textOf(part: ContentPart, field: string): string {
  if (part.type === 'text' && typeof part.text === 'string') return part.text;
  if (part.type === 'refusal' && typeof part.refusal === 'string') return part.refusal;
  const found =
    part.type === 'text' ? 'a text part without text' : `a part of type ${JSON.stringify(part.type)}`;
  throw new ApiError(
    'unsupported_value',
    `${field}: found ${found}, supported: {"type": "text", "text": ...}`,
    field,
  );
}
