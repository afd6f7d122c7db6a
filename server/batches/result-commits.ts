// Results of lines on their way into the store: those of one turn of the event loop share a transaction,
// since each waits for the disk.

import type { BatchStore, LineResult } from '../store/batches.ts';

interface Waiting {
  batch: number;
  result: LineResult;
  done: () => void;
  failed: (error: unknown) => void;
}

export class ResultCommits {
  readonly #store: BatchStore;
  #waiting: Waiting[] = [];

  constructor(store: BatchStore) {
    this.#store = store;
  }

  /** Resolves when the result is committed; rejects when it cannot be. */
  add(batch: number, result: LineResult): Promise<void> {
    return new Promise((done, failed) => {
      this.#waiting.push({ batch, result, done, failed });
      if (this.#waiting.length === 1) setImmediate(() => this.#commit());
    });
  }

  #commit(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    try {
      this.#store.addResults(waiting);
      for (const { done } of waiting) done();
    } catch {
      // There may be room for one where there is none for all.
      for (const one of waiting) this.#commitAlone(one);
    }
  }

  #commitAlone({ batch, result, done, failed }: Waiting): void {
    try {
      this.#store.addResults([{ batch, result }]);
      done();
    } catch (error) {
      failed(error);
    }
  }
}
