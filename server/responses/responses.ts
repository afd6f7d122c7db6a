// The responses of this server: those that run, and those that are stored. Routes and sockets ask here.

import type { Caller } from '../caller.ts';
import { type ChatRun, encodePrompt, startChat } from '../chat-run.ts';
import { admit, type Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import { knownError } from '../known-error.ts';
import { listAnswer } from '../store/page.ts';
import { ResponseStore, type StoredResponse } from '../store/responses.ts';
import { shown } from '../validation.ts';
import { inOwnWords, refuseUnsupportedFields, toChatRequest } from './chat-request.ts';
import { EventLog } from './event-log.ts';
import { type Item, readInput } from './input-items.ts';
import { newResponse, type ResponseObject } from './response-object.ts';
import { fail, type ResponseEvent, ResponseRun } from './response-run.ts';
import type { InputItemsQuery, InputTokensRequest, ResponseRequest } from './schemas.ts';

/** Conversations that a caller holds besides the stored ones, by the id of their last response. */
export type Recall = (responseId: string) => Item[] | null;

export interface RunningResponse {
  response: ResponseObject;
  /** What the model was given, and what it answered so far. */
  conversation(): Item[];
  /** To be read to its end, or given up, which cancels the response; a background one goes on. */
  events: AsyncGenerator<ResponseEvent[]>;
  /** Why what has ended could not be stored, or null. */
  storeError(): ApiError | null;
  cancel(): void;
}

/** What the server knows of one that runs. */
interface Running {
  owner: string;
  run: ResponseRun;
  input: Item[];
  /** Items of earlier turns, at the beginning of `input`. */
  numEarlier: number;
  controller: AbortController;
  signal: AbortSignal;
  isStored: boolean;
  /** Of a background response. */
  log: EventLog | null;
  isStreamed: boolean;
  /** Resolves when a background response has ended and is stored. */
  ended: Promise<void>;
  storeError: ApiError | null;
}

export class Responses {
  readonly #context: Context;
  readonly #store: ResponseStore;
  readonly #running = new Map<string, Running>();

  constructor(context: Context) {
    this.#context = context;
    this.#store = new ResponseStore(context.database, context.options.responsesLimitBytes);
  }

  /** Starts to answer. Null when the caller has gone meanwhile; throws ApiError for what cannot run. */
  async create(caller: Caller, body: ResponseRequest, recall?: Recall): Promise<RunningResponse | null> {
    refuseUnsupportedFields(body);
    const isBackground = body.background === true;
    const isStored = body.store !== false;
    if (isBackground && !isStored)
      throw new ApiError('invalid_value', 'background: found true, allowed: with store true', 'background');
    const { earlier, input } = this.#inputOf(caller.owner, body, recall);
    const controller = new AbortController();
    const signal = isBackground ? controller.signal : AbortSignal.any([caller.signal, controller.signal]);
    const chat = await startFitting(this.#context, { ...caller, signal }, body, input);
    if (chat === null) return null;
    const { engine } = this.#context;
    const response = newResponse(body, chat.model, engine.description.defaultSampling);
    const running: Running = {
      owner: caller.owner,
      run: new ResponseRun(engine, chat, response),
      input,
      numEarlier: earlier.length,
      controller,
      signal,
      isStored,
      log: isBackground ? new EventLog() : null,
      isStreamed: body.stream === true,
      ended: Promise.resolve(),
      storeError: null,
    };
    return this.#begin(running);
  }

  /** Tokens of the prompt, before `truncation` makes it fit. Throws ApiError for what cannot be one. */
  async countTokens(owner: string, given: InputTokensRequest): Promise<number> {
    const body = { ...given, input: given.input ?? [] };
    refuseUnsupportedFields(body);
    const { input } = this.#inputOf(owner, body);
    const chat = toChatRequest(body, input);
    admit(this.#context, chat.model);
    const { tokenIds } = await inOwnWords(async () => encodePrompt(this.#context, chat));
    return tokenIds.length;
  }

  /** Everything that the model is given but `instructions`, and what of it is from earlier turns. */
  #inputOf(owner: string, body: ResponseRequest, recall?: Recall): { earlier: Item[]; input: Item[] } {
    const earlier = this.#conversationOf(owner, body.previous_response_id ?? null, recall);
    const own = readInput(body.input, (id) => this.#store.findItem(owner, id));
    const input = [...earlier, ...own];
    if (input.length === 0 && body.instructions == null)
      throw new ApiError(
        'invalid_value',
        'input: found nothing, allowed: a text, or a list of items',
        'input',
      );
    return { earlier, input };
  }

  #begin(running: Running): RunningResponse {
    const { run, input, log, controller } = running;
    try {
      if (log !== null)
        this.#store.save(running.owner, { response: run.response, input, events: null }, running.numEarlier);
    } catch (error) {
      controller.abort();
      throw error;
    }
    this.#running.set(run.response.id, running);
    const events = this.#events(running);
    if (log !== null) running.ended = logged(events, log);
    return {
      response: run.response,
      conversation: () => [...input, ...run.response.output],
      events: log === null ? events : log.follow(-1),
      storeError: () => running.storeError,
      cancel: () => controller.abort(),
    };
  }

  async *#events(running: Running): AsyncGenerator<ResponseEvent[]> {
    const { run, controller, signal } = running;
    try {
      // Nobody but the server's own end aborts what nobody wants gone.
      yield* run.events(() => signal.aborted || !this.#context.isDraining());
    } catch (error) {
      this.#failed(running, error, 'internal error');
    } finally {
      // For one whose reader has left; what has ended does not mind.
      controller.abort();
      this.#end(running);
    }
    yield [run.lastEvent];
  }

  #end(running: Running): void {
    const { owner, run, input, log, isStored, isStreamed, numEarlier } = running;
    const { response } = run;
    if (response.status === 'queued' || response.status === 'in_progress') response.status = 'cancelled';
    const isDeleted = !this.#running.delete(response.id);
    if (!isStored || isDeleted) return;
    const events = log !== null && isStreamed ? [...log.events, run.lastEvent] : null;
    try {
      this.#store.save(owner, { response, input, events }, numEarlier);
    } catch (error) {
      running.storeError = knownError(error);
      this.#failed(running, error, running.storeError?.message ?? 'the response could not be stored');
    }
  }

  #failed({ run }: Running, error: unknown, message: string): void {
    this.#context.options.logger?.error({ err: error }, `response ${run.response.id} failed`);
    fail(run.response, message);
  }

  /** Everything before a response that follows on `id`. */
  #conversationOf(owner: string, id: string | null, recall: Recall | undefined): Item[] {
    if (id === null) return [];
    const recalled = recall?.(id);
    if (recalled != null) return recalled;
    const field = 'previous_response_id';
    if (this.#runningOf(owner, id) !== null)
      throw new ApiError(
        'invalid_value',
        `${field}: found ${shown(id)}, allowed: a response that has ended`,
        field,
      );
    const stored = this.#store.find(owner, id);
    if (stored !== null) return [...stored.input, ...stored.response.output];
    throw new ApiError(
      'previous_response_not_found',
      `${field}: found ${shown(id)}, allowed: a response that is stored`,
      field,
    );
  }

  /** One that runs or is stored. Throws response_not_found. */
  get(owner: string, id: string): ResponseObject {
    return this.#runningOf(owner, id)?.run.response ?? this.#stored(owner, id).response;
  }

  /** The items that the model was given, from the newest unless `order` says otherwise. */
  inputItems(owner: string, id: string, { limit = 20, order = 'desc', after }: InputItemsQuery): object {
    const input = this.#runningOf(owner, id)?.input ?? this.#stored(owner, id).input;
    const items = order === 'asc' ? input : input.toReversed();
    const start = after === undefined ? 0 : items.findIndex((item) => item.id === after) + 1;
    if (after !== undefined && start === 0)
      throw new ApiError(
        'invalid_value',
        `after: found ${shown(after)}, allowed: an item of this list`,
        'after',
      );
    const data = items.slice(start, start + limit);
    return listAnswer(data, start + limit < items.length);
  }

  /** The events of a background response after this number. */
  follow(owner: string, id: string, after: number): AsyncIterable<ResponseEvent[]> {
    const running = this.#runningOf(owner, id);
    if (running?.isStreamed === true && running.log !== null) return running.log.follow(after);
    const { response, events } =
      running === null ? this.#stored(owner, id) : { response: running.run.response, events: null };
    if (events !== null) return once(events.slice(after + 1));
    // Its server ended before it did: all that is left is how it ended.
    if (running === null && response.background && response.status === 'failed') {
      return once([{ type: 'response.failed', sequence_number: after + 1, response }]);
    }
    throw new ApiError(
      'invalid_value',
      'stream: found true, allowed: with a response created with background and stream',
      'stream',
    );
  }

  /** Ends a background response and returns what has become of it; one that has ended is as it was. */
  async cancel(owner: string, id: string): Promise<ResponseObject> {
    const running = this.#runningOf(owner, id);
    const response = running?.run.response ?? this.#stored(owner, id).response;
    if (!response.background) {
      throw new ApiError(
        'invalid_value',
        'response_id: found a response without background, allowed: a background one; close the connection of another',
        'response_id',
      );
    }
    running?.controller.abort();
    await running?.ended;
    return response;
  }

  delete(owner: string, id: string): void {
    const running = this.#runningOf(owner, id);
    if (running !== null) {
      this.#running.delete(id);
      running.controller.abort();
    }
    if (!this.#store.delete(owner, id) && running === null) throw notFound(id);
  }

  /** Resolves when no background response runs any more. */
  async settled(): Promise<void> {
    await Promise.all([...this.#running.values()].map(({ ended }) => ended));
  }

  /** Of those that will be found later too. */
  #runningOf(owner: string, id: string): Running | null {
    const running = this.#running.get(id);
    return running?.owner === owner && running.isStored ? running : null;
  }

  #stored(owner: string, id: string): StoredResponse {
    const stored = this.#store.find(owner, id);
    if (stored === null) throw notFound(id);
    return stored;
  }
}

const notFound = (id: string) =>
  new ApiError(
    'response_not_found',
    `response_id: found ${shown(id)}, which is not stored here`,
    'response_id',
  );

async function* once(events: ResponseEvent[]): AsyncGenerator<ResponseEvent[]> {
  yield events;
}

async function logged(events: AsyncIterable<ResponseEvent[]>, log: EventLog): Promise<void> {
  for await (const batch of events) log.push(batch);
  log.end();
}

/** With `truncation` auto, a conversation that is too long loses its oldest turns. */
async function startFitting(
  context: Context,
  caller: Caller,
  body: ResponseRequest,
  input: readonly Item[],
): Promise<ChatRun | null> {
  let kept = input;
  for (let numDropped = 1; ; numDropped *= 2) {
    try {
      return await inOwnWords(() => startChat(context, caller, toChatRequest(body, kept)));
    } catch (error) {
      const isTooLong = error instanceof ApiError && error.errorName === 'context_length_exceeded';
      const shorter = withoutTurns(kept, numDropped);
      if (!isTooLong || body.truncation !== 'auto' || shorter === null) throw error;
      kept = shorter;
    }
  }
}

/** Without the first of the user's turns, but for what the system says; null when only the last is left. */
function withoutTurns(items: readonly Item[], numDropped: number): Item[] | null {
  const isOf = (item: Item, ...roles: string[]) => item.type === 'message' && roles.includes(item.role);
  const starts = items.flatMap((item, i) => (isOf(item, 'user') ? [i] : []));
  if (starts.length < 2) return null;
  const from = starts[Math.min(numDropped, starts.length - 1)];
  return items.filter((item, i) => i >= from || isOf(item, 'system', 'developer'));
}
