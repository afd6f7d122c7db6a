// How well a model predicts a text: windows over it, each token scored once, with as much context as its
// window has.
// The method of https://huggingface.co/docs/transformers/perplexity

import { defaultSamplingParams, type EngineApi, ModelError } from './engine.ts';

export interface Perplexity {
  /** Tokens that were predicted. */
  numTokens: number;
  numBytes: number;
  /** Of all of them together, natural logarithm. */
  negativeLogLikelihood: number;
  perplexity: number;
  bitsPerByte: number;
}

export interface PerplexityOptions {
  /** Tokens of context at most, the predicted ones included. */
  window: number;
  /** Tokens by which windows advance; what they overlap is context only. */
  stride: number;
}

/** Throws ModelError when the text is too short to predict anything. */
export async function measurePerplexity(
  engine: EngineApi,
  text: string,
  { window, stride }: PerplexityOptions,
  onWindow: (done: number, total: number) => void,
): Promise<Perplexity> {
  const { tokenIds } = await engine.encodeText(text, true);
  if (tokenIds.length < 2)
    throw new ModelError(`the text has ${tokenIds.length} tokens, at least 2 are needed`);
  const starts: number[] = [];
  for (let start = 0; start === 0 || start + window - stride < tokenIds.length; start += stride)
    starts.push(start);
  let scored = 1;
  let sum = 0;
  for (const [i, start] of starts.entries()) {
    const end = Math.min(start + window, tokenIds.length);
    const logprobs = await promptLogprobs(engine, tokenIds.slice(start, end));
    // logprobs[j] is of the token at start + 1 + j.
    for (let at = Math.max(scored, start + 1); at < end; at++) sum -= logprobs[at - start - 1];
    scored = end;
    onWindow(i + 1, starts.length);
    if (end === tokenIds.length) break;
  }
  const numTokens = tokenIds.length - 1;
  const numBytes = Buffer.byteLength(text);
  return {
    numTokens,
    numBytes,
    negativeLogLikelihood: sum,
    perplexity: Math.exp(sum / numTokens),
    bitsPerByte: sum / Math.LN2 / numBytes,
  };
}

async function promptLogprobs(engine: EngineApi, promptTokenIds: Int32Array): Promise<number[]> {
  const sampling = { ...defaultSamplingParams, temperature: 0, maxTokens: 1, promptLogprobs: 0 };
  const logprobs: number[] = [];
  for await (const delta of engine.generate({ requestId: 'perplexity', promptTokenIds, sampling })) {
    logprobs.push(...(delta.promptLogprobs ?? []).map(({ logprob }) => logprob));
  }
  return logprobs;
}
