// /v1/responses over a WebSocket: each message asks for a response, and the events of several come interleaved,
// told apart by `stream_id`.

import { nowMs } from '../../engine/clock.ts';
import type { Caller } from '../caller.ts';
import { ApiError } from '../errors.ts';
import type { Item } from '../responses/input-items.ts';
import type { Responses, RunningResponse } from '../responses/responses.ts';
import type { ResponseRequest } from '../responses/schemas.ts';
import { checked, shown } from '../validation.ts';
import { type Conversation, type JsonSocket, type Message, unknownType } from './json-socket.ts';
import {
  type CancelMessage,
  type CreateMessage,
  responseTypes,
  validateCancel,
  validateCreate,
} from './response-schemas.ts';

/** Whose socket it is. */
export type SocketOwner = Pick<Caller, 'id' | 'owner' | 'keySalt'>;

/** A response on its way, from the message on that asks for it. */
interface Stream {
  /** The client's own, else the response's. */
  id: string | null;
  running: RunningResponse | null;
  isCancelled: boolean;
}

export class ResponseSocket implements Conversation {
  readonly #socket: JsonSocket;
  readonly #responses: Responses;
  readonly #owner: SocketOwner;
  readonly #streams = new Set<Stream>();
  #numRequests = 0;
  /** The newest response, to go on from even when it is not stored. */
  #newest: { id: string; items: Item[] } | null = null;

  constructor(socket: JsonSocket, responses: Responses, owner: SocketOwner) {
    this.#socket = socket;
    this.#responses = responses;
    this.#owner = owner;
  }

  onMessage(message: Message): void {
    switch (message.type) {
      case 'response.create':
        this.#create(message);
        break;
      case 'response.cancel':
        this.#cancel(message);
        break;
      default:
        throw unknownType(message.type, responseTypes);
    }
  }

  /** In the form of OpenAI's, with what tells the client which of its messages is meant. */
  errorEvent(error: ApiError, message: Message | null): object {
    const { message: text, param, code } = error.body.error;
    const { stream_id, event_id } = message ?? ({} as Partial<Message>);
    return {
      type: 'error',
      status: error.status,
      ...error.body,
      code,
      message: text,
      param,
      stream_id,
      event_id,
    };
  }

  #create(message: Message): void {
    const {
      type: _,
      event_id: _eventId,
      stream_id: streamId,
      generate,
      ...request
    } = checked<CreateMessage>(validateCreate, message);
    if (generate === false) {
      throw new ApiError(
        'unsupported_value',
        'generate: found false, supported: requests without it',
        'generate',
      );
    }
    const stream: Stream = { id: this.#newStreamId(streamId ?? null), running: null, isCancelled: false };
    this.#socket.request(message, async (signal) => {
      this.#streams.add(stream);
      try {
        await this.#run(stream, request, signal);
      } finally {
        this.#streams.delete(stream);
      }
    });
  }

  #newStreamId(given: string | null): string | null {
    const isFree = given === null || [...this.#streams].every(({ id }) => id !== given);
    if (isFree) return given;
    throw new ApiError(
      'invalid_value',
      `stream_id: found ${shown(given)}, which runs, allowed: a string of its own`,
      'stream_id',
    );
  }

  async #run(stream: Stream, request: ResponseRequest, signal: AbortSignal): Promise<void> {
    const { id, ...owner } = this.#owner;
    const caller = { id: `${id}-${this.#numRequests++}`, ...owner, arrivalMs: nowMs(), signal };
    const recall = (responseId: string) => (this.#newest?.id === responseId ? this.#newest.items : null);
    const running = await this.#responses.create(caller, request, recall);
    if (running === null) return;
    stream.running = running;
    stream.id ??= running.response.id;
    if (stream.isCancelled) running.cancel();
    for await (const events of running.events) {
      for (const event of events) {
        const room = this.#socket.send({ ...event, stream_id: stream.id });
        if (room !== undefined) await room;
      }
      if (signal.aborted) return;
    }
    this.#newest = { id: running.response.id, items: running.conversation() };
  }

  /** By `stream_id` or `response_id`. What is cancelled ends with an event of its own. */
  #cancel(message: Message): void {
    const { stream_id: streamId, response_id: responseId } = checked<CancelMessage>(validateCancel, message);
    const stream = [...this.#streams].find(
      ({ id, running }) =>
        (streamId != null && id === streamId) || (responseId != null && running?.response.id === responseId),
    );
    if (stream === undefined) {
      const field = responseId == null ? 'stream_id' : 'response_id';
      const found = shown(responseId ?? streamId);
      throw new ApiError('response_not_found', `${field}: found ${found}, which does not run here`, field);
    }
    stream.isCancelled = true;
    stream.running?.cancel();
  }
}
