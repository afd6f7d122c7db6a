// A response while it is generated: deltas in, the response object and its numbered events out.

import type { CompletionDelta, EngineApi } from '../../engine/engine.ts';
import { AnswerStream } from '../answer/answer-stream.ts';
import type { AnswerEvent } from '../answer/events.ts';
import type { ChatRun } from '../chat-run.ts';
import { chatLogprobs } from '../logprobs.ts';
import { UsageCount } from '../usage.ts';
import { type OutputEvent, OutputWriter } from './output-writer.ts';
import { type ResponseObject, secondsNow, toResponseUsage } from './response-object.ts';
import { ContentTokens, TokenPieces } from './token-pieces.ts';

export interface ResponseEvent extends OutputEvent {
  /** From 0; one more each. */
  sequence_number: number;
}

export class ResponseRun {
  readonly #chat: ChatRun;
  readonly #engine: EngineApi;
  readonly #response: ResponseObject;
  readonly #answer: AnswerStream;
  readonly #writer: OutputWriter;
  readonly #usage: UsageCount;
  readonly #pieces = new TokenPieces();
  readonly #contentTokens = new ContentTokens();
  #numEvents = 0;

  /** `response` is filled as the run goes on. */
  constructor(engine: EngineApi, chat: ChatRun, response: ResponseObject) {
    this.#engine = engine;
    this.#chat = chat;
    this.#response = response;
    this.#answer = new AnswerStream(chat.format, chat.options);
    const { summary } = response.reasoning as { summary: string | null };
    this.#writer = new OutputWriter(summary !== null);
    this.#usage = new UsageCount(chat.prompt.tokenIds.length);
    response.output = this.#writer.items;
  }

  get response(): ResponseObject {
    return this.#response;
  }

  /** A batch for each delta, all but the last event. `isCancelled`: an abort is what somebody asked for. */
  async *events(isCancelled: () => boolean): AsyncGenerator<ResponseEvent[]> {
    yield this.#begin();
    for await (const delta of this.#chat.deltas) {
      const started = this.#response.status === 'queued' ? [this.#progress()] : [];
      this.#read(delta);
      if (delta.finishReason !== null) this.#end(delta, isCancelled());
      const events = [...started, ...this.#numbered(this.#writer.take())];
      if (events.length > 0) yield events;
    }
  }

  /** The event that says how it ended. OpenAI has none for a cancelled response; its status says so. */
  get lastEvent(): ResponseEvent {
    const { status } = this.#response;
    const type = `response.${status === 'cancelled' ? 'incomplete' : status}`;
    return { type, sequence_number: this.#numEvents, response: structuredClone(this.#response) };
  }

  #begin(): ResponseEvent[] {
    const created = this.#lifeEvent('response.created');
    const isQueued = this.#response.status === 'queued';
    return [created, isQueued ? this.#lifeEvent('response.queued') : this.#progress()];
  }

  #progress(): ResponseEvent {
    this.#response.status = 'in_progress';
    return this.#lifeEvent('response.in_progress');
  }

  #read(delta: CompletionDelta): void {
    const isLast = delta.finishReason !== null;
    for (const piece of this.#pieces.push(delta)) {
      this.#contentTokens.push(piece);
      for (const event of this.#answer.push(piece.text, piece.lengths)) this.#write(event);
    }
    // What comes out only now was cut, unless the model ended by itself.
    if (isLast) {
      const status = delta.finishReason === 'stop' ? 'completed' : 'incomplete';
      for (const event of this.#answer.finish()) this.#write(event, status);
      this.#writer.finish(status);
    }
    this.#usage.add(this.#usage, delta);
    this.#usage.numReasoningTokens = this.#answer.numReasoningTokens;
  }

  #write(event: AnswerEvent, status: 'completed' | 'incomplete' = 'completed'): void {
    const tokens = event.type === 'content' ? this.#contentTokens.take(event.text) : [];
    if (event.type !== 'content') this.#contentTokens.drop();
    this.#writer.write(event, chatLogprobs(this.#engine, tokens), status);
  }

  #end({ finishReason, stopReason }: CompletionDelta, isCancelled: boolean): void {
    const response = this.#response;
    response.completed_at = secondsNow();
    response.usage = toResponseUsage(this.#usage.value);
    if (finishReason === 'stop') response.status = 'completed';
    else if (finishReason === 'length') {
      response.status = 'incomplete';
      response.incomplete_details = { reason: 'max_output_tokens' };
    } else if (stopReason === 'grammar_timeout')
      fail(response, 'the grammar took too long for one token', 'invalid_prompt');
    else if (finishReason === 'abort' && isCancelled) response.status = 'cancelled';
    else fail(response, failureOf(finishReason));
  }

  #lifeEvent(type: string): ResponseEvent {
    const [event] = this.#numbered([{ type, response: structuredClone(this.#response) }]);
    return event;
  }

  #numbered(events: readonly OutputEvent[]): ResponseEvent[] {
    return events.map(({ type, ...fields }) => ({ type, sequence_number: this.#numEvents++, ...fields }));
  }
}

const failureOf = (finishReason: CompletionDelta['finishReason']) =>
  finishReason === 'error' ? 'internal error' : 'the server ended the request, as it does when it shuts down';

/** The code is OpenAI's for whose fault it was: the server's, or what was asked. */
export function fail(
  response: ResponseObject,
  message: string,
  code: 'server_error' | 'invalid_prompt' = 'server_error',
): void {
  response.status = 'failed';
  response.error = { code, message };
  response.completed_at ??= secondsNow();
}
