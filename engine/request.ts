// One sequence on the engine thread: its tokens, how far they are computed, the blocks that hold them. Pure
// state.

import type { EngineRequest, FinishReason } from './messages.ts';
import { Reasoning } from './reasoning.ts';
import { TokenCounts } from './token-counts.ts';

/**
 * numComputedTokens <= numTokens + numPendingTokens always; what lies between them is still to be computed.
 */
export class Request {
  readonly spec: EngineRequest;
  readonly numPromptTokens: number;
  /** Prompt, output, then the draft; grows by doubling. Entries past those mean nothing. */
  #tokenIds: Int32Array;
  numTokens: number;
  /** Guessed tokens after those, to be verified by the next step. */
  numDraftTokens = 0;
  /** Sampled by steps that are planned or launched, and not yet known. */
  numPendingTokens = 0;
  /** Logits row of the step launched last that samples the newest of them. */
  pendingRow = 0;
  numComputedTokens = 0;
  /** Blocks that hold tokens 0.. in order; append-only while the request runs. */
  readonly blocks: number[] = [];
  /** Chain hash of each full block, computed once per block. */
  readonly blockHashes: string[] = [];
  /** Leading blocks that the prefix cache knows. */
  numCachedBlocks = 0;
  /** Row of the block table while it runs, else null. */
  row: number | null = null;
  /** Slot of its adapter while it runs, -1 for none. */
  adapterSlot = -1;
  /** Leading entries of the row that are written. */
  numBlocksInRow = 0;
  /** Prompt tokens found in the cache when it was first admitted; null before. */
  numCachedTokens: number | null = null;
  /** Prompt positions whose log-probability has been asked of the model; position 0 has none. */
  numPromptLogprobsDone = 1;
  numPreemptions = 0;
  finishReason: FinishReason | null = null;
  stopReason: number | string | null = null;
  scheduledMs: number | null = null;
  firstTokenMs: number | null = null;
  lastTokenMs: number | null = null;
  /**
   * The tokens that its grammar allows next are known; always so without a grammar. A step may compute its
   * newest token before, and may not sample.
   */
  isMaskReady = true;
  /** A step has waited for them in vain. */
  isMaskLate = false;
  /** Tokens seen, for penalties; null when the request has none. */
  readonly tokenCounts: TokenCounts | null;
  readonly reasoning: Reasoning | null;
  /** Bit i % 32 of word i / 32: token i may come; words after the last are 0. Null when all may. */
  readonly allowedTokens: Uint32Array | null;

  constructor(spec: EngineRequest) {
    this.spec = spec;
    this.numPromptTokens = spec.promptTokenIds.length;
    this.numTokens = this.numPromptTokens;
    this.#tokenIds = new Int32Array(this.numPromptTokens + 64);
    this.#tokenIds.set(spec.promptTokenIds);
    const hasPenalty =
      spec.repetitionPenalty !== 1 || spec.presencePenalty !== 0 || spec.frequencyPenalty !== 0;
    const { reasoning } = spec;
    this.reasoning = reasoning === null ? null : new Reasoning(reasoning, spec.grammar !== null);
    this.allowedTokens = spec.allowedTokenIds === null ? null : bitmaskOf(spec.allowedTokenIds);
    this.tokenCounts = hasPenalty ? new TokenCounts(spec.promptTokenIds) : null;
  }

  get numOutputTokens(): number {
    return this.numTokens - this.numPromptTokens;
  }

  /** Output tokens when all that is under way is known. */
  get numPlannedOutputTokens(): number {
    return this.numOutputTokens + this.numPendingTokens;
  }

  /** Still to be computed, at least 1 while it runs. */
  get numMissingTokens(): number {
    return this.numTokens + this.numPendingTokens - this.numComputedTokens;
  }

  /**
   * Of those, what a step may compute. The mask of the token that it samples may come meanwhile, unless it
   * was waited for before, or says how much of a draft is worth computing.
   */
  get numComputableTokens(): number {
    const mayComeMeanwhile = !this.isMaskLate && this.numDraftTokens === 0;
    return this.numMissingTokens - (this.isMaskReady || mayComeMeanwhile ? 0 : 1);
  }

  get wantsPromptLogprobs(): boolean {
    return this.spec.numPromptLogprobs >= 0 && this.numPromptLogprobsDone < this.numPromptTokens;
  }

  /** What may come next depends on tokens that are not known yet: no step can be planned before they are. */
  get waitsForPending(): boolean {
    if (this.numPendingTokens === 0) return false;
    const hasLongBadWord = this.spec.badWords.some(({ length }) => length > 1);
    return hasLongBadWord || this.reasoning?.dependsOn(this.numPendingTokens) === true;
  }

