// What an answer consists of -> the items of a response, and the events of a stream that say how they grow.
// Both come from here, so a stream says what a whole response says.

import type { AnswerEvent } from '../answer/events.ts';
import {
  type CallItem,
  type ItemStatus,
  type MessageItem,
  newItemId,
  type OutputItem,
  type ReasoningItem,
  type TextPart,
} from './input-items.ts';

/** An event but for its number in the stream. */
export interface OutputEvent {
  type: string;
  [field: string]: unknown;
}

/** A text grows in one part of one item; each kind has its own names for that. */
interface TextShape {
  events: { partAdded: string; delta: string; done: string; partDone: string };
  indexName: 'content_index' | 'summary_index';
  newItem(): MessageItem | ReasoningItem;
  part(text: string): TextPart;
}

const contentEvents = (name: string) => ({
  partAdded: 'response.content_part.added',
  delta: `response.${name}.delta`,
  done: `response.${name}.done`,
  partDone: 'response.content_part.done',
});

const newReasoning = (): ReasoningItem => ({
  id: newItemId('reasoning'),
  type: 'reasoning',
  status: 'in_progress',
  summary: [],
  content: [],
});

const shapes = {
  content: {
    events: contentEvents('output_text'),
    indexName: 'content_index',
    newItem: () => ({
      id: newItemId('message'),
      type: 'message',
      status: 'in_progress',
      role: 'assistant',
      content: [],
    }),
    part: (text) => ({ type: 'output_text', text, annotations: [], logprobs: [] }),
  },
  reasoning: {
    events: contentEvents('reasoning_text'),
    indexName: 'content_index',
    newItem: newReasoning,
    part: (text) => ({ type: 'reasoning_text', text }),
  },
  summary: {
    events: {
      partAdded: 'response.reasoning_summary_part.added',
      delta: 'response.reasoning_summary_text.delta',
      done: 'response.reasoning_summary_text.done',
      partDone: 'response.reasoning_summary_part.done',
    },
    indexName: 'summary_index',
    newItem: newReasoning,
    part: (text) => ({ type: 'summary_text', text }),
  },
} as const satisfies Record<string, TextShape>;

type OpenText = { kind: keyof typeof shapes; item: MessageItem | ReasoningItem; part: TextPart };
type OpenCall = { kind: 'call'; item: CallItem };

export class OutputWriter {
  readonly items: OutputItem[] = [];
  readonly #reasoningKind: 'reasoning' | 'summary';
  #open: OpenText | OpenCall | null = null;
  #events: OutputEvent[] = [];

  /** `summarises`: reasoning goes to the place where clients look for its summary. */
  constructor(summarises: boolean) {
    this.#reasoningKind = summarises ? 'summary' : 'reasoning';
  }

  /** The events since the last call. */
  take(): OutputEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** `logprobs` are those of a content's tokens; `status` is what a call has that ends here. */
  write(event: AnswerEvent, logprobs: readonly object[], status: ItemStatus = 'completed'): void {
    switch (event.type) {
      case 'content':
        this.#text('content', event.text, logprobs);
        break;
      case 'reasoning':
        this.#text(this.#reasoningKind, event.text, []);
        break;
      case 'call':
        this.#beginCall(event.id, event.name);
        break;
      case 'arguments':
        this.#arguments(event.text);
        break;
      case 'callEnd':
        this.#close(status);
        break;
    }
  }

  /** Nothing follows. An answer of nothing is a message without text. */
  finish(status: ItemStatus): void {
    if (this.items.length === 0) this.#beginText('content');
    this.#close(status);
  }

  get #outputIndex(): number {
    return this.items.length - 1;
  }

  #emit(type: string, fields: object): void {
    this.#events.push({ type, output_index: this.#outputIndex, ...fields });
  }

  #begin(item: OutputItem): void {
    this.#close('completed');
    this.items.push(item);
    this.#emit('response.output_item.added', { item: structuredClone(item) });
  }

  #beginText(kind: keyof typeof shapes): OpenText {
    const { newItem, part: newPart, events, indexName } = shapes[kind];
    const item = newItem();
    this.#begin(item);
    const part = newPart('');
    // The cast: a message has text parts among others, a summary none but its own.
    const parts = (kind === 'summary' ? (item as ReasoningItem).summary : item.content) as TextPart[];
    parts.push(part);
    this.#emit(events.partAdded, { item_id: item.id, [indexName]: 0, part: structuredClone(part) });
    const open = { kind, item, part };
    this.#open = open;
    return open;
  }

  #text(kind: keyof typeof shapes, text: string, logprobs: readonly object[]): void {
    const open = this.#open?.kind === kind ? (this.#open as OpenText) : this.#beginText(kind);
    const { events, indexName } = shapes[kind];
    open.part.text += text;
    open.part.logprobs?.push(...logprobs);
    const more = kind === 'content' ? { logprobs } : {};
    this.#emit(events.delta, { item_id: open.item.id, [indexName]: 0, delta: text, ...more });
  }

  #beginCall(callId: string, name: string): void {
    const item: CallItem = {
      id: newItemId('function_call'),
      type: 'function_call',
      status: 'in_progress',
      call_id: callId,
      name,
      arguments: '',
    };
    this.#begin(item);
    this.#open = { kind: 'call', item };
  }

  #arguments(text: string): void {
    const { item } = this.#open as OpenCall;
    item.arguments += text;
    this.#emit('response.function_call_arguments.delta', { item_id: item.id, delta: text });
  }

  #close(status: ItemStatus): void {
    const open = this.#open;
    if (open === null) return;
    this.#open = null;
    const { item } = open;
    item.status = status;
    if (open.kind === 'call') {
      const { name, arguments: given } = open.item;
      const type = 'response.function_call_arguments.done';
      this.#emit(type, { item_id: item.id, name, arguments: given });
    } else {
      const { events, indexName } = shapes[open.kind];
      const { text, logprobs } = open.part;
      const more = open.kind === 'content' ? { logprobs } : {};
      this.#emit(events.done, { item_id: item.id, [indexName]: 0, text, ...more });
      this.#emit(events.partDone, { item_id: item.id, [indexName]: 0, part: open.part });
    }
    this.#emit('response.output_item.done', { item });
  }
}
