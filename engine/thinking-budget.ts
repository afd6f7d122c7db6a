// Ends the reasoning of a request after so many tokens, by deciding the tokens that follow. Pure state of one
// request on the engine thread.

export interface ThinkingLimit {
  /** Tokens of reasoning at most, at least 0. */
  maxTokens: number;
  /** The prompt ends in reasoning already; otherwise the output must begin it. */
  isInside: boolean;
  /** What begins reasoning, at the start of the output. */
  startTokenIds: readonly number[];
  /** What ends it; at least 1. */
  endTokenIds: readonly number[];
  /** What is put there when the limit is reached; at least 1. */
  forcedTokenIds: readonly number[];
}

/** Tokens that may stand before the start: white space. */
const maxTokensBeforeStart = 2;

export class ThinkingBudget {
  readonly #limit: ThinkingLimit;
  #state: 'before' | 'inside' | 'forcing' | 'after';
  /** The newest tokens, as many as a mark is long. */
  readonly #newest: number[] = [];
  readonly #numKept: number;
  #numTokens = 0;
  /** In the current state: of reasoning, or of those that are forced. */
  #numInState = 0;

  constructor(limit: ThinkingLimit) {
    this.#limit = limit;
    this.#numKept = Math.max(limit.startTokenIds.length, limit.endTokenIds.length);
    this.#state = limit.isInside ? 'inside' : limit.startTokenIds.length > 0 ? 'before' : 'after';
    this.#forceWhenSpent();
  }

  /** What the next token has to be; null leaves it to the model. */
  get forcedTokenId(): number | null {
    return this.#state === 'forcing' ? this.#limit.forcedTokenIds[this.#numInState] : null;
  }

  /** The next token cannot be decided before so many pending ones are known. */
  dependsOn(numPendingTokens: number): boolean {
    if (numPendingTokens === 0 || this.#state === 'after') return false;
    return this.#state === 'forcing' || this.#numInState + numPendingTokens >= this.#limit.maxTokens;
  }

  append(tokenId: number): void {
    if (this.#state === 'after') return;
    this.#numTokens++;
    this.#numInState++;
    this.#newest.push(tokenId);
    if (this.#newest.length > this.#numKept) this.#newest.shift();
    const { startTokenIds, endTokenIds, forcedTokenIds } = this.#limit;
    switch (this.#state) {
      case 'before':
        if (this.#endsWith(startTokenIds)) this.#enter('inside');
        else if (this.#numTokens >= startTokenIds.length + maxTokensBeforeStart) this.#enter('after');
        break;
      case 'inside':
        if (this.#endsWith(endTokenIds)) this.#enter('after');
        break;
      case 'forcing':
        if (this.#numInState === forcedTokenIds.length) this.#enter('after');
    }
    this.#forceWhenSpent();
  }

  #enter(state: 'inside' | 'forcing' | 'after'): void {
    this.#state = state;
    this.#numInState = 0;
  }

  #forceWhenSpent(): void {
    if (this.#state === 'inside' && this.#numInState >= this.#limit.maxTokens) this.#enter('forcing');
  }

  #endsWith(tokenIds: readonly number[]): boolean {
    const start = this.#newest.length - tokenIds.length;
    return start >= 0 && tokenIds.every((tokenId, i) => this.#newest[start + i] === tokenId);
  }
}
