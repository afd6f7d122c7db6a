// One WebSocket that speaks JSON: messages in, events out. A slow reader is waited for, a silent one is let
// go, and so many requests run at once.

import type { FastifyBaseLogger } from 'fastify';
import type { RawData, WebSocket } from 'ws';
import { ApiError } from '../errors.ts';
import { knownError } from '../known-error.ts';
import { checkNesting } from '../nesting.ts';
import { shown } from '../validation.ts';

export type Message = Record<string, unknown> & { type: string };

/** What a kind of socket makes of messages. */
export interface Conversation {
  /** Throws ApiError for what it cannot be. */
  onMessage(message: Message): void;
  /** How it says so. `message` is null when there was no telling what it is. */
  errorEvent(error: ApiError, message: Message | null): object;
}

export interface SocketLimits {
  /** Silence after which the other end is asked whether it is there, in ms. */
  pingIntervalMs: number;
  /** Requests that may run at once. */
  maxRequests: number;
}

/** Bytes that wait to be read before more are made. */
const highWaterBytes = 256 * 1024;
/** Bytes that wait to be read when another message comes: who only writes is let go. */
const maxUnreadBytes = 8 * 1024 * 1024;
/** Pings without any sign of life. */
const maxSilentPings = 12;

export class JsonSocket {
  readonly #socket: WebSocket;
  readonly #limits: SocketLimits;
  readonly #logger: FastifyBaseLogger;
  readonly #conversation: Conversation;
  readonly #requests = new Set<AbortController>();
  readonly #pingTimer: NodeJS.Timeout;
  #numSilentPings = 0;
  #waiting: Array<() => void> = [];
  #isDraining = false;

  constructor(
    socket: WebSocket,
    limits: SocketLimits,
    logger: FastifyBaseLogger,
    conversation: (socket: JsonSocket) => Conversation,
  ) {
    this.#socket = socket;
    this.#limits = limits;
    this.#logger = logger;
    this.#conversation = conversation(this);
    this.#pingTimer = setInterval(() => this.#ping(), limits.pingIntervalMs);
    this.#pingTimer.unref();
    socket.on('message', (data, isBinary) => this.#receive(data, isBinary));
    socket.on('pong', () => this.#heard());
    socket.on('close', () => this.#closed());
  }

  get isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN;
  }

  /** Sends one event. A promise says that the reader is behind; it resolves when there is room, or nobody. */
  send(event: object): Promise<void> | void {
    if (!this.isOpen) return;
    this.#socket.send(JSON.stringify(event), () => this.#flushed());
    if (this.#socket.bufferedAmount > highWaterBytes) {
      return new Promise((resolve) => this.#waiting.push(resolve));
    }
  }

  sendError(error: unknown, message: Message | null): void {
    this.send(this.#conversation.errorEvent(this.#asApiError(error), message));
  }

  /**
   * Runs what a message asks for beside what runs already; its errors become events. The signal fires when
   * the socket closes. Throws queue_full.
   */
  request(message: Message, run: (signal: AbortSignal) => Promise<void>): void {
    const { maxRequests } = this.#limits;
    if (this.#requests.size >= maxRequests) {
      throw new ApiError('queue_full', `${maxRequests} requests run on this socket already, no more may`);
    }
    const controller = new AbortController();
    this.#requests.add(controller);
    run(controller.signal)
      .catch((error) => this.sendError(error, message))
      .finally(() => {
        this.#requests.delete(controller);
        this.#closeWhenDrained();
      });
  }

  /** What runs goes on, and then the socket closes. */
  drain(): void {
    this.#isDraining = true;
    this.#closeWhenDrained();
  }

  #closeWhenDrained(): void {
    if (this.#isDraining && this.#requests.size === 0)
      this.#socket.close(1001, 'the server is shutting down');
  }

  #receive(data: RawData, isBinary: boolean): void {
    this.#heard();
    if (this.#socket.bufferedAmount > maxUnreadBytes) {
      this.#socket.close(1008, 'events are not read, and more is asked for');
      return;
    }
    let message: Message | null = null;
    try {
      message = parsed(data, isBinary);
      this.#conversation.onMessage(message);
    } catch (error) {
      this.sendError(error, message);
    }
    this.#closeWhenDrained();
  }

  #asApiError(error: unknown): ApiError {
    const known = knownError(error);
    if (known !== null) return known;
    this.#logger.error({ err: error }, 'request on a socket failed');
    return new ApiError('internal_error', "internal error, see the server's log");
  }

  #heard(): void {
    this.#numSilentPings = 0;
  }

  #ping(): void {
    if (this.#numSilentPings++ >= maxSilentPings) this.#socket.terminate();
    else if (this.isOpen) this.#socket.ping();
  }

  /** Something was read, or nobody is there any more. */
  #flushed(): void {
    this.#heard();
    if (this.isOpen && this.#socket.bufferedAmount > highWaterBytes) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  #closed(): void {
    clearInterval(this.#pingTimer);
    for (const controller of this.#requests) controller.abort();
    this.#flushed();
  }
}

function parsed(data: RawData, isBinary: boolean): Message {
  if (isBinary) throw new ApiError('malformed_json', 'the message is binary, expected JSON as text');
  let value: unknown;
  try {
    value = JSON.parse(data.toString());
  } catch (error) {
    throw new ApiError('malformed_json', `the message is not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ApiError('malformed_json', `the message: found ${shown(value)}, expected a JSON object`);
  checkNesting(value, null);
  const { type } = value as Partial<Message>;
  if (typeof type !== 'string')
    throw new ApiError('invalid_value', `type: found ${shown(type)}, expected the name of an event`, 'type');
  return value as Message;
}

/** A message of a kind that does not exist. */
export function unknownType(type: string, known: readonly string[]): ApiError {
  const list = known.map((name) => JSON.stringify(name)).join(', ');
  return new ApiError('unsupported_value', `type: found ${shown(type)}, supported: ${list}`, 'type');
}
