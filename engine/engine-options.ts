// What an engine may be opened with, and what its thread makes of it.

import { placeThreads } from './cpu-cores.ts';
import type { EngineObserver } from './generation.ts';
import type { EngineThreadOptions } from './messages.ts';
import { ModelError } from './model-error.ts';
import type { LoadedModel } from './model-files.ts';
import { type Backend, type CudaDevices, findCudaDevices, type NativeModelOptions } from './native.ts';
import { draftFileOf, packedCacheOf } from './packed-cache.ts';
import type { SpeculativeConfig } from './speculation/speculative-config.ts';

export interface EngineOptions {
  /** Folder with config.json, tokenizer.json and *.safetensors; config.json suffices for loadFormat `dummy`. */
  model: string;
  /** `dummy` makes seeded random weights from config.json alone. */
  loadFormat?: 'auto' | 'dummy';
  /**
   * `auto`, the default, is a GPU where there is one that can be used, else the CPU. For tests: `reference` is
   * the naive specification, `emulated` the CUDA kernels on the CPU. `null` answers tokens without arithmetic,
   * to measure everything else.
   */
  backend?: 'auto' | 'cpu' | 'cuda' | 'reference' | 'emulated' | 'null';
  /** Share of a GPU's memory that weights, buffers and KV cache may take together. Default 0.9. */
  gpuMemoryUtilization?: number;
  /** How long a step of the `null` backend takes, asleep, so that it is paced like a model. Default 0. */
  nullStepMs?: number;
  /** Form of the weights in memory; `auto` keeps the file's. */
  dtype?: 'auto' | 'float32' | 'bfloat16' | 'float16';
  /**
   * On the CPU. `int8`, the default, rounds what goes into a matmul with integer weights to 8 bits, per token
   * and group; `f32` rounds nothing.
   */
  cpuActivations?: 'f32' | 'int8';
  /**
   * `auto`, the default, keeps the file's weights, but for the output head of a model in integers, which
   * becomes 8 bits where activations do. `int8` rounds every matrix (CPU). `none` rounds nothing.
   */
  quantization?: 'none' | 'auto' | 'int8';
  /**
   * `auto` is float32 for float32 weights and bfloat16 otherwise; on a GPU, what it computes in. `fp8` (e4m3)
   * is for GPUs, `int8_per_token_head` (a scale per token and KV head) for the CPU.
   */
  kvCacheDtype?: 'auto' | 'float32' | 'float16' | 'bfloat16' | 'int8_per_token_head' | 'fp8';
  /** Prompt plus output tokens of one request; default the model's own limit. */
  maxModelLen?: number | null;
  /** Requests in one step. Default 256. */
  maxNumSeqs?: number;
  /** Tokens in one step. Default 2048. */
  maxNumBatchedTokens?: number;
  /** Prefill tokens of one request in one step; 0 is no limit but maxNumBatchedTokens. */
  longPrefillTokenThreshold?: number;
  /** Tokens per KV block: 8, 16 or 32. Default 16. */
  blockSize?: number;
  /**
   * Bytes for the KV cache; null takes what maxNumSeqs * maxModelLen could use, at most 40% of free memory.
   */
  kvCacheBytes?: number | null;
  /** Usable KV blocks, exactly; overrides kvCacheBytes. */
  numBlocksOverride?: number | null;
  enablePrefixCaching?: boolean;
  /** Alternatives per token a request may ask for. Default 20. */
  maxLogprobs?: number;
  /** Adapters that may run in one step. Default 4. */
  maxLoras?: number;
  /** Adapters in host memory, those in slots included. Default 64. */
  maxCpuLoras?: number;
  /** Rank of an adapter at most, up to 512. Default 64. */
  maxLoraRank?: number;
  /**
   * File that the model's packed weights are kept in for the next start (CPU), or `auto` for one beside it; null,
   * the default, keeps none. A draft model's are kept beside that one, or in a file with `.draft` behind its name.
   */
  packedCache?: string | null;
  /** Threads that compute; null is one per core. */
  threads?: number | null;
  /** Cores, as in `0-3,8`, that the computing threads are pinned to, one each; default none is pinned. */
  cpuAffinity?: string | null;
  /**
   * On a GPU, fixes every order of additions, so that a request's tokens never depend on its neighbours:
   * slower. On the CPU it is always so.
   */
  batchInvariant?: boolean;
  /** Of dummy weights and of requests that bring none. Null draws one. */
  seed?: number | null;
  /** CPU kernels to use; null picks the best this machine has. */
  cpuVariant?: 'amx' | 'avx512' | 'avx2' | 'portable' | null;
  /** Jinja text that replaces the model's own chat template. */
  chatTemplate?: string | null;
  /** A schema, regex or grammar that takes longer to compile is refused. Default 10,000. */
  grammarTimeoutMs?: number;
  /**
   * Guess tokens and verify them, several a step. Changes no token on the CPU; null, the default, for none.
   */
  speculation?: SpeculativeConfig | null;
  observer?: EngineObserver;
}

function contextLength(asked: number | null, model: LoadedModel): number {
  const own = model.config.maxPositionEmbeddings;
  if (asked !== null && asked > own) {
    throw new ModelError(`--max-model-len: found ${asked}, the model was made for at most ${own}`);
  }
  return asked ?? own;
}

