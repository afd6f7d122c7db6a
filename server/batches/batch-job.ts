// One batch from wherever it stands to its end: validating -> in_progress -> finalizing -> ended. Every
// step goes by what the store says, so a job that was broken off anywhere goes on where another left it.

import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import type { BatchError, BatchRow } from '../store/batches.ts';
import { isFull } from '../store/database.ts';
import { unrunLine } from './answer-lines.ts';
import { type CheckedLine, LineCheck } from './check-line.ts';
import { getEndpoint } from './endpoints.ts';
import { inputLines } from './input-lines.ts';
import type { JobParts } from './job-parts.ts';
import { LineRunner, runsAlone } from './line-runner.ts';

/** OpenAI's limit. */
export const maxLines = 50_000;
/** Errors of an input that are reported. */
const maxErrors = 100;
const pageLines = 100;
/** Time between attempts to write what the disk has no room for. */
const storeRetryMs = 5000;

export class BatchJob {
  readonly #parts: JobParts;
  readonly #id: string;
  /** No line is begun or waited for any more; the store says what comes next. */
  readonly #interrupted = new AbortController();
  readonly #stopped = new AbortController();
  #failure: unknown = null;
  #expiry: NodeJS.Timeout | null = null;
  /** Resolves when the batch has ended or the job was stopped; never rejects. */
  readonly end: Promise<void>;

  constructor(parts: JobParts, batch: BatchRow) {
    this.#parts = parts;
    this.#id = batch.id;
    const leftMs = Math.max(0, batch.expires_at - parts.now()) * 1000;
    this.#expiry = setTimeout(() => this.#interrupted.abort(), leftMs).unref();
    this.end = this.#run().finally(() => clearTimeout(this.#expiry ?? undefined));
  }

  /** Aborts the lines in flight. The store says already that the batch is being cancelled. */
  cancel(): void {
    this.#interrupted.abort();
  }

