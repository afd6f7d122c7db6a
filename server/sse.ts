// Server-sent events. A comment is the sign of life.

import type { FastifyReply } from 'fastify';
import { ResponseStream } from './response-stream.ts';

export class SseStream extends ResponseStream {
  constructor(reply: FastifyReply, pingIntervalMs: number) {
    const contentType = 'text/event-stream; charset=utf-8';
    super(reply, { contentType, pingIntervalMs, ping: () => ': ping\n\n' });
  }
}

/** One event with a JSON value. */
export function sseEvent(value: unknown): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

export const sseDone = 'data: [DONE]\n\n';
