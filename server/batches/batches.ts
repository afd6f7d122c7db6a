// All batches of a server: those that the store has when it starts, and those that clients create.

import { setImmediate } from 'node:timers/promises';
import type { FastifyBaseLogger } from 'fastify';
import type { Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import type { Responses } from '../responses/responses.ts';
import { type BatchRow, BatchStore, type NewBatch } from '../store/batches.ts';
import { FileStore } from '../store/files.ts';
import { BatchJob } from './batch-job.ts';
import type { JobParts } from './job-parts.ts';
import { LineCommits } from './line-commits.ts';
import { Slots } from './slots.ts';

/** Batches that have not ended. */
const maxOpenBatches = 1000;
const sweepMs = 60_000;

export const epochSeconds = () => Math.floor(Date.now() / 1000);

export class Batches {
  readonly store: BatchStore;
  readonly files: FileStore;
  readonly #parts: JobParts;
  readonly #jobs = new Map<string, BatchJob>();
  #sweeps: NodeJS.Timeout | null = null;
  #isStopped = false;

  constructor(
    context: Context,
    responses: Responses,
    log: FastifyBaseLogger,
    now: () => number = epochSeconds,
  ) {
    this.files = new FileStore(context.database, now);
    this.store = new BatchStore(context.database, this.files, now);
    this.#parts = {
      context,
      responses,
      batches: this.store,
      files: this.files,
      slots: new Slots(context.engine.description.maxNumSeqs, context.batchLoad),
      validation: new Slots(1, { numSequences: 0 }),
      commits: new LineCommits(this.store),
      log,
      now,
    };
  }

  /** Goes on with what an earlier process left. */
  start(): void {
    for (const batch of this.store.open()) this.#begin(batch);
    this.#sweeps = setInterval(() => void this.#sweep(), sweepMs).unref();
    void this.#sweep();
  }

  /** Throws queue_full. */
  create(batch: NewBatch): BatchRow {
    if (this.#jobs.size >= maxOpenBatches) {
      throw new ApiError(
        'queue_full',
        `${this.#jobs.size} batches run or wait, at most ${maxOpenBatches} may`,
      );
    }
    const row = this.store.create(batch);
    this.#begin(row);
    return row;
  }

  /** False when the batch is past cancelling. */
  cancel({ seq, id }: BatchRow): boolean {
    if (!this.store.cancel(seq)) return false;
    this.#jobs.get(id)?.cancel();
    return true;
  }

  /** Breaks off what runs; the next start goes on with it. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#sweeps ?? undefined);
    this.files.close();
    await Promise.all([...this.#jobs.values()].map((job) => job.stop()));
    await this.files.sweep();
  }

  #begin(batch: BatchRow): void {
    const job = new BatchJob(this.#parts, batch);
    this.#jobs.set(batch.id, job);
    void job.end.then(() => this.#jobs.delete(batch.id));
  }

  async #sweep(): Promise<void> {
    try {
      await this.files.sweep();
      if (this.#isStopped) return;
      for (const batch of this.store.leftovers()) {
        while (!this.#isStopped && this.store.dropLines(batch)) await setImmediate();
      }
      if (!this.#isStopped) this.store.forgetOld();
    } catch (error) {
      this.#parts.log.error({ err: error }, 'the store could not be swept');
    }
  }
}
