// What a request must be like before anything runs for it.

import { RequestError } from './engine-errors.ts';
import type { EmbedRequest, GenerateRequest } from './generation.ts';
import { maxLogitBias } from './native.ts';
import type { SamplingParams } from './sampling-params.ts';

export interface RequestLimits {
  vocabSize: number;
  maxModelLen: number;
  maxLogprobs: number;
  enablePrefixCaching: boolean;
  /** The model's own. */
  eosTokenIds: readonly number[];
}

type PromptLimits = Pick<RequestLimits, 'vocabSize' | 'maxModelLen'>;

function checkTokens(promptTokenIds: Int32Array, { vocabSize }: PromptLimits): void {
  if (promptTokenIds.length === 0)
    throw new RequestError('the prompt has no tokens, at least 1 is needed', 'prompt');
  const outside = promptTokenIds.find((id) => id < 0 || id >= vocabSize);
  if (outside === undefined) return;
  throw new RequestError(
    `token id ${outside} is not in the vocabulary, allowed 0 to ${vocabSize - 1}`,
    'prompt',
  );
}

/** Throws what makes it impossible. The prompt may fill the context. */
export function checkEmbedRequest({ promptTokenIds }: EmbedRequest, limits: PromptLimits): void {
  checkTokens(promptTokenIds, limits);
  if (promptTokenIds.length <= limits.maxModelLen) return;
  throw new RequestError(
    `the prompt has ${promptTokenIds.length} tokens and the context length is ${limits.maxModelLen}`,
    'prompt',
    'context_length_exceeded',
  );
}

/** Output tokens the request may have. Throws what makes it impossible. */
export function checkRequest({ promptTokenIds, sampling }: GenerateRequest, limits: RequestLimits): number {
  const { vocabSize, maxModelLen, maxLogprobs, eosTokenIds } = limits;
  checkTokens(promptTokenIds, limits);
  // The one more is a token that ends the reasoning.
  const { logitBias, stopTokenIds, badWords } = sampling;
  const numBiased = logitBias.length + stopTokenIds.length + eosTokenIds.length + badWords.length + 1;
  if (numBiased > maxLogitBias) {
    throw new RequestError(
      `more than ${maxLogitBias} logit_bias entries, bad words and stop tokens together`,
      'logitBias',
    );
  }
  const room = maxModelLen - promptTokenIds.length;
  if (room < 1) {
    throw new RequestError(
      `the prompt has ${promptTokenIds.length} tokens and the context length is ${maxModelLen}: ` +
        `at most ${maxModelLen - 1} prompt tokens leave room for an answer`,
      'prompt',
      'context_length_exceeded',
    );
  }
  for (const param of ['logprobs', 'promptLogprobs'] as const) {
    const asked = sampling[param];
    if (asked !== null && asked > maxLogprobs) {
      throw new RequestError(`found ${asked}, allowed 0 to ${maxLogprobs}`, param);
    }
  }
  for (const [param, ids] of [
    ['logitBias', sampling.logitBias.map(([id]) => id)],
    ['stopTokenIds', sampling.stopTokenIds],
    ['badWords', sampling.badWords.flat()],
    ['allowedTokenIds', sampling.allowedTokenIds ?? []],
    ['reasoning', reasoningTokenIds(sampling)],
  ] as const) {
    const unknown = ids.find((id) => id < 0 || id >= vocabSize);
    if (unknown !== undefined) {
      throw new RequestError(
        `token id ${unknown} is not in the vocabulary, allowed 0 to ${vocabSize - 1}`,
        param,
      );
    }
  }
  if (sampling.beams !== null) checkBeams(sampling, limits);
  return Math.min(sampling.maxTokens ?? room, room);
}

function reasoningTokenIds({ reasoning }: SamplingParams): number[] {
  if (reasoning === null) return [];
  const { startTokenIds, endTokenIds, leadTokenIds, callTokenIds } = reasoning;
  return [...startTokenIds, ...endTokenIds, ...leadTokenIds, ...callTokenIds];
}

/** Tokens that end an output of the request. */
export function endTokenIds(sampling: SamplingParams, eosTokenIds: readonly number[]): Set<number> {
  return new Set([...sampling.stopTokenIds, ...(sampling.ignoreEos ? [] : eosTokenIds)]);
}

/** A step of the search reads numWanted continuations of each beam, which are log-probabilities. */
function checkBeams(sampling: SamplingParams, limits: RequestLimits): void {
  const { vocabSize, maxLogprobs, enablePrefixCaching, eosTokenIds } = limits;
  if (!enablePrefixCaching)
    throw new RequestError('beam search needs the prefix cache (--enable-prefix-caching)', 'beams');
  const numEnds = endTokenIds(sampling, eosTokenIds).size;
  const most = Math.min(maxLogprobs, vocabSize) - numEnds;
  if (sampling.n <= most) return;
  throw new RequestError(
    `found ${sampling.n} beams with ${numEnds} tokens that end an answer, allowed: together at most ` +
      `${most + numEnds} (--max-logprobs)`,
    'n',
  );
}
