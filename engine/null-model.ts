// A model without arithmetic: it answers a token for every row at once, so that everything around it can be
// measured.

import { nowMs } from './clock.ts';
import { maskWords } from './grammar/grammar.ts';
import { type BatchArrays, maxLogitBias, type NativeModel } from './native.ts';

export interface BatchSizes {
  vocabSize: number;
  maxNumBatchedTokens: number;
  maxNumSeqs: number;
  maxBlocksPerSeq: number;
  maxLogprobs: number;
  /** 0 when absent: nothing asks for hidden states. */
  hiddenSize?: number;
}

/** The arena of native/batch.h in plain typed arrays. */
export function allocateBatch(sizes: BatchSizes): BatchArrays {
  const t = sizes.maxNumBatchedTokens;
  const r = sizes.maxNumSeqs;
  const k = sizes.maxLogprobs;
  return {
    tokenIds: new Int32Array(t),
    positions: new Int32Array(t),
    slotMapping: new Int32Array(t),
    queryStartLoc: new Int32Array(r + 1),
    contextLens: new Int32Array(r),
    seqRows: new Int32Array(r),
    blockTable: new Int32Array(r * sizes.maxBlocksPerSeq),
    loraRows: new Int32Array(r),
    hiddenRows: new Int32Array(r),
    logitsRows: new Int32Array(t),
    targetTokenIds: new Int32Array(t),
    numLogprobs: new Int32Array(t),
    temperature: new Float32Array(t),
    topP: new Float32Array(t),
    minP: new Float32Array(t),
    topK: new Int32Array(t),
    seeds: new Uint32Array(2 * t),
    repetitionPenalty: new Float32Array(t),
    presencePenalty: new Float32Array(t),
    frequencyPenalty: new Float32Array(t),
    tokenCountStart: new Int32Array(t + 1),
    tokenCountIds: new Int32Array(4096),
    tokenCounts: new Int32Array(4096),
    logitBiasStart: new Int32Array(t + 1),
    logitBiasIds: new Int32Array(r * maxLogitBias),
    logitBiasValues: new Float32Array(r * maxLogitBias),
    grammarRows: new Int32Array(t),
    grammarBitmask: new Uint32Array(r * maskWords(sizes.vocabSize)),
    sampledTokenIds: new Int32Array(t),
    sampledLogprobs: new Float32Array(t),
    sampledRanks: new Int32Array(t),
    topTokenIds: new Int32Array(t * k),
    topLogprobs: new Float32Array(t * k),
    hiddenStates: new Float32Array(r * (sizes.hiddenSize ?? 0)),
  };
}

/**
 * First id that is an ordinary token in every tokenizer at hand: the ids below are special or byte tokens.
 */
const firstOrdinaryToken = 260;

export class NullModel implements NativeModel {
  readonly description = 'null (tokens without arithmetic)';
  readonly isAsync = true;
  readonly packedCache = null;
  readonly memory = { weightBytes: 0, kvBytesPerBlock: 0, workspaceBytes: 0, totalBytes: 0, freeBytes: 0 };
  readonly batch: BatchArrays;
  readonly #vocabSize: number;
  readonly #stepMs: number;
  readonly #never = new Int32Array(new SharedArrayBuffer(4));
  /** Tokens of the steps launched and not collected, and when each is done. */
  readonly #launched: { tokenIds: Int32Array; doneMs: number }[] = [];
  #busyUntilMs = 0;

  /** stepMs: how long a step pretends to compute. */
  constructor(sizes: BatchSizes, stepMs: number) {
    this.batch = allocateBatch(sizes);
    this.#vocabSize = sizes.vocabSize;
    this.#stepMs = stepMs;
  }

  /**
   * The next token is a plain function of the newest one's position, or the next after it that the grammar
   * allows: no token ends the answer but its length.
   */
  launch(numTokens: number, numSeqs: number, numLogitsRows: number): void {
    this.forward(numTokens, numSeqs);
    this.sample(numLogitsRows);
  }

  forward(_numTokens: number, _numSeqs: number): void {
    this.#busyUntilMs = Math.max(this.#busyUntilMs, nowMs()) + this.#stepMs;
  }

  sample(numLogitsRows: number): void {
    const { logitsRows, positions, targetTokenIds } = this.batch;
    const first = Math.min(firstOrdinaryToken, this.#vocabSize - 1);
    const span = Math.min(100, this.#vocabSize - first);
    const tokenIds = new Int32Array(numLogitsRows);
    for (let row = 0; row < numLogitsRows; row++) {
      const target = targetTokenIds[row];
      tokenIds[row] = target >= 0 ? target : this.#allowed(row, first + (positions[logitsRows[row]] % span));
    }
    this.#launched.push({ tokenIds, doneMs: this.#busyUntilMs });
  }

  #allowed(row: number, wanted: number): number {
    const { grammarRows, grammarBitmask } = this.batch;
    if (grammarRows[row] < 0) return wanted;
    const words = maskWords(this.#vocabSize);
    const mask = grammarBitmask.subarray(grammarRows[row] * words, (grammarRows[row] + 1) * words);
    for (let i = 0; i < this.#vocabSize; i++) {
      const id = (wanted + i) % this.#vocabSize;
      if ((mask[id >> 5] >>> (id & 31)) & 1) return id;
    }
    return wanted;
  }

  collect(): void {
    const done = this.#launched.shift();
    if (done === undefined) throw new Error('no step was launched');
    const leftMs = done.doneMs - nowMs();
    if (this.#stepMs > 0 && leftMs > 0) Atomics.wait(this.#never, 0, 0, leftMs);
    this.batch.sampledTokenIds.set(done.tokenIds);
  }

  reserveTokenCounts(entries: number): void {
    this.batch.tokenCountIds = new Int32Array(entries);
    this.batch.tokenCounts = new Int32Array(entries);
  }

  lastLogits(): Float32Array {
    throw new Error('the null model has no logits');
  }

  allocateKvCache(): void {}

  freeKvCache(): void {}

  loadAdapter(): void {}

  unloadAdapter(): void {}

  capture(): void {}

  captured(): Float32Array {
    return new Float32Array(0);
  }

  copyBlocks(): void {}

  close(): void {}
}
