// Speculative decoding: something cheap guesses the next tokens of a request (a draft), and one step of the
// model verifies all of them. The model samples its own token after each drafted one, with the very seed,
// position, penalties and biases that it would have had without a draft; the draft is kept as far as it says
// the same. So a guess decides how many tokens a step yields, and never which.

import type { Request } from '../request.ts';

export interface Drafter {
  /** Tokens of a draft at most, at least 1. */
  readonly maxTokens: number;
  /**
   * Puts drafts into requests (Request.draft), none longer than its limit. Called between steps, with nothing
   * under way.
   */
  propose(wanted: readonly WantedDraft[]): void;
  /** Bytes of its weights, and of what it keeps beside each block of the KV cache. */
  readonly memory: { weightBytes: number; kvBytesPerBlock: number };
  /** What it keeps comes and goes with the KV cache. Throws when memory is short. */
  allocateKvCache(numBlocks: number): void;
  freeKvCache(): void;
}

export interface WantedDraft {
  request: Request;
  /** 1..maxTokens. */
  limit: number;
}
