// The events of a response in the words of the Realtime API.

import type { Item, TextPart } from '../responses/input-items.ts';
import type { ResponseObject } from '../responses/response-object.ts';
import type { ResponseEvent } from '../responses/response-run.ts';

export interface RealtimeEvent {
  type: string;
  [field: string]: unknown;
}

/** What a response is part of, and what it was asked with. */
export interface RealtimeContext {
  /** Null for a response beside the conversation. */
  conversationId: string | null;
  maxOutputTokens: number | 'inf';
  metadata: object | null;
}

export const realtimeItem = (item: object) => ({ object: 'realtime.item', ...item });

export class RealtimeEvents {
  readonly #context: RealtimeContext;
  readonly #responseId: string;
  /** Of calls, by item; their events carry it. */
  readonly #callIds = new Map<string, string>();

  constructor(context: RealtimeContext, responseId: string) {
    this.#context = context;
    this.#responseId = responseId;
  }

  /** None, one, or two where an item enters the conversation. */
  translate({ sequence_number: _, ...event }: ResponseEvent): RealtimeEvent[] {
    const ours = { ...event, response_id: this.#responseId };
    switch (event.type) {
      case 'response.created':
        return [this.#life('response.created', event.response)];
      case 'response.queued':
      case 'response.in_progress':
        return [];
      case 'response.completed':
      case 'response.incomplete':
      case 'response.failed':
        return [this.#life('response.done', event.response)];
      case 'response.output_item.added':
      case 'response.output_item.done':
        return this.#item(ours, event.item as Item);
      case 'response.content_part.added':
      case 'response.content_part.done':
        return [{ ...ours, part: realtimePart(event.part as TextPart) }];
      case 'response.output_text.delta':
      case 'response.output_text.done':
        return [{ ...ours, logprobs: undefined }];
      case 'response.function_call_arguments.delta':
      case 'response.function_call_arguments.done':
        return [{ ...ours, call_id: this.#callIds.get(event.item_id as string) }];
      default:
        return [ours];
    }
  }

  #item(event: RealtimeEvent, item: Item): RealtimeEvent[] {
    if (item.type === 'function_call') this.#callIds.set(item.id, item.call_id);
    const told = { ...event, item: realtimeItem(item) };
    if (this.#context.conversationId === null) return [told];
    const step = event.type.split('.').at(-1);
    return [told, { type: `conversation.item.${step}`, item: realtimeItem(item) }];
  }

  #life(type: string, response: unknown): RealtimeEvent {
    return { type, response: this.#response(response as ResponseObject) };
  }

  #response(response: ResponseObject): object {
    const { conversationId, maxOutputTokens, metadata } = this.#context;
    return {
      id: response.id,
      object: 'realtime.response',
      status: response.status,
      status_details: statusDetails(response),
      output: response.output.map(realtimeItem),
      conversation_id: conversationId,
      output_modalities: ['text'],
      max_output_tokens: maxOutputTokens,
      usage: realtimeUsage(response),
      metadata,
    };
  }
}

/** The Realtime API calls a part of text `text`; one of reasoning keeps its name. */
function realtimePart({ type, text }: TextPart): object {
  return { type: type === 'output_text' ? 'text' : type, text };
}

function statusDetails({ status }: ResponseObject): object | null {
  switch (status) {
    case 'cancelled':
      return { type: status, reason: 'client_cancelled' };
    case 'incomplete':
      return { type: status, reason: 'max_output_tokens' };
    case 'failed':
      return { type: status, error: { type: 'server_error', code: 'server_error' } };
    default:
      return null;
  }
}

function realtimeUsage({ usage }: ResponseObject): object | null {
  if (usage === null) return null;
  const { input_tokens, output_tokens, total_tokens, input_tokens_details } = usage;
  return {
    total_tokens,
    input_tokens,
    output_tokens,
    input_token_details: { text_tokens: input_tokens, audio_tokens: 0, ...input_tokens_details },
    output_token_details: { text_tokens: output_tokens, audio_tokens: 0 },
  };
}
