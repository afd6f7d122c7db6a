// What an answer consists of, in order. Chunks, whole answers and every other route's output are made from
// these events and from nothing else, so a stream says what a whole answer says.

import { randomBytes } from 'node:crypto';

export type AnswerEvent =
  | { type: 'reasoning'; text: string }
  | { type: 'content'; text: string }
  /** A call begins; its whole name. The calls of an answer are numbered by `index`, from 0. */
  | { type: 'call'; index: number; id: string; name: string }
  /** A piece of the open call's arguments, a JSON text; together at least "{}" when the call is complete. */
  | { type: 'arguments'; index: number; text: string }
  | { type: 'callEnd'; index: number };

/** Clients know a call by it for the rest of the conversation. */
const callId = () => `call_${randomBytes(12).toString('hex')}`;
/** Templates of Mistral's refuse any other form. */
const shortCallId = () => randomBytes(5).toString('hex').slice(0, 9);

/** Parameter schemas of a request's tools, by tool name. */
export type ToolSchemas = ReadonlyMap<string, Record<string, unknown>>;

export interface WriterOptions {
  /** A call without a mark must name one of them to be one. */
  tools: ToolSchemas;
  /** parallel_tool_calls is false: calls after the first are left out. */
  onlyOneCall: boolean;
  callIds: 'long' | 'short';
}

/**
 * Grammars write here. White space beside calls and reasoning is layout and goes; everything else comes out
 * as
 * it went in.
 */
export class EventWriter {
  readonly #options: WriterOptions;
  #events: AnswerEvent[] = [];
  /**
   * White space at the end of the current text, that is layout if a call or the end of the reasoning
   * follows.
   */
  #space = '';
  /** What was dropped at the end of the reasoning. */
  #spaceAtEnd = '';
  /** White space that comes next is layout. */
  #dropsSpace = false;
  #numCalls = 0;
  /** Of the open call; null when none is open. */
  #argumentsLength: number | null = null;
  #hasContent = false;
  #hasReasoning = false;
  /** Where reasoning stands in the answer, in characters; the last may be open. */
  readonly #reasoned: Array<{ from: number; to: number | null }> = [];

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  /** The events since the last call. */
  take(): AnswerEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  isTool(name: string): boolean {
    return this.#options.tools.has(name);
  }

  content(text: string): void {
    if (this.#write('content', text)) this.#hasContent = true;
  }

  reasoning(text: string): void {
    if (this.#write('reasoning', text)) this.#hasReasoning = true;
  }

  /** What is reasoned from here on is a text of its own. `at` counts characters of the answer. */
  beginReasoning(at: number): void {
    this.#layout();
    this.#reasoned.push({ from: at, to: null });
    if (this.#hasReasoning) this.#events.push({ type: 'reasoning', text: '\n' });
  }

  endReasoning(at: number): void {
    this.#spaceAtEnd = this.#space;
    this.#layout();
    this.#reasoned[this.#reasoned.length - 1].to = at;
  }

  /** White space that comes next is part of the text. */
  keepSpace(): void {
    this.#dropsSpace = false;
  }

  /** What seemed to end the reasoning is part of it. */
  resumeReasoning(text: string): void {
    this.#reasoned[this.#reasoned.length - 1].to = null;
    this.#dropsSpace = false;
    this.reasoning(this.#spaceAtEnd + text);
  }

  /** The character of the answer at this place is one of its reasoning. */
  isReasoned(at: number): boolean {
    return this.#reasoned.some(({ from, to }) => from <= at && (to === null || at < to));
  }

  /** What is said from here on is a text of its own. */
  beginContent(): void {
    this.#layout();
    if (this.#hasContent) this.#events.push({ type: 'content', text: '\n' });
  }

  beginCall(name: string): void {
    this.#layout();
    const index = this.#numCalls++;
    this.#argumentsLength = 0;
    const id = this.#options.callIds === 'short' ? shortCallId() : callId();
    this.#emitCall({ type: 'call', index, id, name });
  }

  arguments(text: string): void {
    if (text === '') return;
    this.#argumentsLength = (this.#argumentsLength ?? 0) + text.length;
    this.#emitCall({ type: 'arguments', index: this.#numCalls - 1, text });
  }

  /** The open call is complete. */
  endCall(): void {
    if (this.#argumentsLength === 0) this.arguments('{}');
    this.#argumentsLength = null;
    this.#emitCall({ type: 'callEnd', index: this.#numCalls - 1 });
  }

  wholeCall(name: string, text: string): void {
    this.beginCall(name);
    this.arguments(text);
    this.endCall();
  }

  /** The end of the answer. A call that is open stays as incomplete as it is. */
  finish(): void {
    if (this.#space !== '') this.#events.push({ type: 'content', text: this.#space });
    if (this.#argumentsLength !== null) {
      this.#emitCall({ type: 'callEnd', index: this.#numCalls - 1 });
    }
    this.#layout();
  }

  #layout(): void {
    this.#space = '';
    this.#dropsSpace = true;
  }

  #emitCall(event: AnswerEvent & { index: number }): void {
    if (event.index === 0 || !this.#options.onlyOneCall) this.#events.push(event);
  }

  /** True when text came out. */
  #write(type: 'content' | 'reasoning', given: string): boolean {
    const text = this.#dropsSpace ? given.trimStart() : given;
    const end = text.trimEnd();
    if (end === '') {
      this.#space += text;
      return false;
    }
    this.#dropsSpace = false;
    this.#events.push({ type, text: this.#space + end });
    this.#space = text.slice(end.length);
    return true;
  }
}
