// How many tokens may be guessed for a request in the next step.

import { maxLogitBias } from '../native.ts';
import type { Request } from '../request.ts';

/** 0 when what may come hangs on each token before it. */
export function draftLimit(request: Request, maxTokens: number): number {
  const { spec, reasoning } = request;
  if (spec.grammar !== null) return 0;
  // It must be ready to sample, and its newest token be known.
  if (request.numPendingTokens > 0 || request.numMissingTokens !== 1) return 0;
  // The step yields one token more than it verifies.
  const numLeft = spec.maxTokens - request.numOutputTokens - 1;
  // Each of its rows has all of the biases, and the batch has room for so many of a request.
  const numRows = Math.floor(maxLogitBias / (numBiases(request) + 1));
  const limit = Math.max(0, Math.min(maxTokens, numLeft, numRows - 1));
  return reasoning?.dependsOn(limit) === true ? 0 : limit;
}

function numBiases({ spec }: Request): number {
  const { logitBias, eosTokenIds, stopTokenIds, badWords } = spec;
  return logitBias.length + eosTokenIds.length + stopTokenIds.length + badWords.length;
}
