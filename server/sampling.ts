// A request's fields -> SamplingParams: the request's own word, else the model's generation_config, else
// vLLM's default.

import { defaultSamplingParams, type EngineApi, type SamplingParams } from '../engine/engine.ts';
import { ApiError } from './errors.ts';
import type { SamplingFields } from './schemas.ts';
import { shown } from './validation.ts';

/**
 * Fields of OpenAI's or vLLM's that change the answer and are not there yet; sending them is an error, not a
 * silence.
 */
const unsupported: ReadonlyArray<
  readonly [field: string, isUsed: (value: unknown) => boolean, supported: string]
> = [
  ['guided_whitespace_pattern', () => true, 'requests without it'],
  ['best_of', () => true, 'n without best_of'],
  ['suffix', (value) => value !== '', 'requests without it'],
  ['audio', () => true, 'requests without it'],
  ['modalities', (value) => !Array.isArray(value) || value.some((entry) => entry !== 'text'), '["text"]'],
  ['logits_processors', () => true, 'requests without it'],
  ['web_search_options', () => true, 'requests without it'],
  ['logprob_token_ids', () => true, 'requests without it'],
  ['repetition_detection', () => true, 'requests without it'],
  ['prompt_embeds', () => true, 'requests without it'],
  ['chat_template', () => true, "the server's own chat template"],
];

export function refuseUnsupported(body: object): void {
  const fields = body as Record<string, unknown>;
  for (const [field, isUsed, supported] of unsupported) {
    const value = fields[field];
    if (value == null || !isUsed(value)) continue;
    throw new ApiError(
      'unsupported_value',
      `${field}: found ${shown(value)}, supported: ${supported}`,
      field,
    );
  }
}

/** What only the route knows. */
export type WantedOutput = Pick<SamplingParams, 'logprobs' | 'promptLogprobs'> &
  Partial<Pick<SamplingParams, 'n' | 'keptSpecialTokens' | 'textLengths' | 'badWords'>>;

export function toSamplingParams(
  fields: SamplingFields,
  modelDefaults: Partial<SamplingParams>,
  maxTokens: number | null,
  wanted: WantedOutput,
): SamplingParams {
  const base = { ...defaultSamplingParams, ...modelDefaults };
  return {
    n: fields.n ?? 1,
    beams: null,
    temperature: fields.temperature ?? base.temperature,
    topP: fields.top_p ?? base.topP,
    topK: Math.max(0, fields.top_k ?? base.topK),
    minP: fields.min_p ?? base.minP,
    repetitionPenalty: fields.repetition_penalty ?? base.repetitionPenalty,
    presencePenalty: fields.presence_penalty ?? 0,
    frequencyPenalty: fields.frequency_penalty ?? 0,
    logitBias: toLogitBias(fields.logit_bias ?? {}),
    badWords: [],
    allowedTokenIds: fields.allowed_token_ids ?? null,
    reasoning: null,
    seed: toSeed(fields.seed ?? null),
    maxTokens,
    minTokens: toMinTokens(fields.min_tokens ?? 0, maxTokens),
    ignoreEos: fields.ignore_eos ?? false,
    stop: toStop(fields.stop ?? []),
    stopTokenIds: fields.stop_token_ids ?? [],
    includeStopStrInOutput: fields.include_stop_str_in_output ?? false,
    skipSpecialTokens: fields.skip_special_tokens ?? true,
    keptSpecialTokens: [],
    textLengths: false,
    ...wanted,
  };
}

/**
 * The tokens of each word, as it stands and after a space: two ways in which it may come up. Other ways to
 * cut the same text into tokens remain, as in vLLM.
 */
export async function badWordTokens(engine: EngineApi, words: readonly string[]): Promise<number[][]> {
  const texts = words.map((word) => word.trimStart()).flatMap((word) => [word, ` ${word}`]);
  const encoded = await Promise.all(texts.map((text) => engine.encodeText(text, false)));
  const sequences = encoded.map(({ tokenIds }) => Array.from(tokenIds)).filter(({ length }) => length > 0);
  return [...new Map(sequences.map((sequence) => [sequence.join(), sequence])).values()];
}

function toMinTokens(minTokens: number, maxTokens: number | null): number {
  if (maxTokens !== null && minTokens > maxTokens) {
    const allowed = `at most max_tokens, ${maxTokens}`;
    throw new ApiError('invalid_value', `min_tokens: found ${minTokens}, allowed: ${allowed}`, 'min_tokens');
  }
  return minTokens;
}

function toStop(stop: string | readonly string[]): string[] {
  const strings = typeof stop === 'string' ? [stop] : [...stop];
  if (strings.includes(''))
    throw new ApiError('invalid_value', 'stop: found "", allowed: strings with text', 'stop');
  return strings;
}

function toSeed(seed: number | null): bigint | null {
  if (seed === null) return null;
  if (!Number.isInteger(seed) || seed < -(2 ** 63) || seed >= 2 ** 63) {
    throw new ApiError('invalid_value', `seed: found ${seed}, allowed: a whole number of 64 bits`, 'seed');
  }
  return BigInt(seed);
}

function toLogitBias(bias: Record<string, number>): Array<[number, number]> {
  return Object.entries(bias).map(([token, value]) => {
    if (!/^\d{1,10}$/.test(token)) {
      throw new ApiError(
        'invalid_value',
        `logit_bias: found the key ${shown(token)}, allowed: token ids`,
        'logit_bias',
      );
    }
    return [Number(token), value];
  });
}

/** The engine's names of fields, as the client spelt them. */
export const clientFieldNames: Record<string, string> = {
  logitBias: 'logit_bias',
  badWords: 'bad_words',
  allowedTokenIds: 'allowed_token_ids',
  adapter: 'model',
  beams: 'use_beam_search',
  stopTokenIds: 'stop_token_ids',
  logprobs: 'logprobs',
  promptLogprobs: 'prompt_logprobs',
};
