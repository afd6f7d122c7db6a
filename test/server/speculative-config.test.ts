// --speculative-config: what vLLM's JSON means, and one clear line for what it cannot mean.

import { describe, expect, it } from 'vitest';
import { readSpeculativeConfig } from '../../server/speculative-config.ts';

const ngram = (more: object) => JSON.stringify({ method: 'ngram', num_speculative_tokens: 5, ...more });
const draft = (more: object) => JSON.stringify({ model: 'org/small', num_speculative_tokens: 4, ...more });
const draftModel = (maxModelLen: number | null) => ({
  method: 'draft_model',
  numSpeculativeTokens: 4,
  model: 'org/small',
  maxModelLen,
});
const lookup = (max: number, min: number) => ({
  method: 'ngram',
  numSpeculativeTokens: 5,
  promptLookupMax: max,
  promptLookupMin: min,
});

describe('--speculative-config', () => {
  it.each([
    [ngram({ prompt_lookup_max: 4, prompt_lookup_min: 2 }), lookup(4, 2)],
    [ngram({ prompt_lookup_max: 4 }), lookup(4, 4)],
    [ngram({ prompt_lookup_min: 2 }), lookup(2, 2)],
    [ngram({}), lookup(5, 5)],
    [draft({}), draftModel(null)],
    [draft({ method: 'draft_model', max_model_len: 1024, draft_tensor_parallel_size: 1 }), draftModel(1024)],
    [draft({ disable_by_batch_size: 8 }), { ...draftModel(null), disableByBatchSize: 8 }],
    [ngram({ disable_by_batch_size: 1 }), { ...lookup(5, 5), disableByBatchSize: 1 }],
    [null, null],
  ])('%s', (text, config) => {
    expect(readSpeculativeConfig(text)).toEqual(config);
  });

  it.each([
    ['ngram', 'found "ngram", allowed: a JSON object such as'],
    ['[1]', 'found "[1]", allowed: a JSON object such as'],
    [
      '{"method":"eagle","num_speculative_tokens":2}',
      'method: found "eagle", allowed: "ngram" or "draft_model"',
    ],
    ['{"num_speculative_tokens":2}', 'method: found nothing, allowed: "ngram" or "draft_model"'],
    ['{"method":"draft_model","num_speculative_tokens":2}', 'model is missing, expected a string'],
    ['{"model":"org/small"}', 'num_speculative_tokens is missing, expected a whole number from 1 to 64'],
    [draft({ model: 7 }), 'model: found 7, allowed: a string'],
    [draft({ max_model_len: 0 }), 'max_model_len: found 0, allowed: a whole number from 1 to'],
    [draft({ draft_tensor_parallel_size: 2 }), 'draft_tensor_parallel_size: found 2, allowed: 1'],
    [
      draft({ quantization: 'fp8' }),
      'found the field "quantization", allowed: method, model, num_speculative',
    ],
    [
      ngram({ model: 'org/small' }),
      'found the field "model", allowed: method, num_speculative_tokens, disable',
    ],
    ['{"method":"ngram"}', 'num_speculative_tokens is missing, expected a whole number from 1 to 64'],
    [
      ngram({ num_speculative_tokens: 0 }),
      'num_speculative_tokens: found 0, allowed: a whole number from 1 to 64',
    ],
    [
      ngram({ disable_by_batch_size: 0 }),
      'disable_by_batch_size: found 0, allowed: a whole number from 1 to 1048576',
    ],
    [ngram({ prompt_lookup_min: 1.5 }), 'prompt_lookup_min: found 1.5, allowed: a whole number from 1 to 64'],
    [
      ngram({ prompt_lookup_max: 2, prompt_lookup_min: 3 }),
      'prompt_lookup_min: found 3, allowed: at most prompt_lookup_max, 2',
    ],
    [
      ngram({ draft: 1 }),
      'found the field "draft", allowed: method, num_speculative_tokens, disable_by_batch_size, prompt_lookup_max, prompt_lookup_min',
    ],
  ])('refuses %s', (text, message) => {
    expect(() => readSpeculativeConfig(text)).toThrow(`--speculative-config: ${message}`);
  });
});
