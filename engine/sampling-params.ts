// How one request wants its tokens chosen. Names and defaults are vLLM's; the server maps OpenAI's fields
// onto this.

import type { ReasoningParams } from './reasoning.ts';

export interface SamplingParams {
  /** Completions per prompt, 1..maxN. Choice i samples with seed + i. */
  n: number;
  /**
   * Not sampled but searched: the n likeliest outputs of a search with n beams, best first. Of the fields
   * below maxTokens, ignoreEos, stopTokenIds, logprobs and those of the text count. Null samples.
   */
  beams: { lengthPenalty: number } | null;
  /** 0 is greedy, otherwise > 0, at most 2. */
  temperature: number;
  /** Nucleus mass in (0, 1]; 1 is off. */
  topP: number;
  /** Keep the k likeliest tokens; 0 is off. */
  topK: number;
  /** Keep tokens at least minP times as likely as the likeliest, in [0, 1]; 0 is off. */
  minP: number;
  /**
   * Divides positive and multiplies negative logits of every token seen in prompt or output; > 0, 1 is off.
   */
  repetitionPenalty: number;
  /** Subtracted once from the logit of every token in the output, in [-2, 2]. */
  presencePenalty: number;
  /** Subtracted per occurrence in the output, in [-2, 2]. */
  frequencyPenalty: number;
  /** Token id -> added to its logit. */
  logitBias: ReadonlyArray<readonly [tokenId: number, bias: number]>;
  /** Sequences of tokens that the output never completes; each has at least 1. */
  badWords: ReadonlyArray<readonly number[]>;
  /** The output has no other tokens, its end included; at least 1. Null allows all. */
  allowedTokenIds: readonly number[] | null;
  /**
   * How the output's reasoning begins and ends: it may be limited, and a grammar holds what comes after it.
   * Null leaves it to the model, and a grammar holds all of the output.
   */
  reasoning: ReasoningParams | null;
  /** int64; null draws a fresh one. */
  seed: bigint | null;
  /** Output tokens at most; null fills the context. */
  maxTokens: number | null;
  /** No end-of-sequence or stop token before this many output tokens. */
  minTokens: number;
  /** Do not stop at the model's own end-of-sequence tokens. */
  ignoreEos: boolean;
  /** Strings that end the output; matched on the detokenized text. */
  stop: readonly string[];
  /** Token ids that end the output, beside the model's own. */
  stopTokenIds: readonly number[];
  /** Keep the stop string (or stop token's text) in the output. */
  includeStopStrInOutput: boolean;
  /** Leave special tokens out of the text. */
  skipSpecialTokens: boolean;
  /** Special tokens, by their text, that stay in the text even so. */
  keptSpecialTokens: readonly string[];
  /** Report how many characters each output token adds to the text (CompletionDelta.textLengths). */
  textLengths: boolean;
  /**
   * Alternatives reported per output token, 0..maxLogprobs; 0 reports the sampled token alone; null reports
   * nothing.
   */
  logprobs: number | null;
  /** The same for the tokens of the prompt. */
  promptLogprobs: number | null;
}

export const defaultSamplingParams: SamplingParams = {
  n: 1,
  beams: null,
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  badWords: [],
  allowedTokenIds: null,
  reasoning: null,
  seed: null,
  maxTokens: null,
  minTokens: 0,
  ignoreEos: false,
  stop: [],
  stopTokenIds: [],
  includeStopStrInOutput: false,
  skipSpecialTokens: true,
  keptSpecialTokens: [],
  textLengths: false,
  logprobs: null,
  promptLogprobs: null,
};
