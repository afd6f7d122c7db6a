// From the fields of a request to what an encoder runs on, every limit checked.

import { type EncoderApi, type EncoderInput, EncoderQueueFullError } from '../../engine/engine.ts';
import { ApiError } from '../errors.ts';
import { type InputField, maxInputs, type TruncationFields } from './schemas.ts';

/** One input before its tokens are made. `field` names it in errors. */
export interface Source {
  field: string;
  content: string | number[];
  /** The second half of a pair, or null. */
  pair: string | null;
}

/** Of one request. */
const maxRequestTokens = 1 << 20;

/** A text, a list of texts, token ids, or a list of those. */
export function sourcesOf(input: InputField, prompt: string): Source[] {
  const isOne = typeof input === 'string' || typeof input[0] === 'number';
  const list = (isOne ? [input] : input) as Array<string | number[]>;
  if (list.length > maxInputs) {
    const found = `found ${list.length} items, allowed: 1 to ${maxInputs}`;
    throw new ApiError('invalid_value', `input: ${found}`, 'input');
  }
  return list.map((one, i) => ({
    field: isOne ? 'input' : `input.${i}`,
    content: typeof one === 'string' ? prompt + one : one,
    pair: null,
  }));
}

function keptTokens({ truncate_prompt_tokens: asked }: TruncationFields, maxTokens: number): number | null {
  if (asked == null) return null;
  if (asked === -1) return maxTokens;
  if (asked >= 1 && asked <= maxTokens) return asked;
  const field = 'truncate_prompt_tokens';
  throw new ApiError(
    'invalid_value',
    `${field}: found ${asked}, allowed: -1, or 1 to the model's ${maxTokens} tokens`,
    field,
  );
}

function checkLength({ field }: Source, { tokenIds }: EncoderInput, { description }: EncoderApi): void {
  const { maxTokens } = description;
  if (tokenIds.length === 0)
    throw new ApiError('invalid_value', `${field}: has no tokens, at least 1 is needed`, field);
  if (tokenIds.length <= maxTokens) return;
  throw new ApiError(
    'context_length_exceeded',
    `${field}: has ${tokenIds.length} tokens, the model takes ${maxTokens} (truncate_prompt_tokens: -1 cuts it)`,
    field,
  );
}

function givenTokens(
  { field, content }: Source,
  kept: number | null,
  side: 'left' | 'right',
  { description: { vocabSize } }: EncoderApi,
): EncoderInput {
  const given = content as number[];
  const outside = given.findIndex((id) => id >= vocabSize);
  if (outside >= 0) {
    const place = `${field}.${outside}`;
    throw new ApiError(
      'invalid_value',
      `${place}: found ${given[outside]}, allowed: 0 to ${vocabSize - 1}`,
      place,
    );
  }
  const count = kept ?? given.length;
  const ids = side === 'right' ? given.slice(0, count) : given.slice(-count);
  return { tokenIds: Int32Array.from(ids), typeIds: new Uint8Array(ids.length) };
}

/** Tokens of every source, in order. Throws what is wrong with the first that is. */
export async function encodeInputs(
  encoder: EncoderApi,
  sources: readonly Source[],
  fields: TruncationFields & { add_special_tokens?: boolean | null },
  signal: AbortSignal,
): Promise<EncoderInput[]> {
  const maxTokens = keptTokens(fields, encoder.description.maxTokens);
  const truncationSide = fields.truncation_side ?? 'right';
  const addSpecialTokens = fields.add_special_tokens ?? true;
  const tasks = sources.flatMap(({ content, pair }) =>
    typeof content === 'string' ? [{ text: content, pair, maxTokens, truncationSide, addSpecialTokens }] : [],
  );
  const given = sources.flatMap((source) =>
    typeof source.content === 'string' ? [] : [givenTokens(source, maxTokens, truncationSide, encoder)],
  );
  // The schema takes texts or token ids, never both.
  const inputs = tasks.length > 0 ? await encoder.tokenize(tasks, signal) : given;
  for (const [i, source] of sources.entries()) checkLength(source, inputs[i], encoder);
  const total = numTokensOf(inputs);
  if (total > maxRequestTokens) {
    const field = sources[0].field.split('.')[0];
    throw new ApiError(
      'invalid_value',
      `${field}: found ${total} tokens in all, allowed: ${maxRequestTokens} in one request`,
      field,
    );
  }
  return inputs;
}

/** What the model makes of each input. */
export async function runEncoder(
  encoder: EncoderApi,
  inputs: readonly EncoderInput[],
  signal: AbortSignal,
): Promise<Float32Array[]> {
  try {
    return await encoder.run(inputs, signal);
  } catch (error) {
    if (error instanceof EncoderQueueFullError) throw new ApiError('queue_full', error.message);
    throw error;
  }
}

export function numTokensOf(inputs: readonly EncoderInput[]): number {
  return inputs.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0);
}

export function encoderUsage(numTokens: number) {
  return {
    prompt_tokens: numTokens,
    total_tokens: numTokens,
    completion_tokens: 0,
    prompt_tokens_details: null,
  };
}
