// Answers that end before their end, for clients whose API has no word for it.

import type { CompletionDelta } from '../engine/engine.ts';
import type { Context } from './context.ts';
import { ApiError } from './errors.ts';

/** Why the delta is the last although the model has not finished, or null. */
export function brokenOff(
  { isDraining }: Context,
  { finishReason, stopReason }: Pick<CompletionDelta, 'finishReason' | 'stopReason'>,
): ApiError | null {
  if (finishReason === 'error') return new ApiError('internal_error', 'internal error');
  if (finishReason !== 'abort') return null;
  if (stopReason !== null)
    return new ApiError('unsupported_value', `the answer was broken off: ${stopReason}`);
  return isDraining()
    ? new ApiError('draining', 'the server is shutting down')
    : new ApiError('conflict', 'an operator ended the request');
}
