// Drafts without a model (prompt lookup): where the end of a text has come before, what followed there is
// guessed to follow again. Bound: one pass over the tokens of a request a step, about 1 ns each.

import type { Drafter, WantedDraft } from './drafter.ts';
import type { PromptLookupConfig } from './speculative-config.ts';

export class PromptLookup implements Drafter {
  readonly maxTokens: number;
  readonly memory = { weightBytes: 0, kvBytesPerBlock: 0 };
  readonly #config: PromptLookupConfig;

  constructor(config: PromptLookupConfig) {
    this.maxTokens = config.numSpeculativeTokens;
    this.#config = config;
  }

  propose(wanted: readonly WantedDraft[]): void {
    const { promptLookupMax, promptLookupMin } = this.#config;
    for (const { request, limit } of wanted) {
      const tokens = request.tokens(0, request.numTokens);
      request.draft(lookUp(tokens, limit, promptLookupMin, promptLookupMax));
    }
  }

  allocateKvCache(): void {}

  freeKvCache(): void {}
}

/**
 * What followed the place that has most tokens, minNgram to maxNgram, in common with the end; of equal places
 * the newest. Empty when there is none.
 */
export function lookUp(tokens: Int32Array, count: number, minNgram: number, maxNgram: number): number[] {
  const last = tokens.length - 1;
  let longest = minNgram - 1;
  let found = -1;
  for (let end = last - 1; end >= longest && longest < maxNgram; end--) {
    if (tokens[end] !== tokens[last]) continue;
    let length = 1;
    while (length < maxNgram && length <= end && tokens[end - length] === tokens[last - length]) length++;
    if (length <= longest) continue;
    longest = length;
    found = end;
  }
  return found < 0 ? [] : continued(tokens, found + 1, count);
}

/** `count` tokens from `start` on; past the end of the text the copy reads itself, so that a loop goes on. */
function continued(tokens: Int32Array, start: number, count: number): number[] {
  const draft: number[] = [];
  for (let i = 0; i < count; i++) {
    const at = start + i;
    draft.push(at < tokens.length ? tokens[at] : draft[at - tokens.length]);
  }
  return draft;
}
