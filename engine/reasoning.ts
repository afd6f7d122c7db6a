// Where the reasoning of an output begins and ends, token by token: what a budget ends, and what a grammar
// waits for. Some tokens are decided here. Pure state of one request on the engine thread.

export interface ReasoningParams {
  /** Tokens of reasoning at most, at least 0; null leaves its end to the model. */
  maxTokens: number | null;
  /** The prompt ends in reasoning already; otherwise the output must begin it. */
  isInside: boolean;
  /**
   * An answer that a grammar holds has a place only after reasoning (harmony), which is then begun for the
   * model.
   */
  isRequired: boolean;
  /** What begins reasoning, at the start of the output; may be nothing where isInside. */
  startTokenIds: readonly number[];
  /** What ends it; at least 1. */
  endTokenIds: readonly number[];
  /** What stands between the end and the answer; put there where the end is forced, and before a grammar. */
  leadTokenIds: readonly number[];
  /** Any of these ends it too, and is the first token of the answer. */
  callTokenIds: readonly number[];
}

/** Tokens that may stand before the start: white space. */
const maxTokensBeforeStart = 2;

export class Reasoning {
  readonly #params: ReasoningParams;
  /** A grammar holds the answer: from its first token on, whether or not there is reasoning before. */
  readonly #isHeld: boolean;
  #state: 'before' | 'inside' | 'ending' | 'after' = 'before';
  /** What comes next whatever the model would say. The start leads inside, the end out. */
  #forced: readonly number[] = [];
  /** The newest tokens, as many as a mark is long. */
  readonly #newest: number[] = [];
  readonly #numKept: number;
  #numTokens = 0;
  /** In the current state. */
  #numInState = 0;
  #answerStart: number | null = null;

  constructor(params: ReasoningParams, isHeld: boolean) {
    this.#params = params;
    this.#isHeld = isHeld;
    this.#numKept = Math.max(params.startTokenIds.length, params.endTokenIds.length);
    if (params.isInside) this.#enterInside();
    else if (params.startTokenIds.length === 0) this.#endAt(0);
    else if (isHeld && params.isRequired) this.#forced = params.startTokenIds;
  }

  /** What the next token has to be; null leaves it to the model. */
  get forcedTokenId(): number | null {
    return this.#forced[0] ?? null;
  }

  /** Output tokens before the answer; null until it begins. */
  get answerStart(): number | null {
    return this.#answerStart;
  }

  /** The next token may begin reasoning instead of the answer that a grammar holds. */
  get startTokenId(): number | null {
    const isOpen = this.#isHeld && this.#state === 'before' && this.#forced.length === 0;
    return isOpen ? this.#params.startTokenIds[0] : null;
  }

  /** The next token cannot be decided before so many pending ones are known. */
  dependsOn(numPendingTokens: number): boolean {
    if (numPendingTokens === 0 || this.#state === 'after') return false;
    return this.#isHeld || numPendingTokens > this.#numFree;
  }

  /** How many of these guessed tokens leave what comes after them to the model. */
  numUndecisive(tokenIds: Int32Array): number {
    if (this.#state === 'after') return tokenIds.length;
    const { endTokenIds, callTokenIds } = this.#params;
    const ends = this.#isHeld ? [endTokenIds[endTokenIds.length - 1], ...callTokenIds] : [];
    const end = tokenIds.findIndex((tokenId) => ends.includes(tokenId));
    return Math.min(end < 0 ? tokenIds.length : end, this.#numFree);
  }

  /** Tokens that may come before one is decided here, whatever they are but marks. */
  get #numFree(): number {
    if (this.#forced.length > 0 || (this.#isHeld && this.#state === 'before')) return 0;
    const { maxTokens } = this.#params;
    return maxTokens === null ? Number.POSITIVE_INFINITY : Math.max(0, maxTokens - this.#numInState - 1);
  }

  append(tokenId: number): void {
    if (this.#state === 'after') return;
    this.#numTokens++;
    this.#numInState++;
    this.#newest.push(tokenId);
    if (this.#newest.length > this.#numKept) this.#newest.shift();
    if (this.#forced.length > 0) this.#takeForced();
    else if (this.#state === 'before') this.#takeBefore(tokenId);
    else this.#takeInside(tokenId);
  }

  #takeForced(): void {
    this.#forced = this.#forced.slice(1);
    if (this.#forced.length > 0) return;
    if (this.#state === 'before') this.#enterInside();
    else this.#endAt(this.#numTokens);
  }

  #takeBefore(tokenId: number): void {
    const { startTokenIds } = this.#params;
    if (this.#endsWith(startTokenIds)) this.#enterInside();
    else if (!this.#isHeld) {
      if (this.#numTokens >= startTokenIds.length + maxTokensBeforeStart) this.#endAt(this.#numTokens);
    } else if (tokenId === startTokenIds[0]) this.#forced = startTokenIds.slice(1);
    else this.#endAt(0);
  }

  #takeInside(tokenId: number): void {
    const { endTokenIds, leadTokenIds, callTokenIds, maxTokens } = this.#params;
    if (callTokenIds.includes(tokenId)) this.#endAt(this.#numTokens - 1);
    else if (this.#endsWith(endTokenIds)) this.#end(this.#isHeld ? leadTokenIds : []);
    else if (this.#numInState === maxTokens) this.#end([...endTokenIds, ...leadTokenIds]);
  }

  #enterInside(): void {
    const { maxTokens, endTokenIds, leadTokenIds } = this.#params;
    this.#state = 'inside';
    this.#numInState = 0;
    if (maxTokens === 0) this.#end([...endTokenIds, ...leadTokenIds]);
  }

  /** The answer begins after these. */
  #end(tokenIds: readonly number[]): void {
    this.#forced = tokenIds;
    if (tokenIds.length === 0) this.#endAt(this.#numTokens);
    else this.#state = 'ending';
  }

  #endAt(answerStart: number): void {
    this.#state = 'after';
    this.#answerStart = answerStart;
  }

  #endsWith(tokenIds: readonly number[]): boolean {
    const start = this.#newest.length - tokenIds.length;
    return start >= 0 && tokenIds.every((tokenId, i) => this.#newest[start + i] === tokenId);
  }
}