/** Where a model runs best on this machine. */
export function findBackend(gpus: CudaDevices): 'cuda' | 'cpu' {
  return gpus.devices.some(({ isSupported }) => isSupported) ? 'cuda' : 'cpu';
}

type Limits = Pick<
  NativeModelOptions,
  'blockSize' | 'maxModelLen' | 'maxNumSeqs' | 'maxNumBatchedTokens' | 'maxLogprobs' | 'maxLoras'
>;

/** How a model is opened on a backend; `null` opens none and gets what the CPU would. */
function nativeOptions(
  options: EngineOptions,
  { config }: LoadedModel,
  backend: Backend | 'null',
  limits: Limits,
): NativeModelOptions {
  const weightDtypes = { auto: null, float32: 'f32', bfloat16: 'bf16', float16: 'f16' } as const;
  const isGpu = backend === 'cuda' || backend === 'emulated';
  // A GPU computes in 16 bits: what the file has, and f16 for f32, as vLLM does.
  const gpuDtype = config.weightDtype === 'bf16' ? 'bf16' : 'f16';
  const kvDtypes = {
    auto: config.weightDtype === 'f32' ? 'f32' : 'bf16',
    float32: 'f32',
    float16: 'f16',
    bfloat16: 'bf16',
    int8_per_token_head: 'i8',
    fp8: 'f8',
  } as const;
  const kvCacheDtype = options.kvCacheDtype ?? 'auto';
  if (kvCacheDtype === (isGpu ? 'int8_per_token_head' : 'fp8') && backend !== 'null') {
    const allowed = Object.keys(kvDtypes).filter((name) => name !== kvCacheDtype);
    throw new ModelError(
      `--kv-cache-dtype: found ${kvCacheDtype}, allowed on ${isGpu ? 'a GPU' : 'the CPU'}: ${allowed.join(', ')}`,
    );
  }
  return {
    backend: backend === 'null' ? 'cpu' : backend,
    cpuVariant: options.cpuVariant ?? null,
    dtype: weightDtypes[options.dtype ?? 'auto'] ?? (isGpu ? gpuDtype : null),
    roundsActivations: options.cpuActivations !== 'f32',
    quantization: options.quantization ?? 'auto',
    kvCacheDtype: kvDtypes[kvCacheDtype],
    ...placeThreads(options.threads ?? null, options.cpuAffinity ?? null),
    seed: options.seed ?? 0,
    batchInvariant: options.batchInvariant ?? false,
    warmUp: backend === 'cuda',
    packedCache: null,
    keepLogits: false,
    ...limits,
  };
}

/** A step of the draft model has at least as many tokens as it needs to go on with all requests. */
const minDraftStepTokens = 512;

/** It has the main model's blocks and rows, and shorter steps, which nobody waits for long. */
function draftLimits(limits: Limits): Limits {
  const wanted = Math.max(minDraftStepTokens, 2 * limits.maxNumSeqs);
  return {
    ...limits,
    maxNumBatchedTokens: Math.min(limits.maxNumBatchedTokens, wanted),
    maxLogprobs: 0,
    maxLoras: 0,
  };
}

/** Throws ModelError when the options ask for more than the model has. `draft` is a speculation's model. */
export function threadOptions(
  options: EngineOptions,
  model: LoadedModel,
  draft: LoadedModel | null,
): Omit<EngineThreadOptions, 'signals'> {
  const backend =
    options.backend === undefined || options.backend === 'auto'
      ? findBackend(findCudaDevices())
      : options.backend;
  const limits = {
    blockSize: options.blockSize ?? 16,
    maxModelLen: contextLength(options.maxModelLen ?? null, model),
    maxNumSeqs: options.maxNumSeqs ?? 256,
    maxNumBatchedTokens: options.maxNumBatchedTokens ?? 2048,
    maxLogprobs: options.maxLogprobs ?? 20,
    maxLoras: options.maxLoras ?? 4,
  };
  const openable = (loaded: LoadedModel, itsLimits: Limits) => {
    const native = nativeOptions(options, loaded, backend, itsLimits);
    const asked = backend === 'cpu' ? (options.packedCache ?? null) : null;
    native.packedCache = packedCacheOf(loaded === draft ? draftFileOf(asked) : asked, loaded, native);
    return { config: loaded.config, files: loaded.files, options: native };
  };
  const main = openable(model, limits);
  return {
    model: backend === 'null' ? null : main,
    draftModel: draft === null ? null : openable(draft, draftLimits(limits)),
    nullStepMs: options.nullStepMs ?? 0,
    vocabSize: model.config.vocabSize,
    hiddenSize: model.config.hiddenSize,
    longPrefillTokenThreshold: options.longPrefillTokenThreshold ?? 0,
    kvCacheBytes: options.kvCacheBytes ?? null,
    numBlocksOverride: options.numBlocksOverride ?? null,
    enablePrefixCaching: options.enablePrefixCaching ?? true,
    gpuMemoryUtilization: options.gpuMemoryUtilization ?? 0.9,
    speculation: options.speculation ?? null,
    ...limits,
  };
}
