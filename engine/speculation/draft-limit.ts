// How many tokens may be guessed for a request in the next step.

import { maxDraftMasks } from '../grammar/grammar.ts';
import { maxLogitBias } from '../native.ts';
import type { Request } from '../request.ts';

/** `numSpareMasks`: more than each request's own that the step has room for. 0 when nothing may be guessed. */
export function draftLimit(request: Request, maxTokens: number, numSpareMasks: number): number {
  const { spec } = request;
  // What may come first is known alone.
  const isBeginning = request.numHeldTokens === 0 && request.reasoning?.answerStart !== null;
  if (spec.grammar !== null && isBeginning) return 0;
  // It must be ready to sample, and its newest token be known.
  if (request.numPendingTokens > 0 || request.numMissingTokens !== 1) return 0;
  // The step yields one token more than it verifies.
  const numLeft = spec.maxTokens - request.numOutputTokens - 1;
  // Each of its rows has all of the biases, and the batch has room for so many of a request.
  const numRows = Math.floor(maxLogitBias / (numBiases(request) + 1));
  const numMasks = spec.grammar === null ? maxTokens : Math.min(maxDraftMasks, numSpareMasks);
  return Math.max(0, Math.min(maxTokens, numLeft, numRows - 1, numMasks));
}

function numBiases({ spec }: Request): number {
  const { logitBias, eosTokenIds, stopTokenIds, badWords } = spec;
  return logitBias.length + eosTokenIds.length + stopTokenIds.length + badWords.length;
}
