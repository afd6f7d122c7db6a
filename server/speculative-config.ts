// --speculative-config: vLLM's JSON, read strictly.

import Type from 'typebox';
import { maxSpeculativeTokens, type SpeculativeConfig } from '../engine/engine.ts';
import { ApiError } from './errors.ts';
import { OptionError } from './options.ts';
import { checked, shown, validatorOf } from './validation.ts';

const maxNgram = 64;
const ngramLength = Type.Optional(Type.Integer({ minimum: 1, maximum: maxNgram }));

const schema = Type.Object({
  method: Type.Literal('ngram'),
  num_speculative_tokens: Type.Integer({ minimum: 1, maximum: maxSpeculativeTokens }),
  prompt_lookup_max: ngramLength,
  prompt_lookup_min: ngramLength,
});
const validate = validatorOf(schema);

/** vLLM's, where neither length is given. */
const defaultNgram = 5;

/** Throws OptionError. Null stays null: no speculation. */
export function readSpeculativeConfig(text: string | null): SpeculativeConfig | null {
  if (text === null) return null;
  const fields = checkedFields(text);
  const promptLookupMax = fields.prompt_lookup_max ?? fields.prompt_lookup_min ?? defaultNgram;
  const promptLookupMin = fields.prompt_lookup_min ?? promptLookupMax;
  if (promptLookupMin > promptLookupMax) {
    throw wrong(
      `prompt_lookup_min: found ${promptLookupMin}, allowed: at most prompt_lookup_max, ${promptLookupMax}`,
    );
  }
  const numSpeculativeTokens = fields.num_speculative_tokens;
  return { method: fields.method, numSpeculativeTokens, promptLookupMax, promptLookupMin };
}

function checkedFields(text: string): Type.Static<typeof schema> {
  const value = parsed(text);
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
