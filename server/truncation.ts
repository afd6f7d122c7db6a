// truncate_prompt_tokens: long prompts lose tokens instead of being refused.

import type { EncodedPrompt, EngineApi } from '../engine/engine.ts';
import { ApiError } from './errors.ts';
import type { SamplingFields } from './schemas.ts';

type TruncationFields = Pick<
  SamplingFields,
  'truncate_prompt_tokens' | 'truncation_side' | 'skip_special_tokens'
>;

/** `maxTokens`: output tokens that -1 leaves room for; null asks for one. */
export function truncated(
  engine: EngineApi,
  prompt: EncodedPrompt,
  fields: TruncationFields,
  maxTokens: number | null,
): EncodedPrompt {
  const asked = fields.truncate_prompt_tokens ?? null;
  if (asked === null) return prompt;
  if (asked === 0) {
    const field = 'truncate_prompt_tokens';
    throw new ApiError('invalid_value', `${field}: found 0, allowed: -1 or at least 1`, field);
  }
  const room = Math.max(1, engine.description.maxModelLen - (maxTokens ?? 1));
  const numKept = asked === -1 ? room : asked;
  if (prompt.tokenIds.length <= numKept) return prompt;
  const tokenIds =
    fields.truncation_side === 'right'
      ? prompt.tokenIds.slice(0, numKept)
      : prompt.tokenIds.slice(prompt.tokenIds.length - numKept);
  return { tokenIds, text: engine.decode(tokenIds, fields.skip_special_tokens ?? true) };
}
