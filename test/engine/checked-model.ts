// A fake model with a shadow of the KV cache: it remembers which token of which sequence position lies in
// every slot, and samples a hash of everything a sequence can see through its block table. A wrong block, a
// stale slot or a shared block that was written over shows as a wrong token; broken batches throw at once.

import type { BatchArrays, NativeModel } from '../../engine/native.ts';
import { allocateBatch, type BatchSizes } from '../../engine/null-model.ts';

const emptySlot = -1;

export class CheckedModel implements NativeModel {
  readonly description = 'checked';
  readonly memory = { weightBytes: 0, kvBytesPerBlock: 0, workspaceBytes: 0, totalBytes: 0, freeBytes: 0 };
  readonly batch: BatchArrays;
  readonly #sizes: BatchSizes;
  readonly #blockSize: number;
  readonly #vocabSize: number;
  /** Token and position that each slot holds. */
  #slotTokens = new Int32Array(0);
  #slotPositions = new Int32Array(0);

  constructor(sizes: BatchSizes, blockSize: number, vocabSize: number) {
    this.#sizes = sizes;
    this.#blockSize = blockSize;
    this.#vocabSize = vocabSize;
    this.batch = allocateBatch(sizes);
  }

  allocateKvCache(numBlocks: number): void {
    this.#slotTokens = new Int32Array(numBlocks * this.#blockSize).fill(emptySlot);
    this.#slotPositions = new Int32Array(numBlocks * this.#blockSize).fill(emptySlot);
  }

  step(numTokens: number, numSeqs: number, numLogitsRows: number): void {
    const { batch } = this;
    if (batch.queryStartLoc[numSeqs] !== numTokens)
      throw new Error('query_start_loc does not end at the token count');
    if (new Set(batch.seqRows.subarray(0, numSeqs)).size !== numSeqs)
      throw new Error('two sequences share a row');
    this.#write(numTokens, numSeqs);
    let seenChunk = false;
    for (let seq = 0; seq < numSeqs; seq++) {
      const isChunk = batch.queryStartLoc[seq + 1] - batch.queryStartLoc[seq] > 1;
      if (seenChunk && !isChunk) throw new Error('a decode comes after a prefill chunk');
      seenChunk ||= isChunk;
    }
    for (let row = 0; row < numLogitsRows; row++) {
      const token = batch.logitsRows[row];
      const seq = batch.queryStartLoc.subarray(0, numSeqs + 1).findIndex((start) => start > token) - 1;
      const target = batch.targetTokenIds[row];
      const sampled = this.#sample(seq, batch.positions[token], target >= 0 ? 0 : batch.seeds[2 * row]);
      batch.sampledTokenIds[row] = target >= 0 ? target : sampled;
      // A fake log-probability that depends on the context, so that prompt log-probabilities are checked too.
      batch.sampledLogprobs[row] = -sampled - 1;
      batch.sampledRanks[row] = 1;
    }
  }

  loadAdapter(): void {}

  unloadAdapter(): void {}

  capture(): void {}

  captured(): Float32Array {
    return new Float32Array(0);
  }

  reserveTokenCounts(entries: number): void {
    this.batch.tokenCountIds = new Int32Array(entries);
    this.batch.tokenCounts = new Int32Array(entries);
  }

  lastLogits(): Float32Array {
    throw new Error('the checked model has no logits');
  }

  copyBlocks(): void {}

  close(): void {}

  #slot(seq: number, position: number): number {
    const row = this.batch.seqRows[seq] * this.#sizes.maxBlocksPerSeq;
    const block = this.batch.blockTable[row + Math.floor(position / this.#blockSize)];
    if (block <= 0) throw new Error(`position ${position} lies in block ${block}`);
    return block * this.#blockSize + (position % this.#blockSize);
  }

  #write(numTokens: number, numSeqs: number): void {
    const { batch } = this;
    const written = new Set<number>();
    for (let seq = 0; seq < numSeqs; seq++) {
      const first = batch.queryStartLoc[seq];
      const numQueries = batch.queryStartLoc[seq + 1] - first;
      for (let i = 0; i < numQueries; i++) {
        const position = batch.contextLens[seq] - numQueries + i;
        const slot = this.#slot(seq, position);
        if (batch.positions[first + i] !== position)
          throw new Error('positions do not match the context length');
        if (batch.slotMapping[first + i] !== slot)
          throw new Error('slot_mapping and the block table disagree');
        written.add(slot);
        this.#slotTokens[slot] = batch.tokenIds[first + i];
        this.#slotPositions[slot] = position;
      }
    }
    if (written.size !== numTokens) throw new Error('two tokens of a step share a slot');
  }

  /** FNV-1a over all tokens that the query at `position` sees. */
  #sample(seq: number, position: number, seed: number): number {
    let hash = 2166136261 ^ seed;
    for (let p = 0; p <= position; p++) {
      const slot = this.#slot(seq, p);
      if (this.#slotPositions[slot] !== p) {
        throw new Error(`slot ${slot} should hold position ${p} and holds ${this.#slotPositions[slot]}`);
      }
      hash = Math.imul(hash ^ this.#slotTokens[slot], 16777619);
    }
    return (hash >>> 0) % this.#vocabSize;
  }
}
