// /v1/realtime: a session that holds a conversation of texts and answers when it is asked to.

import { randomBytes } from 'node:crypto';
import { nowMs } from '../../engine/clock.ts';
import { ApiError } from '../errors.ts';
import { type Item, readItem } from '../responses/input-items.ts';
import type { Responses, RunningResponse } from '../responses/responses.ts';
import type { ResponseRequest } from '../responses/schemas.ts';
import { checked, shown } from '../validation.ts';
import { type Conversation, type JsonSocket, type Message, unknownType } from './json-socket.ts';
import { RealtimeConversation } from './realtime-conversation.ts';
import { type RealtimeEvent, RealtimeEvents, realtimeItem } from './realtime-events.ts';
import {
  type AnsweringFields,
  answeringNames,
  type RealtimeMessages,
  type RealtimeResponseFields,
  realtimeTypes,
  realtimeValidators,
  type SessionFields,
} from './realtime-schemas.ts';
import type { SocketOwner } from './response-socket.ts';

const newId = (prefix: string) => `${prefix}_${randomBytes(12).toString('hex')}`;

/** A response that was asked for, from its message on. */
interface Asked {
  /** It answers the conversation and joins it, which one does at a time. */
  isInConversation: boolean;
  isCancelled: boolean;
  running: RunningResponse | null;
}

type Handlers = {
  [Name in keyof RealtimeMessages]: (fields: RealtimeMessages[Name], message: Message) => void;
};

export interface SessionOptions {
  owner: SocketOwner;
  /** Of every response. */
  model: string;
  maxConversationBytes: number;
}

