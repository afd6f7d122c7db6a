// A drafter that knows what its requests will say, and is wrong now and then: drafts of any length, right to
// the end, wrong from some token on, or wrong in the middle.

import type { Drafter, WantedDraft } from '../../engine/speculation/drafter.ts';
import { testVocabSize } from './requests.ts';

export class GuessingDrafter implements Drafter {
  readonly maxTokens: number;
  readonly memory = { weightBytes: 0, kvBytesPerBlock: 0 };
  readonly #outputOf: (handle: number) => readonly number[];
  readonly #int: (low: number, high: number) => number;

  constructor(
    maxTokens: number,
    outputOf: (handle: number) => readonly number[],
    int: (low: number, high: number) => number,
  ) {
    this.maxTokens = maxTokens;
    this.#outputOf = outputOf;
    this.#int = int;
  }

  propose(wanted: readonly WantedDraft[]): void {
    for (const { request, limit } of wanted) {
      const count = this.#int(0, limit);
      const start = request.numOutputTokens;
      const coming = this.#outputOf(request.spec.handle).slice(start, start + count);
      // What comes after the end is anybody's guess.
      while (coming.length < count) coming.push(this.#int(0, testVocabSize - 1));
      if (count > 0 && this.#int(0, 2) === 0) {
        coming[this.#int(0, count - 1)] = this.#int(0, testVocabSize - 1);
      }
      request.draft(coming);
    }
  }

  allocateKvCache(): void {}

  freeKvCache(): void {}
}
