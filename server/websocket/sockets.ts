// All open WebSockets, and how they end with the server.

import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import type { WebSocket } from 'ws';
import { type Conversation, JsonSocket } from './json-socket.ts';

/** Requests that run at once on one socket. */
const maxRequests = 16;
/** For a reader to answer the end with its own. */
const closeTimeoutMs = 500;

export class Sockets {
  readonly #pingIntervalMs: number;
  readonly #open = new Set<JsonSocket>();
  #isDraining = false;

  constructor(pingIntervalMs: number) {
    this.#pingIntervalMs = pingIntervalMs;
  }

  /** Talks over a socket from its first message to its end. */
  open(socket: WebSocket, logger: FastifyBaseLogger, conversation: (json: JsonSocket) => Conversation): void {
    const limits = { pingIntervalMs: this.#pingIntervalMs, maxRequests };
    const json = new JsonSocket(socket, limits, logger, conversation);
    this.#open.add(json);
    socket.once('close', () => this.#open.delete(json));
    if (this.#isDraining) json.drain();
  }

  /** What runs goes on, and then its socket closes. */
  drain(): void {
    this.#isDraining = true;
    for (const json of this.#open) json.drain();
  }
}

/** For the end of the server, which waits for every connection. */
export function closeClients(this: FastifyInstance, done: () => void): void {
  for (const client of this.websocketServer.clients) {
    client.close(1001, 'the server is shutting down');
    const timer = setTimeout(() => client.terminate(), closeTimeoutMs);
    client.once('close', () => clearTimeout(timer));
  }
  done();
}
