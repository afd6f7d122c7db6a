// thinking_token_budget: what ends the reasoning of an answer when its tokens are spent.

import type { EngineApi, ThinkingLimit } from '../../engine/engine.ts';
import { ApiError } from '../errors.ts';
import type { AnswerContext, AnswerFormat } from './formats.ts';
import { harmonyThinking } from './harmony.ts';

/** Throws unsupported_value when the model does not reason, or marks reasoning by mere words. */
export async function thinkingLimit(
  engine: EngineApi,
  format: AnswerFormat,
  maxTokens: number,
  promptEnd: AnswerContext['promptEnd'],
): Promise<ThinkingLimit | null> {
  const { reasoning, isHarmony } = format;
  const marks = isHarmony
    ? harmonyThinking
    : reasoning && { open: reasoning.opens[0], close: reasoning.closes[0], forced: reasoning.closes[0] };
  const field = 'thinking_token_budget';
  if (marks === null) {
    throw new ApiError(
      'unsupported_value',
      `${field}: found ${maxTokens}, supported: models that reason (--reasoning-parser)`,
      field,
    );
  }
  if (promptEnd === 'after reasoning') return null;
  const [startTokenIds, endTokenIds, forcedTokenIds] = await Promise.all(
    [marks.open, marks.close, marks.forced].map(async (text) =>
      Array.from((await engine.encodeText(text, false)).tokenIds),
    ),
  );
  // Words may be cut into tokens in more ways than one, so their end could be missed.
  if (endTokenIds.length !== 1) {
    throw new ApiError(
      'unsupported_value',
      `${field}: found ${maxTokens}, supported: models that end reasoning with a token of its own`,
      field,
    );
  }
  const isInside = promptEnd === 'in reasoning' || reasoning?.isImplied === true;
  return { maxTokens, isInside, startTokenIds, endTokenIds, forcedTokenIds };
}
