// Answers that end before their end, for clients whose API has no word for it.

import type { CompletionDelta } from '../engine/engine.ts';
import { ApiError } from './errors.ts';

/** Why the delta is the last although the model has not finished, or null. */
export function brokenOff({
  finishReason,
  stopReason,
}: Pick<CompletionDelta, 'finishReason' | 'stopReason'>): ApiError | null {
  if (finishReason === 'error') return new ApiError('internal_error', 'internal error');
  if (finishReason !== 'abort') return null;
  return stopReason === null
    ? new ApiError(
        'draining',
        'the server ended the answer: it is shutting down, or its operator asked for it',
      )
    : new ApiError('unsupported_value', `the answer was broken off: ${stopReason}`);
}
