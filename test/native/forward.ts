// Runs token ids through a native model chunk by chunk and returns the logits of every position.

import type { LoadedModel } from '../../engine/model-files.ts';
import { type NativeModel, type NativeModelOptions, openNativeModel } from '../../engine/native.ts';

export const forwardOptions: NativeModelOptions = {
  backend: 'cpu',
  cpuVariant: null,
  roundsActivations: false,
  quantization: 'none',
  dtype: null,
  kvCacheDtype: 'f32',
  blockSize: 16,
  maxNumSeqs: 4,
  maxNumBatchedTokens: 256,
  maxModelLen: 256,
  maxLogprobs: 4,
  maxLoras: 2,
  threads: 2,
  cpuAffinity: [],
  batchInvariant: false,
  warmUp: false,
  keepLogits: true,
  packedCache: null,
  seed: 0,
};

export function openForForward(model: LoadedModel, overrides: Partial<NativeModelOptions> = {}): NativeModel {
  const options = { ...forwardOptions, ...overrides };
  const native = openNativeModel(model.config, model.files, options);
  native.allocateKvCache(1 + options.maxNumSeqs * Math.ceil(options.maxModelLen / options.blockSize));
  return native;
}

export interface Chunk {
  /** Row of the block table; its blocks are interleaved with those of other rows. */
  row: number;
  tokenIds: readonly number[];
  /** First position of the chunk. */
  start: number;
  /** Slot of the adapter; none without. */
  adapter?: number;
}

/** One step over several chunks; returns the logits of all their tokens, chunk after chunk. */
export function stepChunks(native: NativeModel, chunks: readonly Chunk[], blockSize: number): Float32Array[] {
  const { batch } = native;
  const blocksPerSeq = batch.blockTable.length / (batch.queryStartLoc.length - 1);
  const numRows = batch.queryStartLoc.length - 1;
  let token = 0;
  batch.queryStartLoc[0] = 0;
  chunks.forEach(({ row, tokenIds, start, adapter }, seq) => {
    for (let i = 0; i < blocksPerSeq; i++) batch.blockTable[row * blocksPerSeq + i] = 1 + i * numRows + row;
    tokenIds.forEach((tokenId, i) => {
      const position = start + i;
      const block = batch.blockTable[row * blocksPerSeq + Math.floor(position / blockSize)];
      batch.tokenIds[token] = tokenId;
      batch.positions[token] = position;
      batch.slotMapping[token] = block * blockSize + (position % blockSize);
      batch.logitsRows[token] = token;
      batch.targetTokenIds[token] = -1;
      batch.numLogprobs[token] = -1;
      batch.temperature[token] = 0;
      batch.grammarRows[token] = -1;
      batch.tokenCountStart[token + 1] = 0;
      batch.logitBiasStart[token + 1] = 0;
      token++;
    });
    batch.queryStartLoc[seq + 1] = token;
    batch.contextLens[seq] = start + tokenIds.length;
    batch.seqRows[seq] = row;
    batch.loraRows[seq] = adapter ?? -1;
  });
  native.launch(token, chunks.length, token);
  native.collect();
  return Array.from({ length: token }, (_, i) => native.lastLogits(i));
}

/** Logits of every position of one sequence, computed in chunks. */
export function forward(
  native: NativeModel,
  tokenIds: readonly number[],
  chunkSize: number,
  blockSize: number,
  row = 0,
): Float32Array[] {
  const logits: Float32Array[] = [];
  for (let start = 0; start < tokenIds.length; start += chunkSize) {
    logits.push(
      ...stepChunks(native, [{ row, tokenIds: tokenIds.slice(start, start + chunkSize), start }], blockSize),
    );
  }
  return logits;
}