  /** Tokens that would complete a bad word after so many drafted ones. */
  forbiddenTokenIds(numDrafted: number): number[] {
    return this.spec.badWords
      .filter((word) => this.#outputEndsWith(word, numDrafted))
      .map((word) => word[word.length - 1]);
  }

  /** The output, as far as it is known or drafted, ends with all of the word but its last token. */
  #outputEndsWith(word: readonly number[], numDrafted: number): boolean {
    const start = this.numTokens + numDrafted - (word.length - 1);
    if (start < this.numPromptTokens) return false;
    return word.every((tokenId, i) => i === word.length - 1 || this.#tokenIds[start + i] === tokenId);
  }

  tokenAt(index: number): number {
    return this.#tokenIds[index];
  }

  /** Tokens [start, end), not a copy. */
  tokens(start: number, end: number): Int32Array {
    return this.#tokenIds.subarray(start, end);
  }

  /** Tokens that are guessed to follow, in place of those guessed before. */
  draft(tokenIds: readonly number[]): void {
    this.#reserve(tokenIds.length);
    this.#tokenIds.set(tokenIds, this.numTokens);
    this.numDraftTokens = tokenIds.length;
  }

  /** The draft, not a copy. */
  get draftTokens(): Int32Array {
    return this.tokens(this.numTokens, this.numTokens + this.numDraftTokens);
  }

  /** Leaves so many tokens of the draft, or all. */
  cutDraft(numTokens: number): void {
    this.numDraftTokens = Math.min(this.numDraftTokens, numTokens);
  }

  /** The step under way computed the drafts; all but the first numAccepted stand for nothing now. */
  rejectDrafts(numAccepted: number): void {
    const numRejected = this.numDraftTokens - numAccepted;
    this.numPendingTokens -= numRejected;
    this.numComputedTokens -= numRejected;
    this.numDraftTokens = 0;
  }

  /** A step samples its next token, or its matcher is gone: what may come first is known, the rest is not. */
  forgetMask(): void {
    this.isMaskLate = false;
    this.isMaskReady =
      this.spec.grammar === null || (this.numHeldTokens === 0 && this.numPendingTokens === 0);
  }

  /** The step under way cannot sample its next token: its newest one counts as not computed. */
  postpone(): void {
    this.numPendingTokens--;
    this.numComputedTokens--;
    this.isMaskLate = true;
  }

  /** Output tokens that a grammar holds, or would; none while the model reasons. */
  get numHeldTokens(): number {
    const start = this.reasoning === null ? 0 : this.reasoning.answerStart;
    return start === null ? 0 : this.numOutputTokens - start;
  }

  /** Those tokens, not a copy. */
  get heldTokens(): Int32Array {
    return this.tokens(this.numTokens - this.numHeldTokens, this.numTokens);
  }

  /** A pending token becomes known. */
  append(tokenId: number): void {
    this.numPendingTokens--;
    this.#reserve(1);
    this.#tokenIds[this.numTokens++] = tokenId;
    this.tokenCounts?.addOutput(tokenId);
    this.reasoning?.append(tokenId);
    // The first mask of a grammar is part of it.
    if (this.numHeldTokens === 0) this.isMaskReady = true;
  }

  /** Room for so many tokens more. */
  #reserve(count: number): void {
    if (this.numTokens + count <= this.#tokenIds.length) return;
    const grown = new Int32Array(2 * this.#tokenIds.length);
    grown.set(this.#tokenIds);
    this.#tokenIds = grown;
  }
}

function bitmaskOf(tokenIds: readonly number[]): Uint32Array {
  const last = tokenIds.reduce((highest, tokenId) => Math.max(highest, tokenId), 0);
  const words = new Uint32Array((last >>> 5) + 1);
  for (const tokenId of tokenIds) words[tokenId >>> 5] |= 1 << (tokenId & 31);
  return words;
}

/**
 * Who is served first: lower priority number, then earlier arrival, then earlier handle. Negative when a goes
 * first.
 */
export function compareRequests(a: Request, b: Request): number {
  return (
    a.spec.priority - b.spec.priority || a.spec.arrivalMs - b.spec.arrivalMs || a.spec.handle - b.spec.handle
  );
}

/** Puts a request into a list kept in compareRequests' order. */
export function insertInOrder(list: Request[], request: Request): void {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compareRequests(list[middle], request) <= 0) low = middle + 1;
    else high = middle;
  }
  list.splice(low, 0, request);
}
