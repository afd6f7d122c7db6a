// The typed mirror of native/batch.h and native/addon.cc: the only file of engine/ that loads the addon.
// Sizes: T max tokens a step, N = R max sequences, B max blocks per sequence, K max logprobs, H hidden size.
// L (logits rows) <= T.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { AdapterTensor } from './lora-adapter.ts';
import type { LayerSlot, ModelConfig, ModelFiles, WeightDtype } from './model-config.ts';

/** A GPU has its activations' form, or f8 (e4m3); i8 has a scale per token and KV head, on the CPU only. */
export type KvCacheDtype = 'f32' | 'f16' | 'bf16' | 'i8' | 'f8';
/**
 * For tests: `reference` is the naive single-threaded specification, `emulated` the CUDA kernels in the
 * emulator.
 */
export type Backend = 'cpu' | 'cuda' | 'reference' | 'emulated';
export type CpuVariant = 'amx' | 'avx512' | 'avx2' | 'portable';

export interface NativeModelOptions {
  backend: Backend;
  /** null picks the best the machine has. */
  cpuVariant: CpuVariant | null;
  /** On the CPU: a matmul may round its inputs, to 8 bits in front of integer weights. */
  roundsActivations: boolean;
  /**
   * `auto` rounds the output head of a model in integers to 8 bits, where activations are; `int8` rounds every
   * matrix (CPU).
   */
  quantization: 'none' | 'auto' | 'int8';
  /** Form the matrices are kept in; null keeps the file's. */
  dtype: WeightDtype | null;
  kvCacheDtype: KvCacheDtype;
  /** Tokens per KV block: 8, 16 or 32. */
  blockSize: number;
  /** R: rows of the block table. */
  maxNumSeqs: number;
  /** T: tokens in one step at most. */
  maxNumBatchedTokens: number;
  /** B * blockSize >= maxModelLen. */
  maxModelLen: number;
  /** K: alternatives reported per logits row at most. */
  maxLogprobs: number;
  /** Adapter slots. */
  maxLoras: number;
  /** Threads that compute, the caller's own included. */
  threads: number;
  /** Where packed weights are read from, and kept; null is nowhere. */
  packedCache: PackedCache | null;
  /** The core that each thread is pinned to, the caller first; empty pins none. */
  cpuAffinity: readonly number[];
  /** A request's tokens never depend on its neighbours; always so on the CPU, slower on a GPU. */
  batchInvariant: boolean;
  /** Run the largest step, and each step that is recorded, before the first request (GPUs). */
  warmUp: boolean;
  /** Keep every raw logit of a step readable through lastLogits; for tests and tools. */
  keepLogits: boolean;
  /** Seed of dummy weights. */
  seed: number;
}

/** A file of packed weights; native/packed_cache.h says what is in it. */
export interface PackedCache {
  path: string;
  /** What the weights were made of: a hash, in hexadecimal. */
  key: string;
  /** The file's permissions. */
  mode: number;
}

/** What became of it, in a line for whoever asked for it. */
export interface PackedCacheReport {
  /** It could not be used as it was, or not be written. */
  isProblem: boolean;
  text: string;
}

/**
 * Views of the arena that native/batch.h lays out. Written before a step, read after it; never reallocated
 * except tokenCount*.
 */
