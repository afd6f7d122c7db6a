// One response that is sent in pieces: headers at once, a sign of life now and then while nothing else is
// said, back-pressure that gives up when the client is gone.

import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';

export interface StreamKind {
  contentType: string;
  /** What goes out after so many ms (wall clock) of silence. */
  pingIntervalMs: number;
  ping(): string;
}

export class ResponseStream {
  readonly #raw: ServerResponse;
  readonly #kind: StreamKind;
  readonly #pingTimer: NodeJS.Timeout;
  #lastWriteMs = Date.now();
  #isOver = false;

  /** Takes the response over from Fastify. */
  constructor(reply: FastifyReply, kind: StreamKind) {
    this.#kind = kind;
    reply.hijack();
    this.#raw = reply.raw;
    this.#raw.writeHead(200, {
      ...(reply.getHeaders() as Record<string, string>),
      'content-type': kind.contentType,
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
    });
    this.#raw.flushHeaders();
    this.#raw.on('close', () => this.#finish());
    this.#pingTimer = setInterval(() => this.#ping(), Math.max(10, kind.pingIntervalMs / 2));
    this.#pingTimer.unref();
  }

  /** The client is gone, or the end was written. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Sends whole pieces. Resolves when the client has room for more, or is gone. */
  write(pieces: string): Promise<void> | void {
    if (this.#isOver) return;
    this.#lastWriteMs = Date.now();
    if (!this.#raw.write(pieces)) return this.#drained();
  }

  end(pieces: string): void {
    if (this.#isOver) return;
    this.#finish();
    this.#raw.end(pieces);
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

  #ping(): void {
    if (this.#isOver || Date.now() - this.#lastWriteMs < this.#kind.pingIntervalMs) return;
    this.#lastWriteMs = Date.now();
    this.#raw.write(this.#kind.ping());
  }

  #finish(): void {
    this.#isOver = true;
    clearInterval(this.#pingTimer);
  }
}
