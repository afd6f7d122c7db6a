// What the model's own files say of generation: where it ends, and how it likes to be sampled.

import { Fields, type JsonObject } from './json-fields.ts';
import type { SamplingParams } from './sampling-params.ts';

/** eos_token_id as a number, a list, or absent. */
export function readEosTokenIds(generation: JsonObject, config: JsonObject, where: string): number[] {
  const source = generation.eos_token_id != null ? generation : config;
  const value = source.eos_token_id;
  if (value == null) return [];
  const ids = Array.isArray(value) ? value : [value];
  if (!ids.every((id) => Number.isInteger(id) && id >= 0)) {
    new Fields(source, where).fail('eos_token_id', 'a token id or a list of them');
  }
  return ids;
}

/**
 * Defaults for requests that are silent, as vLLM takes them from generation_config.json (do_sample is not
 * looked at).
 */
export function readDefaultSampling(generation: JsonObject, where: string): Partial<SamplingParams> {
  const fields = new Fields(generation, where);
  const sampling: Partial<SamplingParams> = {};
  if (fields.get('temperature') !== undefined) sampling.temperature = fields.number('temperature', 0, 2);
  if (fields.get('top_p') !== undefined) sampling.topP = fields.number('top_p', 1e-9, 1);
  if (fields.get('top_k') !== undefined) sampling.topK = fields.integer('top_k', 0, 2 ** 31 - 1);
  if (fields.get('min_p') !== undefined) sampling.minP = fields.number('min_p', 0, 1);
  if (fields.get('repetition_penalty') !== undefined) {
    sampling.repetitionPenalty = fields.number('repetition_penalty', 1e-3, 100);
  }
  return sampling;
}
