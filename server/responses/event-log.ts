// The events of a background response, kept while it runs so that streams may begin anywhere in it, and
// several at once.

import type { ResponseEvent } from './response-run.ts';

export class EventLog {
  readonly events: ResponseEvent[] = [];
  #isOver = false;
  #waiting: Array<() => void> = [];

  push(events: readonly ResponseEvent[]): void {
    for (const event of events) this.events.push(event);
    this.#wake();
  }

  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  /** Events with larger numbers than `after`, those there are and those that come; -1 is all. */
  async *follow(after: number): AsyncGenerator<ResponseEvent[]> {
    // An event's number is its place in the list.
    let next = after + 1;
    for (;;) {
      if (next < this.events.length) {
        const events = this.events.slice(next);
        next = this.events.length;
        yield events;
      } else if (this.#isOver) return;
      else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}
