// A line of a batch, from its bytes in the input to its committed result.

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { nowMs } from '../../engine/clock.ts';
import type { Caller } from '../caller.ts';
import { ApiError } from '../errors.ts';
import { knownError } from '../known-error.ts';
import type { BatchLine, BatchRow } from '../store/batches.ts';
import { checked } from '../validation.ts';
import { answerLine, usageOf } from './answer-lines.ts';
import { parseLine } from './check-line.ts';
import { type BatchEndpoint, getEndpoint } from './endpoints.ts';
import type { JobParts } from './job-parts.ts';

/** Time after which a line that was refused for load, or by a server that ends, is tried again. */
const retryMs = 1000;

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
  async run(line: BatchLine): Promise<void> {
    const caller: Caller = {
      id: randomBytes(16).toString('hex'),
      owner: this.#batch.owner,
      keySalt: this.#batch.key_salt,
      arrivalMs: nowMs(),
      signal: this.#signal,
      isBatchLine: true,
    };
    const answer = await this.#answer(line, caller);
    if (answer === null) return;
    const { status, body } = answer;
    await this.#parts.commits.add(this.#batch.seq, {
      line: line.line,
      isError: status !== 200,
      content: answerLine(line.custom_id, caller.id, status, body),
      usage: usageOf(body),
    });
  }

  async #answer(line: BatchLine, caller: Caller): Promise<Answer | null> {
    while (!this.#signal.aborted) {
      try {
        // Checked when it came in, but perhaps by an older server.
        const body = checked<object>(this.#endpoint.validate, this.#read(line));
        const answer = await this.#endpoint.run(this.#parts.context, caller, body);
        // An answer that was cut off by the signal looks like any other.
        return answer === null || this.#signal.aborted ? null : { status: 200, body: answer };
      } catch (error) {
        const refusal = this.#refusal(error, caller);
        if (refusal.status !== 429 && refusal.status !== 503) {
          return this.#signal.aborted ? null : { status: refusal.status, body: refusal.body };
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
    if (known !== null) return known;
    // Not the line's fault: it runs again when there is an engine.
    if (this.#parts.context.engine.health(Number.POSITIVE_INFINITY).status === 'dead') {
      return new ApiError('engine_dead', 'the engine has ended');
    }
    this.#parts.log.error({ err: error, id, batch: this.#batch.id }, 'a line of a batch failed');
    return new ApiError('internal_error', `internal error, see the server's log for request ${id}`);
  }
}
