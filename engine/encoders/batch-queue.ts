// Inputs that wait for an encoder, whoever sent them, and which of them run together: the one that came
// first, and those most like it in length, because a batch is padded to its longest.

import type { EncoderInput } from './encoder-messages.ts';

/** Inputs that are looked at for one batch, so that choosing stays quick however many wait. */
const windowSize = 1024;

export interface Waiting {
  input: EncoderInput;
  resolve(output: Float32Array): void;
  reject(error: unknown): void;
}

export class BatchQueue {
  readonly #maxBatchTokens: number;
  #waiting: Waiting[] = [];
  #numTokens = 0;

  /** `maxBatchTokens`: of a batch, padding included; a longer input runs alone. */
  constructor(maxBatchTokens: number) {
    this.#maxBatchTokens = maxBatchTokens;
  }

  get numTokens(): number {
    return this.#numTokens;
  }

  add(items: readonly Waiting[]): void {
    this.#waiting.push(...items);
    for (const { input } of items) this.#numTokens += input.tokenIds.length;
  }

  remove(items: ReadonlySet<Waiting>): void {
    this.#waiting = this.#waiting.filter((item) => {
      if (!items.has(item)) return true;
      this.#numTokens -= item.input.tokenIds.length;
      return false;
    });
  }

  /** Empty when nothing waits. */
  take(): Waiting[] {
    if (this.#waiting.length === 0) return [];
    const first = lengthOf(this.#waiting[0]);
    const distance = (item: Waiting) => Math.abs(lengthOf(item) - first);
    // The sort is stable: among equals who came first goes first.
    const candidates = this.#waiting.slice(0, windowSize).sort((a, b) => distance(a) - distance(b));
    const batch: Waiting[] = [];
    let longest = 0;
    for (const item of candidates) {
      const width = Math.max(longest, lengthOf(item));
      if (batch.length > 0 && width * (batch.length + 1) > this.#maxBatchTokens) break;
      batch.push(item);
      longest = width;
    }
    this.remove(new Set(batch));
    return batch;
  }
}

const lengthOf = ({ input }: Waiting) => input.tokenIds.length;
