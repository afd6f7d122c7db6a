// One server-sent-event response: headers at once, a comment now and then while nothing else is said,
// back-pressure that gives up when the client is gone.

import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';

export class SseStream {
  readonly #raw: ServerResponse;
  readonly #pingTimer: NodeJS.Timeout;
  #lastWriteMs = Date.now();
  #isOver = false;

  /**
   * Takes the response over from Fastify. pingIntervalMs is wall-clock silence after which a comment goes
   * out.
   */
  constructor(reply: FastifyReply, pingIntervalMs: number) {
    reply.hijack();
    this.#raw = reply.raw;
    this.#raw.writeHead(200, {
      ...(reply.getHeaders() as Record<string, string>),
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
    });
    this.#raw.flushHeaders();
    this.#raw.on('close', () => this.#finish());
    this.#pingTimer = setInterval(() => this.#ping(pingIntervalMs), Math.max(10, pingIntervalMs / 2));
    this.#pingTimer.unref();
  }

  /** The client is gone, or the end was written. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Sends whole events. Resolves when the client has room for more, or is gone. */
  write(events: string): Promise<void> | void {
    if (this.#isOver) return;
    this.#lastWriteMs = Date.now();
    if (!this.#raw.write(events)) return this.#drained();
  }

  end(events: string): void {
    if (this.#isOver) return;
    this.#finish();
    this.#raw.end(events);
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        for (const event of ['drain', 'close', 'error']) this.#raw.off(event, done);
        resolve();
      };
      for (const event of ['drain', 'close', 'error']) this.#raw.on(event, done);
    });
  }

  #ping(intervalMs: number): void {
    if (this.#isOver || Date.now() - this.#lastWriteMs < intervalMs) return;
    this.#lastWriteMs = Date.now();
    this.#raw.write(': ping\n\n');
  }

  #finish(): void {
    this.#isOver = true;
    clearInterval(this.#pingTimer);
  }
}

/** One event with a JSON value. */
export function sseEvent(value: unknown): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

export const sseDone = 'data: [DONE]\n\n';
