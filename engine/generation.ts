// What a caller of the engine asks for and gets back. The server and embedders see these types and engine.ts,
// no more.

import type { Grammar } from './grammar/grammar.ts';
import type { FinishReason, TokenLogprobs } from './messages.ts';
import type { SamplingParams } from './sampling-params.ts';
import type { StepStats } from './step-stats.ts';

export interface GenerateRequest {
  /** For logs; need not be unique. */
  requestId: string;
  /**
   * At least one id, each in [0, vocabSize). With maxTokens it must leave room in the context (see
   * Engine.generate).
   */
  promptTokenIds: Int32Array;
  sampling: SamplingParams;
  /** int32, lower is served earlier. Default 0. */
  priority?: number;
  /** What the output must match, from Engine.compileGrammar; free text when absent. */
  grammar?: Grammar | null;
  /** Name of an adapter that Engine.loadAdapter loaded; the model alone when absent. */
  adapter?: string | null;
  /** Requests share prefix-cache blocks only under equal salts. Default ''. */
  cacheSalt?: string;
  /** Monotonic ms (engine/clock.ts) at which the client's request arrived; now when absent. */
  arrivalMs?: number;
  /** Aborts every choice; their blocks are free within one step. */
  signal?: AbortSignal;
}

/** The hidden state of the last token of a prompt; fields as in GenerateRequest. */
export type EmbedRequest = Omit<GenerateRequest, 'sampling' | 'grammar'>;

/**
 * News of one choice since its last delta. Deltas of a slow reader are merged, never queued without bound.
 * tokenIds and logprobs are parallel when logprobs were asked for.
 */
export interface CompletionDelta {
  /** Choice, 0..n-1. */
  index: number;
  /** Text that is certain: no incomplete UTF-8, no possible beginning of a stop string. */
  text: string;
  tokenIds: number[];
  /** Null unless asked for. `text` of each token: see Engine.tokenText. */
  logprobs: TokenLogprobs[] | null;
  /**
   * Null unless asked for. UTF-16 units that each of tokenIds adds to the text, before stop strings are cut
   * off: a character counts for the token that completes it.
   */
  textLengths: number[] | null;
  /** Positions 1.. of the prompt; on the first delta of choice 0 when asked for, else null. */
  promptLogprobs: TokenLogprobs[] | null;
  /** Set on the choice's last delta, exactly once. */
  finishReason: FinishReason | null;
  /** The stop string or stop token id that ended it, else null. */
  stopReason: string | number | null;
  /** Prompt tokens found in the prefix cache. */
  numCachedTokens: number;
}

/** The life of one finished choice, for logs and metrics. Times are monotonic ms. */
export interface RequestRecord {
  requestId: string;
  index: number;
  n: number;
  maxTokens: number;
  numPromptTokens: number;
  numCachedTokens: number;
  numOutputTokens: number;
  numPreemptions: number;
  arrivalMs: number;
  /** Null when it never got so far. */
  scheduledMs: number | null;
  firstTokenMs: number | null;
  lastTokenMs: number | null;
  finishedMs: number;
  finishReason: FinishReason;
}

/** Told of everything the metrics count; every method is called on the HTTP thread. */
export interface EngineObserver {
  onStep?(stats: StepStats): void;
  /** First token of a choice reached the HTTP thread. */
  onFirstToken?(ttftMs: number): void;
  /** Every further token. */
  onInterToken?(itlMs: number): void;
  onFinished?(record: RequestRecord): void;
}