export class RealtimeSession implements Conversation {
  readonly #socket: JsonSocket;
  readonly #responses: Responses;
  readonly #owner: SocketOwner;
  readonly #conversation: RealtimeConversation;
  readonly #ids = { session: newId('sess'), conversation: newId('conv') };
  readonly #asked = new Set<Asked>();
  #session: AnsweringFields = { output_modalities: ['text'], tools: [], tool_choice: 'auto' };
  readonly #model: string;
  #numRequests = 0;
  readonly #handlers: Handlers = {
    'session.update': ({ session }) => this.#update(session),
    'conversation.item.create': (fields) => this.#createItem(fields),
    'conversation.item.retrieve': ({ item_id: id }) =>
      this.#send({ type: 'conversation.item.retrieved', item: realtimeItem(this.#conversation.get(id)) }),
    'conversation.item.delete': ({ item_id: id }) => {
      this.#conversation.delete(id);
      this.#send({ type: 'conversation.item.deleted', item_id: id });
    },
    'response.create': ({ response }, message) => this.#createResponse(response ?? {}, message),
    'response.cancel': ({ response_id: id }) => this.#cancelResponse(id ?? null),
  };

  constructor(socket: JsonSocket, responses: Responses, options: SessionOptions) {
    this.#socket = socket;
    this.#responses = responses;
    this.#owner = options.owner;
    this.#model = options.model;
    this.#conversation = new RealtimeConversation(options.maxConversationBytes);
    this.#send({ type: 'session.created', session: this.#shownSession });
  }

  onMessage(message: Message): void {
    const { type } = message;
    const validate = realtimeValidators.get(type);
    if (validate === undefined) {
      if (!/audio|\btruncate$/.test(type)) throw unknownType(type, realtimeTypes);
      throw new ApiError(
        'unsupported_value',
        `type: found ${shown(type)}, supported: text, no audio`,
        'type',
      );
    }
    const handle = this.#handlers[type as keyof RealtimeMessages] as (
      fields: unknown,
      message: Message,
    ) => void;
    handle(checked(validate, message), message);
  }

  errorEvent(error: ApiError, message: Message | null): object {
    const ofClient = typeof message?.event_id === 'string' ? message.event_id : null;
    return { type: 'error', event_id: newId('event'), error: { ...error.body.error, event_id: ofClient } };
  }

  #send({ type, ...fields }: RealtimeEvent): Promise<void> | void {
    return this.#socket.send({ type, event_id: newId('event'), ...fields });
  }

  get #shownSession(): object {
    const own = { id: this.#ids.session, object: 'realtime.session', type: 'realtime', model: this.#model };
    return { ...own, ...this.#session };
  }

  #update(fields: SessionFields): void {
    refuseAudio(fields, 'session');
    for (const [name, own] of [
      ['type', 'realtime'],
      ['model', this.#model],
    ] as const) {
      const given = fields[name] ?? own;
      if (given === own) continue;
      const field = `session.${name}`;
      throw new ApiError(
        'unsupported_value',
        `${field}: found ${shown(given)}, supported: ${shown(own)}`,
        field,
      );
    }
    this.#session = { ...this.#session, ...answeringFields(fields) };
    this.#send({ type: 'session.updated', session: this.#shownSession });
  }

  #createItem({
    item: given,
    previous_item_id: previousId,
  }: RealtimeMessages['conversation.item.create']): void {
    const item = readItem(given, 'item', (id) => this.#conversation.find(id));
    const previous = this.#conversation.insert(item, previousId ?? null);
    for (const step of ['added', 'done']) {
      this.#send({ type: `conversation.item.${step}`, previous_item_id: previous, item: realtimeItem(item) });
    }
  }

  #createResponse(fields: RealtimeResponseFields, message: Message): void {
    refuseAudio(fields, 'response');
    const isInConversation = fields.conversation !== 'none';
    if (isInConversation && [...this.#asked].some((other) => other.isInConversation)) {
      throw new ApiError(
        'invalid_value',
        'response: found while another answers the conversation, allowed: after it, or with conversation "none"',
        'response',
      );
    }
    const find = (id: string) => this.#conversation.find(id);
    const items = fields.input?.map((item, i) => readItem(item, `response.input.${i}`, find));
    const asked: Asked = { isInConversation, isCancelled: false, running: null };
    this.#socket.request(message, async (signal) => {
      this.#asked.add(asked);
      try {
        await this.#answer(asked, fields, items ?? this.#conversation.items, signal);
      } finally {
        this.#asked.delete(asked);
      }
    });
  }

  async #answer(
    asked: Asked,
    fields: RealtimeResponseFields,
    items: readonly Item[],
    signal: AbortSignal,
  ): Promise<void> {
    const answering = { ...this.#session, ...answeringFields(fields) };
    const { id, ...owner } = this.#owner;
    const caller = { id: `${id}-${this.#numRequests++}`, ...owner, arrivalMs: nowMs(), signal };
    const running = await this.#responses.create(caller, toRequest(this.#model, answering), () => [...items]);
    if (running === null) return;
    asked.running = running;
    if (asked.isCancelled) running.cancel();
    const events = new RealtimeEvents(
      {
        conversationId: asked.isInConversation ? this.#ids.conversation : null,
        maxOutputTokens: answering.max_output_tokens ?? 'inf',
        metadata: fields.metadata ?? null,
      },
      running.response.id,
    );
    for await (const batch of running.events) {
      for (const event of batch.flatMap((one) => events.translate(one))) {
        const room = this.#send(event);
        if (room !== undefined) await room;
      }
      if (signal.aborted) return;
    }
    if (asked.isInConversation) this.#conversation.append(running.response.output);
  }

  /** The one in the conversation, where none is named. */
  #cancelResponse(id: string | null): void {
    const asked = [...this.#asked].find(({ isInConversation, running }) =>
      id === null ? isInConversation : running?.response.id === id,
    );
    if (asked === undefined) {
      const what = id === null ? 'no response runs' : `response_id: found ${shown(id)}, which does not run`;
      throw new ApiError('response_not_found', what, id === null ? null : 'response_id');
    }
    asked.isCancelled = true;
    asked.running?.cancel();
  }
}

function answeringFields(fields: SessionFields | RealtimeResponseFields): AnsweringFields {
  return Object.fromEntries(
    answeringNames.map((name) => [name, fields[name]]).filter(([, value]) => value != null),
  );
}

function refuseAudio({ audio, output_modalities: modalities }: AnsweringFields, within: string): void {
  const isText = modalities == null || modalities.every((name) => name === 'text');
  if (isText && audio == null) return;
  const field = `${within}.${isText ? 'audio' : 'output_modalities'}`;
  const found = shown(isText ? audio : modalities);
  const supported = isText ? 'sessions without it' : '["text"]';
  throw new ApiError('unsupported_value', `${field}: found ${found}, supported: ${supported}`, field);
}

/** The items come by what it follows on: they have been read before. */
function toRequest(model: string, fields: AnsweringFields): ResponseRequest {
  const { max_output_tokens: maxTokens, output_modalities: _, audio: _audio, ...shared } = fields;
  return {
    ...shared,
    model,
    max_output_tokens: maxTokens === 'inf' ? undefined : maxTokens,
    input: [],
    previous_response_id: 'conversation',
    store: false,
  };
}
