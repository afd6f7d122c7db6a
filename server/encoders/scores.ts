// From a model's numbers to scores: a classifier's logits through its activation, two embeddings by their
// cosine.

import { cosine, type EncoderApi } from '../../engine/engine.ts';
import { encodeInputs, numTokensOf, runEncoder, type Source } from './inputs.ts';
import type { TruncationFields } from './schemas.ts';

/** `uses` false leaves logits as they are. */
export function activated(
  logits: Float32Array,
  { description: { activation } }: EncoderApi,
  uses: boolean | null | undefined,
): number[] {
  const values = Array.from(logits);
  if (uses === false || activation === 'none') return values;
  if (activation === 'sigmoid') return values.map((value) => 1 / (1 + Math.exp(-value)));
  const largest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/** One text, with the field it came in. */
export interface ScoredText {
  field: string;
  text: string;
}

export interface Scores {
  /** One for each right text. */
  scores: number[];
  numTokens: number;
}

/** `left` has one text for all of `right`, or one for each. */
export async function scorePairs(
  encoder: EncoderApi,
  left: readonly ScoredText[],
  right: readonly ScoredText[],
  fields: TruncationFields & { use_activation?: boolean | null },
  signal: AbortSignal,
): Promise<Scores> {
  const leftOf = (i: number) => (left.length === 1 ? 0 : i);
  if (encoder.description.kind === 'classifier') {
    const pairs = right.map(
      ({ field, text }, i): Source => ({ field, content: left[leftOf(i)].text, pair: text }),
    );
    const inputs = await encodeInputs(encoder, pairs, fields, signal);
    const outputs = await runEncoder(encoder, inputs, signal);
    const scores = outputs.map((logits) => activated(logits, encoder, fields.use_activation)[0]);
    return { scores, numTokens: numTokensOf(inputs) };
  }
  const sources = [...left, ...right].map(
    ({ field, text }): Source => ({ field, content: text, pair: null }),
  );
  const inputs = await encodeInputs(encoder, sources, fields, signal);
  const vectors = await runEncoder(encoder, inputs, signal);
  const scores = right.map((_, i) => cosine(vectors[leftOf(i)], vectors[left.length + i]));
  return { scores, numTokens: numTokensOf(inputs) };
}
