// Token counts of one response, gathered from its deltas.

import type { CompletionDelta } from '../engine/engine.ts';

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  completion_tokens_details: { reasoning_tokens: number };
}

export class UsageCount {
  readonly #numPromptTokens: number;
  #numOutputTokens = 0;
  /** Of all choices: part of the output tokens. */
  numReasoningTokens = 0;
  readonly #cachedTokens = new Map<object, number>();

  constructor(numPromptTokens: number) {
    this.#numPromptTokens = numPromptTokens;
  }

  /**
   * `prompt` tells the prompts of one response apart: each counts its cached tokens once, by its first
   * choice.
   */
  add(prompt: object, delta: CompletionDelta, numOutputTokens = delta.tokenIds.length): void {
    this.#numOutputTokens += numOutputTokens;
    if (delta.index === 0) this.#cachedTokens.set(prompt, delta.numCachedTokens);
  }

  get value(): Usage {
    let cached = 0;
    for (const count of this.#cachedTokens.values()) cached += count;
    return {
      prompt_tokens: this.#numPromptTokens,
      completion_tokens: this.#numOutputTokens,
      total_tokens: this.#numPromptTokens + this.#numOutputTokens,
      prompt_tokens_details: { cached_tokens: cached },
      completion_tokens_details: { reasoning_tokens: this.numReasoningTokens },
    };
  }
}