export interface BatchArrays {
  /** [T] input token of each row of the step; -1 - r is what row r of the step launched before samples. */
  tokenIds: Int32Array;
  /** [T] its position in its sequence. */
  positions: Int32Array;
  /** [T] block * blockSize + offset where its K and V go; -1 writes nothing. */
  slotMapping: Int32Array;
  /** [N+1] sequence i owns tokens [queryStartLoc[i], queryStartLoc[i+1]). */
  queryStartLoc: Int32Array;
  /** [N] tokens in the KV cache after this step's writes. */
  contextLens: Int32Array;
  /** [N] row of the block table that sequence i owns. */
  seqRows: Int32Array;
  /** [R*B] persistent, row-major. */
  blockTable: Int32Array;
  /** [N] adapter slot, -1 for none. */
  loraRows: Int32Array;
  /** [R] index into T of each token whose hidden state is wanted. */
  hiddenRows: Int32Array;
  /** [L] index into T of each token whose logits are wanted. */
  logitsRows: Int32Array;
  /** [L] report the logprob of this token; -1 samples one and reports that. */
  targetTokenIds: Int32Array;
  /** [L] -1 no logprobs, 0 of the sampled or target token only, k > 0 also the k likeliest. */
  numLogprobs: Int32Array;
  /** [L] 0 is greedy. */
  temperature: Float32Array;
  topP: Float32Array;
  minP: Float32Array;
  /** [L] 0 is off. */
  topK: Int32Array;
  /** [L*2] key of the counter-based RNG (low, high word); the counter is the token's position. */
  seeds: Uint32Array;
  /** [L] 1 is off. */
  repetitionPenalty: Float32Array;
  /** [L] 0 is off. */
  presencePenalty: Float32Array;
  frequencyPenalty: Float32Array;
  /** [L+1] row l's seen tokens are entries [tokenCountStart[l], tokenCountStart[l+1]) of the next two. */
  tokenCountStart: Int32Array;
  /**
   * [P] distinct token ids of prompt and output, and at the end of a row perhaps one more, -1 - r as in
   * tokenIds, with count 1. P grows through NativeModel.reserveTokenCounts.
   */
  tokenCountIds: Int32Array;
  /** [P] occurrences in the output; 0 means "in the prompt only". */
  tokenCounts: Int32Array;
  /** [L+1] like tokenCountStart, for logit_bias. */
  logitBiasStart: Int32Array;
  /** [R * maxLogitBias] */
  logitBiasIds: Int32Array;
  /** [R * maxLogitBias] added to the logit; -Infinity forbids the token. */
  logitBiasValues: Float32Array;
  /** [L] row of grammarBitmask, -1 for none. */
  grammarRows: Int32Array;
  /** [R, ceil(V / 32)] bit i % 32 of word i / 32: the grammar allows token i. */
  grammarBitmask: Uint32Array;
  /** out [L] the sampled token (or the target token). */
  sampledTokenIds: Int32Array;
  /** out [L] its log-probability under the raw logits, where numLogprobs >= 0. */
  sampledLogprobs: Float32Array;
  /** out [L] its rank among the raw logits, 1 is likeliest, where numLogprobs >= 0. */
  sampledRanks: Int32Array;
  /** out [L*K] best first; row l's first numLogprobs[l] entries are valid. */
  topTokenIds: Int32Array;
  topLogprobs: Float32Array;
  /** out [R*H] of each of hiddenRows, after the last norm. */
  hiddenStates: Float32Array;
}

/** Entries of logit_bias per sequence at most (min_tokens' masked stop tokens included). */
export const maxLogitBias = 1024;

export interface NativeMemory {
  /** Bytes of weights, mapped files included. */
  weightBytes: number;
  /** Bytes one KV block takes over all layers. */
  kvBytesPerBlock: number;
  /** Bytes of work buffers and arena. */
  workspaceBytes: number;
  /** A GPU's memory, and what is left of it; 0 on the CPU. */
  totalBytes: number;
  freeBytes: number;
}

/** One opened model. Not shareable between threads; every call but `launch` blocks until it is done. */
export interface NativeModel {
  /** The kernels in use, e.g. "cpu avx512" or "reference". */
  readonly description: string;
  readonly memory: NativeMemory;
  /** Null when no weights were packed, or no file was asked for. */
  readonly packedCache: PackedCacheReport | null;
  readonly batch: BatchArrays;
  /**
   * Before the first step. Block 0 is the null block, so numBlocks - 1 are usable. Throws when memory is
   * short.
   */
  allocateKvCache(numBlocks: number): void;
  /** Gives its memory back. No step may be under way, nor be launched before there is a cache again. */
  freeKvCache(): void;
  /** `launch` returns while a device computes; else the step is done when it does. */
  readonly isAsync: boolean;
  /**
   * Starts one step over the first numTokens/numSeqs/numLogitsRows/numHiddenRows entries of the batch, whose
   * inputs may be written again when it returns. At most two steps may be launched and not yet collected.
   * Throws on broken invariants only.
   */
  launch(numTokens: number, numSeqs: number, numLogitsRows: number, numHiddenRows?: number): void;
  /**
   * The same in two calls: what the layers do with the tokens, and what becomes of the rows whose logits are
   * wanted. The arrays of rows are read by `sample` alone and may be filled in between; those of tokens and
   * sequences stay as they are until then. What was launched before may be collected in between.
   */
  forward(numTokens: number, numSeqs: number): void;
  sample(numLogitsRows: number, numHiddenRows: number): void;
  /** Waits for the oldest launched step; its outputs stand in the batch until the next collect. */
  collect(): void;
  /** Copies whole KV blocks over all layers; pairs = [from0, to0, from1, to1, ...]. */
  copyBlocks(pairs: Int32Array): void;
  /** Makes room for at least `entries` token counts; replaces batch.tokenCountIds and batch.tokenCounts. */
  reserveTokenCounts(entries: number): void;
  /** Puts an adapter into a slot, in place of what was there. Between steps only; copies the arrays. */
  loadAdapter(slot: number, tensors: readonly AdapterTensor[]): void;
  unloadAdapter(slot: number): void;
  /** From now on a step keeps the inputs of this layer's matrices readable. For quantisation. */
  capture(layer: number): void;
  /** [numTokens of the last step, inputs] of the matrix in this slot of the captured layer. */
  captured(slot: LayerSlot): Float32Array;
  /** Raw logits of the last step's row, [vocabSize], before penalties. Needs keepLogits. */
  lastLogits(row: number): Float32Array;
  /** Frees everything. Later calls throw. */
  close(): void;
}

