// Starts and results of lines on their way into the store: those of one turn of the event loop share a
// transaction, since each waits for the disk.

import type { BatchStore, LineChange } from '../store/batches.ts';

interface Waiting {
  change: LineChange;
  done: () => void;
  failed: (error: unknown) => void;
}

export class LineCommits {
  readonly #store: BatchStore;
  #waiting: Waiting[] = [];

  constructor(store: BatchStore) {
    this.#store = store;
  }

  /** Resolves when the change is committed; rejects when it cannot be. */
  add(change: LineChange): Promise<void> {
    return new Promise((done, failed) => {
      this.#waiting.push({ change, done, failed });
      if (this.#waiting.length === 1) setImmediate(() => this.#commit());
    });
  }

  #commit(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    try {
      this.#store.change(waiting.map(({ change }) => change));
      for (const { done } of waiting) done();
    } catch {
      // There may be room for one where there is none for all.
      for (const one of waiting) this.#commitAlone(one);
    }
  }

  #commitAlone({ change, done, failed }: Waiting): void {
    try {
      this.#store.change([change]);
      done();
    } catch (error) {
      failed(error);
    }
  }
}
