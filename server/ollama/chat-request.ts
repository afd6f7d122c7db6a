// Ollama's requests as the chat requests that they mean.

import { ApiError } from '../errors.ts';
import type { ChatRequest, MessageField, ToolCallField } from '../schemas.ts';
import { shown } from '../validation.ts';
import type { OllamaChatRequest, OllamaFields, OllamaGenerateRequest, OllamaMessage } from './schemas.ts';

/** `model`: the name as it is served. `reasons`: the model does. */
export function fromChat(body: OllamaChatRequest, model: string, reasons: boolean): ChatRequest {
  const messages = toMessages(body.messages ?? []);
  const last = messages.at(-1);
  const isBegun = last?.role === 'assistant' && last.content !== '' && last.tool_calls == null;
  return { ...toFields(body, model, reasons), messages, tools: body.tools, continue_final_message: isBegun };
}

export function fromGenerate(body: OllamaGenerateRequest, model: string, reasons: boolean): ChatRequest {
  const { system, prompt } = body;
  const messages: MessageField[] = [{ role: 'user', content: prompt ?? '' }];
  if (system != null && system !== '') messages.unshift({ role: 'system', content: system });
  return { ...toFields(body, model, reasons), messages };
}

/** Nothing is asked: Ollama's clients have the model loaded so. */
export function isLoad(body: OllamaChatRequest & OllamaGenerateRequest): boolean {
  return (body.messages ?? []).length === 0 && (body.prompt ?? '') === '';
}

function toFields(body: OllamaFields, model: string, reasons: boolean): Omit<ChatRequest, 'messages'> {
  const { options, logprobs, top_logprobs: topLogprobs } = body;
  return {
    model,
    max_tokens: (options?.num_predict ?? 0) > 0 ? options?.num_predict : undefined,
    temperature: options?.temperature,
    top_k: options?.top_k,
    top_p: options?.top_p,
    min_p: options?.min_p,
    seed: options?.seed === -1 ? undefined : options?.seed,
    stop: options?.stop,
    repetition_penalty: options?.repeat_penalty,
    presence_penalty: options?.presence_penalty,
    frequency_penalty: options?.frequency_penalty,
    logprobs,
    top_logprobs: topLogprobs,
    ...toThinking(body.think, reasons),
    ...toFormat(body.format),
  };
}

function toThinking(think: OllamaFields['think'], reasons: boolean): Partial<ChatRequest> {
  if (think == null) return {};
  if (think === false) return { reasoning_effort: 'none' };
  if (!reasons) {
    const message = `think: found ${shown(think)}, supported: models that reason (--reasoning-parser)`;
    throw new ApiError('unsupported_value', message, 'think');
  }
  return {
    reasoning_effort: think === true ? undefined : think,
    chat_template_kwargs: { enable_thinking: true, thinking: true },
  };
}

function toFormat(format: OllamaFields['format']): Partial<ChatRequest> {
  if (format == null || format === '') return {};
  if (typeof format === 'string') return { response_format: { type: 'json_object' } };
  return { response_format: { type: 'json_schema', json_schema: { schema: format } } };
}

/** Ollama's older clients know no ids: calls get some, and a result is that of the first call it fits. */
function toMessages(messages: readonly OllamaMessage[]): MessageField[] {
  const unanswered: ToolCallField[] = [];
  return messages.map((message, i) => {
    const { role, thinking } = message;
    const content = message.content ?? '';
    if (role === 'tool') return { ...toResult(message, unanswered), content };
    if (role !== 'assistant') return { role, content };
    const calls = (message.tool_calls ?? []).map(
      ({ id, function: { name, arguments: given } }, j): ToolCallField => ({
        id: id ?? `call_${i}_${j}`,
        type: 'function',
        function: { name, arguments: JSON.stringify(given ?? {}) },
      }),
    );
    unanswered.push(...calls);
    return {
      role,
      content,
      ...(thinking ? { reasoning: thinking } : {}),
      ...(calls.length === 0 ? {} : { tool_calls: calls }),
    };
  });
}

function toResult(
  { tool_name: name, tool_call_id: id }: OllamaMessage,
  unanswered: ToolCallField[],
): MessageField {
  const at = unanswered.findIndex((call) =>
    id == null ? name == null || call.function.name === name : call.id === id,
  );
  const [call] = at < 0 ? [] : unanswered.splice(at, 1);
  return { role: 'tool', tool_call_id: id ?? call?.id, name: name ?? call?.function.name };
}
