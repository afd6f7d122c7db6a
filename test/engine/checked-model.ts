// A fake model with a shadow of the KV cache: it remembers which token of which sequence position lies in
// every slot, and samples a hash of everything a sequence can see through its block table. A wrong block, a
// stale slot or a shared block that was written over shows as a wrong token; broken batches throw at once.
//
// Asynchronous, it is the worst device there could be: it computes nothing before it is waited for, from the
// inputs as they were at the launch, and the arrays mean nothing in between. Of a step in two calls, those of
// the rows mean nothing before the second.

import { maskWords } from '../../engine/grammar/grammar.ts';
import type { BatchArrays, NativeModel } from '../../engine/native.ts';
import { allocateBatch, type BatchSizes } from '../../engine/null-model.ts';

const emptySlot = -1;

/** What the layers read, and what is to stay as it is until the rows are sampled. */
const tokenArrays = [
  'tokenIds',
  'positions',
  'slotMapping',
  'queryStartLoc',
  'contextLens',
  'seqRows',
  'blockTable',
  'loraRows',
] as const satisfies ReadonlyArray<keyof BatchArrays>;

interface Launched {
  counts: [numTokens: number, numSeqs: number, numLogitsRows: number, numHiddenRows?: number];
  batch: BatchArrays;
}

export class CheckedModel implements NativeModel {
  readonly description = 'checked';
  readonly packedCache = null;
  readonly memory = { weightBytes: 0, kvBytesPerBlock: 0, workspaceBytes: 0, totalBytes: 0, freeBytes: 0 };
  batch: BatchArrays;
  readonly isAsync: boolean;
  readonly #launched: Launched[] = [];
  /** A step whose rows have not been sampled. */
  #forwarded: { numTokens: number; numSeqs: number; tokens: Partial<BatchArrays> } | null = null;
  /** What the step computed last has sampled. */
  #sampled: readonly number[] = [];
  readonly #sizes: BatchSizes;
  readonly #blockSize: number;
  readonly #vocabSize: number;
  /** Token and position that each slot holds. */
  #slotTokens = new Int32Array(0);
  #slotPositions = new Int32Array(0);

  constructor(sizes: BatchSizes, blockSize: number, isAsync: boolean) {
    this.isAsync = isAsync;
    this.#sizes = sizes;
    this.#blockSize = blockSize;
    this.#vocabSize = sizes.vocabSize;
    this.batch = allocateBatch(sizes);
  }

  allocateKvCache(numBlocks: number): void {
    this.#slotTokens = new Int32Array(numBlocks * this.#blockSize).fill(emptySlot);
    this.#slotPositions = new Int32Array(numBlocks * this.#blockSize).fill(emptySlot);
  }

  freeKvCache(): void {
    if (this.#launched.length > 0 || this.#forwarded !== null) throw new Error('the KV cache is in use');
    this.allocateKvCache(0);
  }

  launch(...counts: Launched['counts']): void {
    this.#begin(counts[0], counts[1]);
    this.#end(counts);
  }

  forward(numTokens: number, numSeqs: number): void {
    this.#begin(numTokens, numSeqs);
    // Rows are filled in afterwards.
    for (const [name, array] of Object.entries(this.batch)) {
      if (!(tokenArrays as readonly string[]).includes(name)) array.fill(-77);
    }
  }

  sample(numLogitsRows: number, numHiddenRows: number): void {
    const { numTokens = 0, numSeqs = 0 } = this.#forwarded ?? {};
    this.#end([numTokens, numSeqs, numLogitsRows, numHiddenRows]);
  }

  #begin(numTokens: number, numSeqs: number): void {
    if (this.#forwarded !== null) throw new Error('the step before has not been sampled');
    if (this.#launched.length === 2) throw new Error('a third step is launched');
    const tokens = Object.fromEntries(tokenArrays.map((name) => [name, this.batch[name].slice()]));
    this.#forwarded = { numTokens, numSeqs, tokens };
  }

  #end(counts: Launched['counts']): void {
    const forwarded = this.#forwarded;
    if (forwarded === null) throw new Error('there is no step to sample');
    const batch = structuredClone(this.batch);
    for (const name of tokenArrays) {
      const isSame = batch[name].every((value, i) => value === forwarded.tokens[name]?.[i]);
      if (!isSame) throw new Error(`${name} has changed before its step was sampled`);
    }
    this.#forwarded = null;
    this.#launched.push({ counts, batch });
    // Nothing of it may be used again but the block table.
    for (const array of Object.values(this.batch)) if (array !== this.batch.blockTable) array.fill(-77);
    if (!this.isAsync) this.#compute();
  }

  collect(): void {
    if (this.isAsync) this.#compute();
  }

  #compute(): void {
    const launched = this.#launched.shift();
    if (launched === undefined) throw new Error('no step was launched');
    const outside = this.batch;
    this.batch = launched.batch;
    const [numTokens, numSeqs, numLogitsRows, numHiddenRows = 0] = launched.counts;
    this.#feedBack(numTokens, numLogitsRows);
    this.#step(numTokens, numSeqs, numLogitsRows);
    this.#giveHiddenStates(numSeqs, numHiddenRows);
    this.#sampled = [...this.batch.sampledTokenIds.subarray(0, numLogitsRows)];
    this.batch = outside;
    for (const name of ['sampledTokenIds', 'sampledLogprobs', 'sampledRanks', 'hiddenStates'] as const) {
      outside[name].set(launched.batch[name]);
    }
  }

