// What passes between the HTTP thread and the engine thread. Plain data, structured-cloned; token arrays are
// transferred.

import type { Grammar } from './grammar/grammar.ts';
import type { MatcherLane } from './grammar/matcher-messages.ts';
import type { AdapterTensor } from './lora-adapter.ts';
import type { ModelConfig, ModelFiles } from './model-config.ts';
import type { NativeModelOptions, PackedCacheReport } from './native.ts';
import type { ReasoningParams } from './reasoning.ts';
import type { SpeculativeConfig } from './speculation/speculative-config.ts';
import type { StepStats } from './step-stats.ts';

/** Why a request ended. `error` is ours; everything else is normal operation. */
export type FinishReason = 'stop' | 'length' | 'abort' | 'error';

/**
 * One sequence to generate: SamplingParams after defaults, with everything textual (stop strings) left to the
 * detokenizer.
 */
export interface EngineRequest {
  /** Unique among live requests; the engine's own counter, never the client's id. */
  handle: number;
  promptTokenIds: Int32Array;
  /**
   * Monotonic milliseconds (engine/clock.ts) at which the request reached the engine; orders equal
   * priorities.
   */
  arrivalMs: number;
  /** Lower is served earlier, int32; 0 by default. */
  priority: number;
  /** Separates prefix-cache entries; requests share blocks only under equal salts. */
  cacheSalt: string;
  /** Of an adapter that was added; null for the model alone. */
  adapterId: number | null;
  temperature: number;
  topP: number;
  topK: number;
  minP: number;
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  logitBias: ReadonlyArray<readonly [number, number]>;
  badWords: ReadonlyArray<readonly number[]>;
  allowedTokenIds: readonly number[] | null;
  /** How its reasoning ends, where a budget or a grammar must know. */
  reasoning: ReasoningParams | null;
  /** Low and high word. */
  seed: readonly [number, number];
  maxTokens: number;
  minTokens: number;
  /**
   * Tokens that end the output: the model's EOS list (unless ignoreEos). They finish with stopReason null.
   */
  eosTokenIds: readonly number[];
  /** The request's own stop tokens; they finish with stopReason = the id. */
  stopTokenIds: readonly number[];
  /** -1 none, 0 sampled only, k alternatives. */
  numLogprobs: number;
  numPromptLogprobs: number;
  /** What the output must match, after the reasoning where there is any; null for free text. */
  grammar: Grammar | null;
  /** It ends with the hidden state of its last prompt token, and samples nothing. maxTokens is 1 then. */
  wantsHiddenState: boolean;
}

/** What an operator may ask for between two steps. */
export type ControlAction = 'pause' | 'resume' | 'sleep' | 'wakeUp' | 'resetPrefixCache';

export interface ControlResult {
  id: number;
  /** Why it could not be done, or null. */
  problem: string | null;
}

export type ToEngine =
  | { type: 'add'; request: EngineRequest }
  | { type: 'abort'; handles: number[] }
  /** Done, and answered in the next output, when no step is under way. */
  | { type: 'control'; id: number; action: ControlAction }
  | { type: 'addAdapter'; id: number; tensors: AdapterTensor[] }
  /** Requests that use it already run to their end. */
  | { type: 'removeAdapter'; id: number }
  /** A matcher thread has started, or its successor; null when it could not be. */
  | { type: 'matcherLane'; lane: number; thread: MatcherLane | null }
  | { type: 'stop' };

/** Logprobs of one token position. */
export interface TokenLogprobs {
  tokenId: number;
  logprob: number;
  /** 1 is the likeliest token of the vocabulary. */
  rank: number;
  /** Best first. */
  topTokenIds: number[];
  topLogprobs: number[];
}

/** A finished request's own clock, in monotonic milliseconds. */
export interface RequestTimes {
  scheduledMs: number;
  /** Null when it ended before its first token. */
  firstTokenMs: number | null;
  lastTokenMs: number | null;
}

export interface FinishedRequest {
  handle: number;
  reason: FinishReason;
  /** The stop token id when a request's own stop token ended it; a word when its grammar did. */
  stopReason: number | string | null;
  numOutputTokens: number;
  /** null when it never ran. */
  times: RequestTimes | null;
  numPreemptions: number;
}

/** One message per step. handles[i] got tokenIds[i]; a handle occurs once, and more often with drafts. */
export interface StepOutput {
  type: 'step';
  /** Monotonic ms at which the step's tokens were known. */
  timeMs: number;
  handles: Int32Array;
  tokenIds: Int32Array;
  /** Requests whose prefill completed in this step: first-token bookkeeping. */
  prefilled: Array<{ handle: number; numCachedTokens: number; scheduledMs: number }>;
  /** Sparse; only requests that asked. Index into handles. */
  logprobs: Array<{ index: number; token: TokenLogprobs }>;
  /** Prompt logprobs of positions 1..; delivered in order, possibly over several steps. */
  promptLogprobs: Array<{ handle: number; tokens: TokenLogprobs[] }>;
  /** Of requests that wanted one, which end with it. [hiddenSize], after the last norm. */
  hiddenStates: Array<{ handle: number; values: Float32Array }>;
  finished: FinishedRequest[];
  controls: ControlResult[];
  stats: StepStats;
}

export type FromEngine =
  | {
      type: 'ready';
      description: string;
      /** What opening the model and its KV cache took. */
      openMs: number;
      packedCaches: PackedCacheReport[];
      weightBytes: number;
      kvCacheBytes: number;
      numBlocks: number;
      blockSize: number;
      maxModelLen: number;
    }
  | StepOutput
  /** The thread is about to exit. `fatal` before ready is a start error, after it a broken invariant. */
  | { type: 'fatal'; message: string };

/** What a model is opened with. */
export interface OpenableModel {
  config: ModelConfig;
  files: ModelFiles;
  options: NativeModelOptions;
}

/** What the engine thread is started with (workerData). */
export interface EngineThreadOptions {
  /** null runs the null model: tokens without arithmetic, for measuring everything else. */
  model: OpenableModel | null;
  /** That of a speculation with a model. */
  draftModel: OpenableModel | null;
  /** How long a step of the null model takes. */
  nullStepMs: number;
  vocabSize: number;
  hiddenSize: number;
  blockSize: number;
  maxModelLen: number;
  maxNumSeqs: number;
  maxNumBatchedTokens: number;
  /** Prefill tokens one request may take per step; 0 is no limit but the budget. */
  longPrefillTokenThreshold: number;
  /** Bytes for KV blocks; null takes a share of free memory. Ignored when numBlocks is given. */
  kvCacheBytes: number | null;
  /** Exact number of usable KV blocks (tests, --num-gpu-blocks-override); null derives it. */
  numBlocksOverride: number | null;
  enablePrefixCaching: boolean;
  maxLogprobs: number;
  /** Share of a GPU's memory that everything together may take. */
  gpuMemoryUtilization: number;
  maxLoras: number;
  /** How drafts are made; null for none. */
  speculation: SpeculativeConfig | null;
  /** [0] inbox counter for Atomics.wait/notify, [1] heartbeat: loop iterations, [2] 1 while a step runs. */
  signals: SharedArrayBuffer;
}
