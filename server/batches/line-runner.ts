// A line of a batch, from its bytes in the input to its committed result.
//
// A line may be what ends the server: its start is committed before it runs, and taken back when it is given
// up in order. What is left are the starts under which the server ended.

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { nowMs } from '../../engine/clock.ts';
import type { Caller } from '../caller.ts';
import { ApiError } from '../errors.ts';
import { knownError } from '../known-error.ts';
import type { BatchLine, BatchRow, LineResult, PendingLine } from '../store/batches.ts';
import { checked } from '../validation.ts';
import { answerLine, unfinishedLine, usageOf } from './answer-lines.ts';
import { parseLine } from './check-line.ts';
import { type BatchEndpoint, getEndpoint } from './endpoints.ts';
import type { JobParts } from './job-parts.ts';

/** Time after which a line that was refused for load, or by a server that ends, is tried again. */
const retryMs = 1000;

/** Starts under which the server ended before a line counts as the cause. */
const maxStarts = 3;

/**
 * The next start is the last: the line runs with no other beside it, so that those that only happened to run
 * at the same time get their answers.
 */
export const runsAlone = ({ starts }: PendingLine) => starts === maxStarts - 1;

interface Answer {
  status: number;
  body: object;
}

export class LineRunner {
  readonly #parts: JobParts;
  readonly #batch: BatchRow;
  readonly #endpoint: BatchEndpoint;
  readonly #signal: AbortSignal;

  constructor(parts: JobParts, batch: BatchRow, signal: AbortSignal) {
    this.#parts = parts;
    this.#batch = batch;
    this.#endpoint = getEndpoint(batch.endpoint);
    this.#signal = signal;
  }

  /** Resolves when the result is committed, or the signal has fired before there was one. */
  async run(line: PendingLine): Promise<void> {
    if (line.starts >= maxStarts) return this.#giveUp(line);
    await this.#count(line, 1);
    const caller: Caller = {
      id: randomBytes(16).toString('hex'),
      owner: this.#batch.owner,
      keySalt: this.#batch.key_salt,
      arrivalMs: nowMs(),
      signal: this.#signal,
      isBatchLine: true,
    };
    const answer = await this.#answer(line, caller);
    if (answer === null) {
      // Where the engine ended, this line may be why.
      if (!this.#isEngineDead) await this.#count(line, -1);
      return;
    }
    const { status, body } = answer;
    await this.#commit({
      line: line.line,
      isError: status !== 200,
      content: answerLine(line.custom_id, caller.id, status, body),
      usage: usageOf(body),
    });
  }

  #count({ line }: BatchLine, starts: 1 | -1): Promise<void> {
    return this.#parts.commits.add({ batch: this.#batch.seq, line, starts });
  }

  #commit(result: LineResult): Promise<void> {
    return this.#parts.commits.add({ batch: this.#batch.seq, result });
  }

  async #giveUp({ line, custom_id, starts }: PendingLine): Promise<void> {
    this.#parts.log.error(
      { batch: this.#batch.id, custom_id },
      'a line is given up: the server ended under it',
    );
    await this.#commit({ line, isError: true, content: unfinishedLine(custom_id, starts), usage: null });
  }

  get #isEngineDead(): boolean {
    return this.#parts.context.engine.health(Number.POSITIVE_INFINITY).status === 'dead';
  }

  async #answer(line: BatchLine, caller: Caller): Promise<Answer | null> {
    while (!this.#signal.aborted) {
      try {
        // Checked when it came in, but perhaps by an older server.
        const body = checked<object>(this.#endpoint.validate, this.#read(line));
        const answer = await this.#endpoint.run(this.#parts, caller, body);
        // An answer that was cut off by the signal looks like any other.
        return answer === null || this.#signal.aborted ? null : { status: 200, body: answer };
      } catch (error) {
        if (this.#signal.aborted) return null;
        const refusal = this.#refusal(error, caller);
        if (refusal.status !== 429 && refusal.status !== 503) {
          return { status: refusal.status, body: refusal.body };
        }
        await sleep(retryMs, null, { signal: this.#signal, ref: false }).catch(() => {});
      }
    }
    return null;
  }

  #read({ start, length }: BatchLine): unknown {
    return parseLine(this.#parts.files.readRange(this.#batch.input_file_id, start, length)).body;
  }

  #refusal(error: unknown, { id }: Caller): ApiError {
    const known = knownError(error);
    if (known !== null && known.status < 500) return known;
    // Not the line's fault: it runs again when there is an engine.
    if (this.#isEngineDead) return new ApiError('engine_dead', 'the engine has ended');
    if (known !== null) return known;
    this.#parts.log.error({ err: error, id, batch: this.#batch.id }, 'a line of a batch failed');
    return new ApiError('internal_error', `internal error, see the server's log for request ${id}`);
  }
}