  /** Negative ids stand for what the step before has sampled. */
  #feedBack(numTokens: number, numLogitsRows: number): void {
    const { tokenIds, tokenCountIds, tokenCountStart } = this.batch;
    const resolve = (id: number) => {
      const sampled = id >= 0 ? id : this.#sampled[-1 - id];
      if (sampled === undefined) throw new Error(`token ${id} stands for a row that there was not`);
      return sampled;
    };
    for (let t = 0; t < numTokens; t++) tokenIds[t] = resolve(tokenIds[t]);
    for (let i = 0; i < tokenCountStart[numLogitsRows]; i++) tokenCountIds[i] = resolve(tokenCountIds[i]);
  }

  #step(numTokens: number, numSeqs: number, numLogitsRows: number): void {
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
      const seq = this.#seqOf(token, numSeqs);
      const target = batch.targetTokenIds[row];
      const key = target >= 0 ? 0 : batch.seeds[2 * row] ^ this.#listsOf(row);
      const sampled = this.#allowed(row, this.#sample(seq, batch.positions[token], key));
      batch.sampledTokenIds[row] = target >= 0 ? target : sampled;
      // A fake log-probability that depends on the context, so that prompt log-probabilities are checked too.
      batch.sampledLogprobs[row] = -sampled - 1;
      batch.sampledRanks[row] = 1;
    }
  }

  /** A state is what the token sees, as one number over and over. */
  #giveHiddenStates(numSeqs: number, numHiddenRows: number): void {
    const { hiddenRows, hiddenStates, positions } = this.batch;
    const { hiddenSize = 0 } = this.#sizes;
    for (let row = 0; row < numHiddenRows; row++) {
      const token = hiddenRows[row];
      const state = this.#sample(this.#seqOf(token, numSeqs), positions[token], 1);
      hiddenStates.fill(state, row * hiddenSize, (row + 1) * hiddenSize);
    }
  }

  #seqOf(token: number, numSeqs: number): number {
    return this.batch.queryStartLoc.subarray(0, numSeqs + 1).findIndex((start) => start > token) - 1;
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

  /** The sparse lists of a row, whatever their order: equal lists give equal numbers. */
  #listsOf(row: number): number {
    const { tokenCountStart, tokenCountIds, tokenCounts, logitBiasStart, logitBiasIds } = this.batch;
    const counts = new Map<number, number>();
    for (let i = tokenCountStart[row]; i < tokenCountStart[row + 1]; i++) {
      counts.set(tokenCountIds[i], (counts.get(tokenCountIds[i]) ?? 0) + tokenCounts[i]);
    }
    let sum = 0;
    for (const [id, count] of counts) sum += Math.imul(id + 1, 7919) * (count + 1);
    for (let i = logitBiasStart[row]; i < logitBiasStart[row + 1]; i++) sum += logitBiasIds[i] * 31 + 17;
    return sum | 0;
  }

  /** The token, or the next after it that the row's grammar allows. */
  #allowed(row: number, wanted: number): number {
    const { grammarRows, grammarBitmask } = this.batch;
    if (grammarRows[row] < 0) return wanted;
    if (grammarRows[row] >= this.#sizes.maxNumSeqs) throw new Error('a mask stands in no row of the bitmask');
    const words = maskWords(this.#vocabSize);
    for (let i = 0; i < this.#vocabSize; i++) {
      const id = (wanted + i) % this.#vocabSize;
      if ((grammarBitmask[grammarRows[row] * words + (id >> 5)] >>> (id & 31)) & 1) return id;
    }
    throw new Error('a mask allows nothing');
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