  /** The process ends: leaves everything as the store has it. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#interrupted.abort();
    await this.end;
  }

  get #batch(): BatchRow {
    return this.#parts.batches.get(this.#id);
  }

  async #run(): Promise<void> {
    // Not in the constructor's own turn: the caller goes first.
    await setImmediate();
    while (!this.#stopped.signal.aborted) {
      try {
        if (this.#batch.status === 'validating') await this.#validate();
        if (this.#batch.status === 'in_progress') await this.#runLines();
        await this.#finish();
        return;
      } catch (error) {
        if (this.#stopped.signal.aborted) return;
        this.#parts.log.error({ err: error, batch: this.#id }, 'a batch could not go on');
        await this.#giveUp(error);
      }
    }
  }

  /** The batch fails. Where not even that can be written, it is tried again later. */
  async #giveUp(error: unknown): Promise<void> {
    const code = isFull(error) ? 'store_full' : 'internal_error';
    const message = isFull(error)
      ? 'the store is full (--max-store-size, or its disk): lines without a result were not run'
      : 'internal error, see the server’s log';
    try {
      const { seq, status } = this.#batch;
      this.#parts.batches.finalize(seq, [{ code, message, line: null, param: null }]);
      if (this.#batch.status !== status) return;
    } catch {
      // Logged already; the store has no room for this either.
    }
    await sleep(storeRetryMs, null, { signal: this.#stopped.signal, ref: false }).catch(() => {});
  }

  async #validate(): Promise<void> {
    const { validation } = this.#parts;
    const { signal } = this.#interrupted;
    if (!(await validation.take(1, signal))) return this.#leaveValidation();
    try {
      // What an earlier process may have begun.
      while (this.#parts.batches.dropLines(this.#batch.seq)) await setImmediate();
      const checked = await this.#checkLines();
      if (signal.aborted) return this.#leaveValidation();
      const { seq } = this.#batch;
      if (checked.errors.length > 0) this.#parts.batches.refuse(seq, checked.errors);
      else this.#parts.batches.begin(seq, checked.total, checked.model);
    } finally {
      validation.release(1);
    }
  }

  /** Cancelled, expired or stopped before a line could run. */
  #leaveValidation(): void {
    if (!this.#stopped.signal.aborted) this.#parts.batches.finalize(this.#batch.seq);
  }

  async #checkLines(): Promise<{ total: number; model: string | null; errors: BatchError[] }> {
    const { context, batches, files } = this.#parts;
    const { seq, endpoint, input_file_id } = this.#batch;
    const check = new LineCheck(context, getEndpoint(endpoint));
    const errors: BatchError[] = [];
    let total = 0;
    let model: string | null = null;
    for await (const lines of inputLines(files.read(input_file_id), context.options.bodyLimitBytes)) {
      if (this.#interrupted.signal.aborted) break;
      const good: CheckedLine[] = [];
      for (const line of lines) {
        if (line.bytes !== null && isBlank(line.bytes)) continue;
        total++;
        const result = total > maxLines ? tooManyLines(line.number) : check.check(line);
        if ('code' in result) errors.push(result);
        else good.push(result);
        if (total > maxLines || errors.length >= maxErrors) return { total, model, errors };
      }
      model ??= good.at(0)?.model ?? null;
      // Nothing of it will run once there is an error.
      if (errors.length === 0) batches.addLines(seq, good);
    }
    if (total === 0)
      errors.push({ code: 'empty_file', message: emptyFile, line: null, param: 'input_file_id' });
    return { total, model, errors };
  }

  async #runLines(): Promise<void> {
    const { batches, slots } = this.#parts;
    const { seq } = this.#batch;
    const { signal } = this.#interrupted;
    const runner = new LineRunner(this.#parts, this.#batch, signal);
    const running = new Set<Promise<void>>();
    for (let last = 0; !signal.aborted; ) {
      const page = batches.pending(seq, last, pageLines);
      if (page.length === 0) break;
      for (const line of page) {
        if (!(await slots.take(line.sequences, signal, runsAlone(line)))) break;
        const run = runner
          .run(line)
          .catch((error) => this.#fail(error))
          .finally(() => {
            slots.release(line.sequences);
            running.delete(run);
          });
        running.add(run);
        last = line.line;
      }
    }
    await Promise.all(running);
    if (this.#failure !== null) throw this.#failure;
    if (!this.#stopped.signal.aborted) batches.finalize(seq);
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#interrupted.abort();
  }

  /** Lines and results become files; then the batch has ended. */
  async #finish(): Promise<void> {
    const { batches, files } = this.#parts;
    const batch = this.#batch;
    if (this.#stopped.signal.aborted) return;
    if (batch.status === 'finalizing' || batch.status === 'cancelling') {
      const ending = endingOf(batch);
      const unrun = ending === 'cancelled' || ending === 'expired' ? unrunLine(ending) : null;
      while (batch.in_progress_at !== null && batches.moveLines(batch, unrun)) {
        await setImmediate();
        if (this.#stopped.signal.aborted) return;
      }
      batches.end(batch.id, ending);
    }
    while (!this.#stopped.signal.aborted && batches.dropLines(batch.seq)) await setImmediate();
    // Its input may have been deleted meanwhile.
    files.sweepSoon();
  }
}

const emptyFile = 'the input file has no lines, expected one request a line';

function isBlank(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d);
}

const tooManyLines = (line: number): BatchError => ({
  code: 'too_many_lines',
  message: `the input file has more than ${maxLines} lines`,
  line,
  param: 'input_file_id',
});

function endingOf(batch: BatchRow): 'completed' | 'failed' | 'expired' | 'cancelled' {
  if (batch.errors !== null) return 'failed';
  if (batch.cancelling_at !== null) return 'cancelled';
  if (batch.in_progress_at === null || batch.completed + batch.failed < batch.total) return 'expired';
  return 'completed';
}