export interface CpuFeatures {
  /** Variants this machine can run, best first. */
  variants: CpuVariant[];
  /** Names of the instruction sets found, e.g. avx512f, avx512_vnni. */
  instructionSets: string[];
}

export interface CudaDevice {
  name: string;
  /** E.g. "9.0". */
  computeCapability: string;
  /** Whether there are kernels for it. */
  isSupported: boolean;
  numMultiprocessors: number;
  freeBytes: number;
  totalBytes: number;
}

export interface CudaDevices {
  /** Whether quire was built with CUDA. */
  isBuilt: boolean;
  devices: CudaDevice[];
  /** As CUDA counts: 13000 is 13.0; 0 without a driver. */
  driverVersion: number;
  /** Why there are none; empty when there are. */
  problem: string;
}

/** One op of the CPU at one shape, to be timed; native/op_bench.h says what the fields are. */
export interface NativeOpBench {
  op: string;
  form: string;
  group: number;
  outputs: number;
  inputs: number;
  numHeads: number;
  numKvHeads: number;
  headSize: number;
  context: number;
  rows: readonly number[];
  seconds: number;
  threads: number;
  roundsActivations: boolean;
  cpuVariant: CpuVariant | null;
}

/** What the CPU's cores can do at best. */
export interface CpuRoofs {
  /** GB/s from memory, each thread front to back. */
  readLinear: number;
  /** GB/s from memory, each thread from 16 places at once. */
  readStreams: number;
  /** 1e9 multiplications and additions a second of 8-bit integers. */
  int8Dot: number;
  /** Of pairs of bf16; 0 where there is no instruction. */
  bf16Dot: number;
  /** Of floats. */
  f32Fma: number;
}

interface Addon {
  findDevices?(): Omit<CudaDevices, 'isBuilt'>;
  cpuFeatures(): CpuFeatures;
  openModel(
    config: ModelConfig,
    files: ModelFiles,
    options: NativeModelOptions,
    beside: NativeModel | null,
  ): NativeModel;
}

/** The CPU's own. */
interface CpuAddon extends Addon {
  benchOp(bench: NativeOpBench): number[];
  cpuRoofs(options: { threads: number }): CpuRoofs;
}

const require = createRequire(import.meta.url);
// The package root is one level up from engine/ and two from dist/engine/.
const root = fileURLToPath(new URL(import.meta.url.includes('/dist/') ? '../..' : '..', import.meta.url));

function loadAddon(backend: Backend): Addon {
  if (backend === 'emulated' || backend === 'cuda') {
    return require(`${root}/native/build/Release/quire_${backend}.node`) as Addon;
  }
  return require('node-gyp-build')(`${root}/native`) as Addon;
}

export function cpuFeatures(): CpuFeatures {
  return loadAddon('cpu').cpuFeatures();
}

/** Median milliseconds of a call for each of the rows. Blocks. */
export function benchOp(bench: NativeOpBench): number[] {
  return (loadAddon('cpu') as CpuAddon).benchOp(bench);
}

/** Takes some seconds and 512 MiB. */
export function measureCpuRoofs(threads: number): CpuRoofs {
  return (loadAddon('cpu') as CpuAddon).cpuRoofs({ threads });
}

/** The GPUs of this machine, or why none can be used. */
export function findCudaDevices(): CudaDevices {
  const none = (isBuilt: boolean, problem: string) => ({ isBuilt, devices: [], driverVersion: 0, problem });
  if (!existsSync(`${root}/native/build/Release/quire_cuda.node`)) {
    return none(false, 'quire was built without CUDA (QUIRE_CUDA=1 npm rebuild builds it)');
  }
  try {
    const found = loadAddon('cuda').findDevices?.();
    return found === undefined
      ? none(true, 'the CUDA addon is not of this version')
      : { isBuilt: true, ...found };
  } catch (error) {
    return none(true, error instanceof Error ? error.message.split('\n')[0] : String(error));
  }
}

/** On a CPU it computes with the threads of `beside`, a model whose steps never overlap with its own. */
export function openNativeModel(
  config: ModelConfig,
  files: ModelFiles,
  options: NativeModelOptions,
  beside: NativeModel | null = null,
): NativeModel {
  return loadAddon(options.backend).openModel(config, files, options, beside);
}
