// All open WebSockets, and how they end with the server.

import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import type { WebSocket } from 'ws';
import { ApiError } from '../errors.ts';
import { type Conversation, JsonSocket } from './json-socket.ts';

/** Requests that run at once on one socket. */
const maxRequests = 16;
/** For a reader to answer the end with its own. */
const closeTimeoutMs = 500;

export interface SocketsLimits {
  pingIntervalMs: number;
  maxSockets: number;
  /** Of one owner. */
  maxSocketsOfOne: number;
}

export class Sockets {
  readonly #limits: SocketsLimits;
  /** With their owners. */
  readonly #open = new Map<JsonSocket, string>();
  #isDraining = false;

  constructor(limits: SocketsLimits) {
    this.#limits = limits;
  }

  /** Throws when the owner may open no other now. */
  admit(owner: string): void {
    const { maxSockets, maxSocketsOfOne } = this.#limits;
    const numOfOne = [...this.#open.values()].filter((other) => other === owner).length;
    if (this.#open.size >= maxSockets) refuse(`${maxSockets} WebSockets are open`);
    if (numOfOne >= maxSocketsOfOne) refuse(`this key has ${maxSocketsOfOne} WebSockets open`);
  }

  /** Talks over a socket from its first message to its end. */
  open(
    socket: WebSocket,
    owner: string,
    logger: FastifyBaseLogger,
    conversation: (json: JsonSocket) => Conversation,
  ): void {
    const limits = { pingIntervalMs: this.#limits.pingIntervalMs, maxRequests };
    const json = new JsonSocket(socket, limits, logger, conversation);
    this.#open.set(json, owner);
    socket.once('close', () => this.#open.delete(json));
    if (this.#isDraining) json.drain();
  }

  /** What runs goes on, and then its socket closes. */
  drain(): void {
    this.#isDraining = true;
    for (const json of this.#open.keys()) json.drain();
  }
}

function refuse(why: string): never {
  throw new ApiError('too_many_websockets', `${why}, no more may be (--max-websockets): try again later`);
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
