// Tool calls in answers: whole messages, and the deltas of a stream.

import { randomBytes } from 'node:crypto';
import type { ToolCallFormat, ToolEvent } from './tool-call-stream.ts';
import { ToolCallStream } from './tool-call-stream.ts';

export interface ToolCall {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

/** Clients know a call by it for the rest of the conversation. */
const callId = () => `call_${randomBytes(12).toString('hex')}`;

/** One choice's text, taken apart as it comes. Without a format everything is text. */
export class ToolAnswer {
  readonly #stream: ToolCallStream | null;
  readonly #onlyOne: boolean;
  #content = '';
  readonly #calls: ToolCall[] = [];

  /** onlyOne: parallel_tool_calls is false, so calls after the first are left out. */
  constructor(format: ToolCallFormat | null, onlyOne: boolean) {
    this.#stream = format === null ? null : new ToolCallStream(format);
    this.#onlyOne = onlyOne;
  }

  /** Text outside the calls so far; null when there is none beside calls. */
  get content(): string | null {
    return this.#content === '' && this.#calls.length > 0 ? null : this.#content;
  }

  /** Takes more text and returns the deltas it makes, in order. isLast: nothing follows. */
  push(text: string, isLast: boolean): object[] {
    if (this.#stream === null) {
      this.#content += text;
      return text === '' ? [] : [{ content: text }];
    }
    const events = this.#stream.push(text);
    if (isLast) events.push(...this.#stream.finish());
    return events.flatMap((event) => this.#delta(event));
  }

  #delta(event: ToolEvent): object[] {
    const index = this.#calls.length - 1;
    switch (event.type) {
      case 'text':
        this.#content += event.text;
        return [{ content: event.text }];
      case 'call': {
        this.#calls.push({ id: callId(), type: 'function', function: { name: event.name, arguments: '' } });
        if (this.#isLeftOut) return [];
        const call = this.#calls[index + 1];
        return [{ tool_calls: [{ index: index + 1, ...call, function: { ...call.function } }] }];
      }
      case 'arguments':
        this.#calls[index].function.arguments += event.text;
        return this.#isLeftOut ? [] : [{ tool_calls: [{ index, function: { arguments: event.text } }] }];
    }
  }

  get #isLeftOut(): boolean {
    return this.#onlyOne && this.#calls.length > 1;
  }

  /** The calls an answer shows. */
  get shownCalls(): readonly ToolCall[] {
    return this.#onlyOne ? this.#calls.slice(0, 1) : this.#calls;
  }
}
