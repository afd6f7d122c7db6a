// --speculative-config: vLLM's JSON, read strictly.

import Type, { type TObject, type TProperties } from 'typebox';
import { ModelError, maxSpeculativeTokens, type SpeculativeConfig } from '../engine/engine.ts';
import { resolveModel } from '../engine/hub.ts';
import { ApiError } from './errors.ts';
import { OptionError } from './options.ts';
import { checked, shown, validatorOf } from './validation.ts';

const maxNgram = 64;
const ngramLength = Type.Optional(Type.Integer({ minimum: 1, maximum: maxNgram }));
const anyMethod = {
  num_speculative_tokens: Type.Integer({ minimum: 1, maximum: maxSpeculativeTokens }),
  disable_by_batch_size: Type.Optional(Type.Integer({ minimum: 1, maximum: 1 << 20 })),
};

const ngramSchema = Type.Object({
  method: Type.Literal('ngram'),
  ...anyMethod,
  prompt_lookup_max: ngramLength,
  prompt_lookup_min: ngramLength,
});
const draftModelSchema = Type.Object({
  method: Type.Optional(Type.Literal('draft_model')),
  model: Type.String({ minLength: 1, maxLength: 4096 }),
  ...anyMethod,
  max_model_len: Type.Optional(Type.Integer({ minimum: 1, maximum: 1 << 24 })),
  draft_tensor_parallel_size: Type.Optional(Type.Literal(1)),
});
const validateNgram = validatorOf(ngramSchema);
const validateDraftModel = validatorOf(draftModelSchema);

/** vLLM's, where neither length is given. */
const defaultNgram = 5;

/** Throws OptionError. Null stays null: no speculation. */
export function readSpeculativeConfig(text: string | null): SpeculativeConfig | null {
  if (text === null) return null;
  const value = parsed(text);
  switch (methodOf(value)) {
    case 'ngram':
      return readNgram(value);
    case 'draft_model':
      return readDraftModel(value);
  }
}

/**
 * The same with the draft model's folder in place of its name: a Hub id is downloaded, and `notify` told. Throws
 * OptionError.
 */
export async function findSpeculation(
  text: string | null,
  notify: (line: string) => void,
): Promise<SpeculativeConfig | null> {
  const config = readSpeculativeConfig(text);
  if (config?.method !== 'draft_model') return config;
  try {
    return { ...config, model: await resolveModel(config.model, process.env, notify) };
  } catch (error) {
    if (error instanceof ModelError) throw wrong(`model: ${error.message}`);
    throw error;
  }
}

/** A model that is named says how, as in vLLM. */
function methodOf(value: { method?: unknown; model?: unknown }): 'ngram' | 'draft_model' {
  const method = value.method ?? (value.model === undefined ? undefined : 'draft_model');
  if (method === 'ngram' || method === 'draft_model') return method;
  throw wrong(`method: found ${shown(method)}, allowed: "ngram" or "draft_model"`);
}

function readNgram(value: object): SpeculativeConfig {
  const fields = checkedFields(ngramSchema, validateNgram, value);
  const promptLookupMax = fields.prompt_lookup_max ?? fields.prompt_lookup_min ?? defaultNgram;
  const promptLookupMin = fields.prompt_lookup_min ?? promptLookupMax;
  if (promptLookupMin > promptLookupMax) {
    throw wrong(
      `prompt_lookup_min: found ${promptLookupMin}, allowed: at most prompt_lookup_max, ${promptLookupMax}`,
    );
  }
  return {
    method: 'ngram',
    numSpeculativeTokens: fields.num_speculative_tokens,
    disableByBatchSize: fields.disable_by_batch_size,
    promptLookupMax,
    promptLookupMin,
  };
}

function readDraftModel(value: object): SpeculativeConfig {
  const fields = checkedFields(draftModelSchema, validateDraftModel, value);
  return {
    method: 'draft_model',
    numSpeculativeTokens: fields.num_speculative_tokens,
    disableByBatchSize: fields.disable_by_batch_size,
    model: fields.model,
    maxModelLen: fields.max_model_len ?? null,
  };
}

function checkedFields<T extends TProperties>(
  schema: TObject<T>,
  validate: ReturnType<typeof validatorOf>,
  value: object,
): Type.Static<TObject<T>> {
  const unknown = Object.keys(value).find((name) => !(name in schema.properties));
  if (unknown !== undefined) {
    const known = Object.keys(schema.properties).join(', ');
    throw wrong(`found the field ${shown(unknown)}, allowed: ${known}`);
  }
  try {
    return checked(validate, value);
  } catch (error) {
    if (error instanceof ApiError) throw wrong(error.message);
    throw error;
  }
}

function parsed(text: string): object {
  let value: unknown = null;
  try {
    value = JSON.parse(text);
  } catch {
    // Not JSON at all is as wrong as JSON of something else.
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  const example = '{"method":"ngram","num_speculative_tokens":5}';
  throw wrong(`found ${shown(text)}, allowed: a JSON object such as ${example}`);
}

const wrong = (message: string) => new OptionError(`--speculative-config: ${message}`);
