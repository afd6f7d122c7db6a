// The choices of one request on the HTTP thread: engine tokens in, merged text deltas out as an async
// iterator.

import type { Detokenizer } from './detokenizer.ts';
import type { CompletionDelta } from './generation.ts';
import type { FinishedRequest, FinishReason, TokenLogprobs } from './messages.ts';
import type { SamplingParams } from './sampling-params.ts';

/** One choice. Tokens gather between flushes; text is made in flush(), once however many tokens came. */
export class Choice {
  readonly handle: number;
  readonly index: number;
  readonly #detokenizer: Detokenizer;
  readonly #sampling: SamplingParams;
  readonly #stopTokens: ReadonlySet<number>;
  #newTokenIds: number[] = [];
  #newLogprobs: TokenLogprobs[] = [];
  #engineFinish: FinishedRequest | null = null;
  /** Output tokens that count as usage: up to and with the one that completed a stop string. */
  numOutputTokens = 0;
  numCachedTokens = 0;
  firstTokenMs: number | null = null;
  lastTokenMs: number | null = null;
  finishReason: FinishReason | null = null;
  promptLogprobs: TokenLogprobs[] | null;

  constructor(
    handle: number,
    index: number,
    detokenizer: Detokenizer,
    sampling: SamplingParams,
    stopTokens: ReadonlySet<number>,
  ) {
    this.handle = handle;
    this.index = index;
    this.#detokenizer = detokenizer;
    this.#sampling = sampling;
    this.#stopTokens = stopTokens;
    this.promptLogprobs = sampling.promptLogprobs !== null && index === 0 ? [] : null;
  }

  addToken(tokenId: number): void {
    this.#newTokenIds.push(tokenId);
  }

  addLogprobs(token: TokenLogprobs): void {
    this.#newLogprobs.push(token);
  }

  endByEngine(finished: FinishedRequest): void {
    this.#engineFinish = finished;
  }

  /** It has ended for its reader while the engine has not said so: a stop string was found. */
  get runsOnInEngine(): boolean {
    return this.finishReason !== null && this.#engineFinish === null;
  }

  /** What is new since the last flush, or null. Sets finishReason when this is the last of it. */
  flush(): CompletionDelta | null {
    if (this.finishReason !== null) return null;
    let tokenIds = this.#newTokenIds;
    let logprobs = this.#newLogprobs;
    const finish = this.#engineFinish;
    if (tokenIds.length === 0 && finish === null) return null;
    this.#newTokenIds = [];
    this.#newLogprobs = [];

    const endsInStopToken = finish?.reason === 'stop' && this.#stopTokens.has(tokenIds.at(-1) ?? -1);
    const textTokenIds =
      endsInStopToken && !this.#sampling.includeStopStrInOutput ? tokenIds.slice(0, -1) : tokenIds;
    const textLengths: number[] = [];
    let text = this.#detokenizer.push(textTokenIds, textLengths);
    const stop = this.#detokenizer.stopped;
    let stopReason: string | number | null = null;
    if (stop !== null) {
      const numKept = stop.numTokens - this.numOutputTokens;
      tokenIds = tokenIds.slice(0, numKept);
      logprobs = logprobs.slice(0, numKept);
      this.finishReason = 'stop';
      stopReason = stop.stopString;
    } else if (finish !== null) {
      text += this.#detokenizer.finish();
      this.finishReason = finish.reason;
      stopReason = finish.stopReason;
    }
    this.numOutputTokens += tokenIds.length;
    if (textLengths.length < tokenIds.length) textLengths.push(0);
    return this.#delta(text, tokenIds, logprobs, textLengths, stopReason);
  }

  /** Ends the choice here and now, without the engine's word: aborted by its caller, or the engine died. */
  end(reason: 'abort' | 'error'): CompletionDelta | null {
    if (this.finishReason !== null) return null;
    this.finishReason = reason;
    return this.#delta('', [], [], [], null);
  }

  #delta(
    text: string,
    tokenIds: number[],
    logprobs: TokenLogprobs[],
    textLengths: number[],
    stopReason: string | number | null,
  ): CompletionDelta {
    const promptLogprobs = this.promptLogprobs;
    this.promptLogprobs = null;
    return {
      index: this.index,
      text,
      tokenIds,
      logprobs: this.#sampling.logprobs === null ? null : logprobs,
      textLengths: this.#sampling.textLengths ? textLengths : null,
      promptLogprobs,
      finishReason: this.finishReason,
      stopReason,
      numCachedTokens: this.numCachedTokens,
    };
  }
}

function merge(into: CompletionDelta, next: CompletionDelta): void {
  into.text += next.text;
  for (const tokenId of next.tokenIds) into.tokenIds.push(tokenId);
  if (into.textLengths !== null && next.textLengths !== null) into.textLengths.push(...next.textLengths);
  if (into.logprobs !== null && next.logprobs !== null) into.logprobs.push(...next.logprobs);
  into.promptLogprobs ??= next.promptLogprobs;
  into.finishReason = next.finishReason;
  into.stopReason = next.stopReason;
  into.numCachedTokens = next.numCachedTokens;
}

/**
 * The reader's side. Holds at most one undelivered delta per choice: a slow reader gets larger deltas, not
 * more of them. Ending the iteration early calls `onCancel`.
 */
export class CompletionStream implements AsyncIterable<CompletionDelta>, AsyncIterator<CompletionDelta> {
  readonly #pending: CompletionDelta[] = [];
  readonly #onCancel: () => void;
  #numOpen: number;
  #forgetSignal = () => {};
  #wake: ((result: IteratorResult<CompletionDelta>) => void) | null = null;
  /** Of the request's last token, where one was asked for; here before the last delta is. */
  hiddenState: Float32Array | null = null;

  constructor(numChoices: number, onCancel: () => void) {
    this.#numOpen = numChoices;
    this.#onCancel = onCancel;
  }

  /** Cancels when the signal fires. Lets go of the signal at the end, which may live much longer. */
  abortOn(signal: AbortSignal): void {
    if (signal.aborted) {
      this.#onCancel();
      return;
    }
    signal.addEventListener('abort', this.#onCancel, { once: true });
    this.#forgetSignal = () => signal.removeEventListener('abort', this.#onCancel);
  }

  push(delta: CompletionDelta): void {
    if (delta.finishReason !== null) this.#numOpen--;
    if (this.#numOpen === 0) this.#forgetSignal();
    if (this.#wake !== null) {
      const wake = this.#wake;
      this.#wake = null;
      wake({ done: false, value: delta });
      return;
    }
    const waiting = this.#pending.find((pending) => pending.index === delta.index);
    if (waiting === undefined) this.#pending.push(delta);
    else merge(waiting, delta);
  }

  [Symbol.asyncIterator](): AsyncIterator<CompletionDelta> {
    return this;
  }

  next(): Promise<IteratorResult<CompletionDelta>> {
    const delta = this.#pending.shift();
    if (delta !== undefined) return Promise.resolve({ done: false, value: delta });
    if (this.#numOpen === 0) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  return(): Promise<IteratorResult<CompletionDelta>> {
    this.#pending.length = 0;
    this.#numOpen = 0;
    this.#forgetSignal();
    this.#onCancel();
    return Promise.resolve({ done: true, value: undefined });
  }
}
