// What the engine and the store refuse, in the words of the error table, whichever way a request came.

import { AbortedError, EngineEndedError, PromptError } from '../engine/engine.ts';
import { ApiError } from './errors.ts';
import { isFull } from './store/database.ts';

/** Null for what is nobody's but ours. */
export function knownError(error: unknown): ApiError | null {
  if (error instanceof ApiError) return error;
  if (error instanceof EngineEndedError) return new ApiError('engine_dead', error.message);
  if (error instanceof AbortedError) return new ApiError('conflict', 'the request was ended by /abort');
  if (error instanceof PromptError) return new ApiError('invalid_prompt', error.message, 'messages');
  if (isFull(error)) {
    return new ApiError(
      'store_full',
      'the store is full (--max-store-size, or its disk): delete files that are not needed any more',
    );
  }
  return null;
}
