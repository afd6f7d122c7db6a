// The messages of a request as the chat template expects them.

import type { ChatMessage, ChatPrompt } from '../engine/engine.ts';
import { ApiError } from './errors.ts';
import type { ChatRequest, MessageField, ToolField } from './schemas.ts';

/** `tools` are those that the template shows; none is as if the request had no field. */
export function toChatPrompt(body: ChatRequest, tools: readonly ToolField[]): ChatPrompt {
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
    messages: toTemplateMessages(body.messages),
    tools: tools.length > 0 ? [...tools] : undefined,
    documents: body.documents ?? undefined,
    addGenerationPrompt,
    continueFinalMessage,
    templateVariables: body.chat_template_kwargs ?? undefined,
    addSpecialTokens: body.add_special_tokens ?? false,
  };
}

/** Content parts become one text, and OpenAI's newer `developer` the `system` that templates know. */
export function toTemplateMessages(messages: readonly MessageField[]): ChatMessage[] {
  return messages.map((message, i) => {
    const field = `messages.${i}.content`;
    const parts = message.content;
    if (parts == null && message.role !== 'assistant') {
      throw new ApiError(
        'invalid_value',
        `${field}: found nothing, allowed: a string or a list of text parts`,
        field,
      );
    }
    return {
      ...message,
      role: message.role === 'developer' ? 'system' : message.role,
      content: contentText(parts, field),
      ...templateToolCalls(message, `messages.${i}`),
    };
  });
}

/** A message's content as one text: parts are joined by newlines, nothing is ''. `field` is for errors. */
export function contentText(content: MessageField['content'], field: string): string {
  if (!Array.isArray(content)) return content ?? '';
  return content.map((part, i) => textOf(part, `${field}.${i}`)).join('\n');
}

function textOf(part: { type: string; text?: string | null }, field: string): string {
  if (part.type === 'text' && typeof part.text === 'string') return part.text;
  const found =
    part.type === 'text' ? 'a text part without text' : `a part of type ${JSON.stringify(part.type)}`;
  throw new ApiError(
    'unsupported_value',
    `${field}: found ${found}, supported: {"type": "text", "text": ...}`,
    field,
  );
}

/** Arguments as an object. Throws invalid_value when they are not the text of one. */
function templateToolCalls(message: MessageField, field: string): object {
  if (message.tool_calls == null || message.tool_calls.length === 0) return {};
  const calls = message.tool_calls.map((call, i) => {
    const where = `${field}.tool_calls.${i}.function.arguments`;
    return {
      ...call,
      function: { ...call.function, arguments: argumentsOf(call.function.arguments, where) },
    };
  });
  return { tool_calls: calls };
}

function argumentsOf(text: string, field: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text === '' ? '{}' : text);
  } catch {
    value = null;
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  const found = JSON.stringify(text.slice(0, 60));
  throw new ApiError('invalid_value', `${field}: found ${found}, allowed: a JSON object as text`, field);
}
