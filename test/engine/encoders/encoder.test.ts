// The tiny encoders against transformers, alone and in a crowd.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Encoder } from '../../../engine/encoders/encoder.ts';
import type { TokenizeTask } from '../../../engine/encoders/encoder-messages.ts';
import { normalize, pool } from '../../../engine/encoders/pooling.ts';
import { encoderFolder, golden, largestDifference } from './golden.ts';

const names = ['bert-mean', 'roberta-cls', 'bert-cross', 'distilbert-labels'] as const;
const encoders = new Map<string, Encoder>();
const signal = new AbortController().signal;

const task = (text: string, pair: string | null = null, maxTokens: number | null = null): TokenizeTask => ({
  text,
  pair,
  maxTokens,
  truncationSide: 'right',
  addSpecialTokens: true,
});

function get(name: (typeof names)[number]): Encoder {
  const encoder = encoders.get(name);
  if (encoder === undefined) throw new Error(`${name} is not open`);
  return encoder;
}

async function outputsOf(name: (typeof names)[number], tasks: TokenizeTask[]): Promise<Float32Array[]> {
  return get(name).run(await get(name).tokenize(tasks, signal), signal);
}

beforeAll(async () => {
  for (const name of names) encoders.set(name, await Encoder.open(encoderFolder(name)));
});

afterAll(async () => {
  await Promise.all([...encoders.values()].map((encoder) => encoder.close()));
});

describe('against transformers, within 1e-4', () => {
  it('makes the same tokens, whatever truncation and padding tokenizer.json asks for', async () => {
    const inputs = await get('bert-mean').tokenize(
      golden.texts.map((text) => task(text)),
      signal,
    );
    expect(inputs.map(({ tokenIds }) => [...tokenIds])).toEqual(golden['bert-mean'].tokenIds);
  });

  it.each([
    ['bert-mean', true],
    ['roberta-cls', false],
  ] as const)('%s', async (name, normalizes) => {
    expect(get(name).description).toMatchObject({ kind: 'embedder', size: 16, normalizes });
    const outputs = await outputsOf(
      name,
      golden.texts.map((text) => task(text)),
    );
    outputs.forEach((output, i) => {
      const vector = normalizes ? normalize(output) : output;
      expect(largestDifference(vector, golden[name].embeddings[i])).toBeLessThan(1e-4);
    });
  });

  it('bert-cross, whose pairs have two types of tokens', async () => {
    const tasks = golden.pairs.map(([query, text]) => task(query, text));
    const inputs = await get('bert-cross').tokenize(tasks, signal);
    expect(inputs.map(({ tokenIds }) => [...tokenIds])).toEqual(golden['bert-cross'].tokenIds);
    const outputs = await get('bert-cross').run(inputs, signal);
    const scores = outputs.map(([logit]) => 1 / (1 + Math.exp(-logit)));
    expect(largestDifference(scores, golden['bert-cross'].scores)).toBeLessThan(1e-4);
  });
});

describe('many at once', () => {
  it('has the answers that each has alone', async () => {
    const texts = Array.from({ length: 40 }, (_, i) => golden.texts[i % golden.texts.length]);
    const crowd = await Promise.all(texts.map((text) => outputsOf('bert-mean', [task(text)])));
    crowd.forEach(([output], i) => {
      const expected = golden['bert-mean'].embeddings[i % golden.texts.length];
      expect(largestDifference(normalize(output), expected)).toBeLessThan(1e-4);
    });
  });

  it('leaves out who has gone, and answers the others', async () => {
    const encoder = get('roberta-cls');
    const [input] = await encoder.tokenize([task('yes')], signal);
    const controller = new AbortController();
    const gone = encoder.run(
      Array.from({ length: 2000 }, () => input),
      controller.signal,
    );
    const stays = encoder.run([input], signal);
    controller.abort(new Error('gone'));
    await expect(gone).rejects.toThrow('gone');
    await expect(stays).resolves.toHaveLength(1);
  });
});

describe('truncation', () => {
  it('takes from the longer half of a pair, and keeps the special tokens', async () => {
    const [query, text] = golden.pairs[2];
    const [whole, short] = await get('bert-cross').tokenize(
      [task(query, text), task(query, text, 12)],
      signal,
    );
    expect(whole.tokenIds.length).toBeGreaterThan(12);
    expect(short.tokenIds.length).toBe(12);
    expect(short.tokenIds.at(-1)).toBe(whole.tokenIds.at(-1));
    expect(short.typeIds).toContain(1);
  });

  it('cuts at the left where that is asked for', async () => {
    const left: TokenizeTask = { ...task('the cat sleeps', null, 4), truncationSide: 'left' };
    const [right, other] = await get('bert-mean').tokenize([task('the cat sleeps', null, 4), left], signal);
    expect([right.tokenIds.length, other.tokenIds.length]).toEqual([4, 4]);
    expect(right.tokenIds).not.toEqual(other.tokenIds);
  });
});

describe('pooling', () => {
  const states = Float32Array.of(1, -2, 3, 5, 99, 99, 7, 8, -1, 0, 2, 4);
  it.each([
    ['mean', [2, 1.5, 8 / 3, 4]],
    ['cls', [1, -2, 7, 8]],
    ['last', [3, 5, 2, 4]],
    ['max', [3, 5, 7, 8]],
  ] as const)('%s sees no padding', (pooling, expected) => {
    expect(largestDifference(pool(states, [2, 3], 3, 2, pooling), expected)).toBeLessThan(1e-6);
  });
});
