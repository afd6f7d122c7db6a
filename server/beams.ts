// use_beam_search and best_of: what they go together with.

import type { CompletionDelta } from '../engine/engine.ts';
import { ApiError } from './errors.ts';
import type { CompletionRequest, SamplingFields } from './schemas.ts';
import { shown } from './validation.ts';

/** Fields that change which tokens are likely, or say something of a search that it does not know. */
const besideBeams: ReadonlyArray<readonly [field: string, isUsed: (value: unknown) => boolean]> = [
  ['logit_bias', (value) => Object.keys(value as object).length > 0],
  ['bad_words', (value) => (value as unknown[]).length > 0],
  ['allowed_token_ids', () => true],
  ['presence_penalty', (value) => value !== 0],
  ['frequency_penalty', (value) => value !== 0],
  ['repetition_penalty', (value) => value !== 1],
  ['min_tokens', (value) => value !== 0],
  ['stop', (value) => (value as string | string[]).length > 0],
  ['prompt_logprobs', () => true],
  ['thinking_token_budget', (value) => value !== -1],
  ['thinking_budget', (value) => value !== -1],
  ['best_of', () => true],
  ['echo', (value) => value !== false],
];

/** The beams of a request, or null when it samples. Throws for what beams cannot do. */
export function wantedBeams(body: SamplingFields, isUnderGrammar: boolean): { lengthPenalty: number } | null {
  if (body.use_beam_search !== true) return null;
  const fields = body as Record<string, unknown>;
  for (const [field, isUsed] of besideBeams) {
    const value = fields[field];
    if (value == null || !isUsed(value)) continue;
    const message = `${field}: found ${shown(value)}, supported with use_beam_search: requests without it`;
    throw new ApiError('unsupported_value', message, field);
  }
  if (isUnderGrammar) {
    const message = 'use_beam_search: found true, supported: false for an answer that a grammar holds';
    throw new ApiError('unsupported_value', message, 'use_beam_search');
  }
  return { lengthPenalty: body.length_penalty ?? 1 };
}

/** Choices that are made for each prompt, of which the n best are given. */
export function wantedBestOf(body: CompletionRequest): number {
  const n = body.n ?? 1;
  const bestOf = body.best_of ?? n;
  if (bestOf < n)
    throw new ApiError('invalid_value', `best_of: found ${bestOf}, allowed: at least n, ${n}`, 'best_of');
  if (bestOf > n && body.stream === true) {
    const message = `best_of: found ${bestOf}, allowed with stream: n, ${n}`;
    throw new ApiError('invalid_value', message, 'best_of');
  }
  return bestOf;
}

/** The n choices with the highest log-probability per token, best first. Each is all deltas of a choice. */
export function bestChoices(choices: readonly CompletionDelta[][], n: number): CompletionDelta[][] {
  if (choices.length === n) return [...choices];
  const scored = choices.map((deltas) => ({ deltas, score: meanLogprob(deltas) }));
  return scored
    .sort((a, b) => b.score - a.score)
    .slice(0, n)
    .map(({ deltas }) => deltas);
}

function meanLogprob(deltas: readonly CompletionDelta[]): number {
  const logprobs = deltas.flatMap((delta) => delta.logprobs ?? []);
  if (logprobs.length === 0) return Number.NEGATIVE_INFINITY;
  return logprobs.reduce((sum, { logprob }) => sum + logprob, 0) / logprobs.length;
}
