// What a step reports, and how it is read out of the arena.

import type { StepOutput, TokenLogprobs } from './messages.ts';
import type { BatchArrays } from './native.ts';
import type { StepStats } from './step-stats.ts';

/** Nothing has come of the step. */
export function emptyOutput(timeMs: number, stats: StepStats): StepOutput {
  return {
    type: 'step',
    timeMs,
    handles: new Int32Array(0),
    tokenIds: new Int32Array(0),
    prefilled: [],
    logprobs: [],
    promptLogprobs: [],
    hiddenStates: [],
    finished: [],
    controls: [],
    stats,
  };
}

/** Of the token that a row sampled, or was asked about, and the numTop likeliest; maxLogprobs have room. */
export function readLogprobs(
  batch: BatchArrays,
  row: number,
  numTop: number,
  maxLogprobs: number,
): TokenLogprobs {
  const first = row * maxLogprobs;
  return {
    tokenId: batch.sampledTokenIds[row],
    logprob: batch.sampledLogprobs[row],
    rank: batch.sampledRanks[row],
    topTokenIds: Array.from(batch.topTokenIds.subarray(first, first + numTop)),
    topLogprobs: Array.from(batch.topLogprobs.subarray(first, first + numTop)),
  };
}
