// Beam search against transformers' (scripts/goldens/beam_search.py): every token of every beam, in order.

import { readFileSync } from 'node:fs';
import {
  type CompletionDelta,
  defaultSamplingParams,
  Engine,
  type EngineOptions,
  type RequestRecord,
  type SamplingParams,
  type StepStats,
} from 'quire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasStories, storiesFolder } from '../stories260k.ts';

interface Case {
  prompt: string;
  promptTokenIds: number[];
  n: number;
  maxTokens: number;
  lengthPenalty: number;
  stopTokenIds: number[];
  outputs: number[][];
  /** Null for one beam, where transformers reports none. */
  scores: number[] | null;
}

const { cases }: { cases: Case[] } = JSON.parse(
  readFileSync(new URL('../golden/beam-search.json', import.meta.url), 'utf8'),
);

function samplingOf({ n, maxTokens, lengthPenalty, stopTokenIds }: Case): SamplingParams {
  return { ...defaultSamplingParams, n, maxTokens, stopTokenIds, beams: { lengthPenalty }, logprobs: 1 };
}

async function search(engine: Engine, one: Case, signal?: AbortSignal): Promise<CompletionDelta[]> {
  const deltas: CompletionDelta[] = [];
  const request = {
    requestId: 'beams',
    promptTokenIds: Int32Array.from(one.promptTokenIds),
    sampling: samplingOf(one),
  };
  for await (const delta of engine.generate({ ...request, signal })) deltas.push(delta);
  return deltas;
}

function check(deltas: CompletionDelta[], { n, outputs, scores, stopTokenIds, lengthPenalty }: Case): void {
  expect(deltas.map(({ index }) => index)).toEqual(Array.from({ length: n }, (_, i) => i));
  expect(deltas.map(({ tokenIds }) => tokenIds)).toEqual(outputs);
  deltas.forEach(({ tokenIds, logprobs, finishReason }, i) => {
    const sum = (logprobs ?? []).reduce((total, { logprob }) => total + logprob, 0);
    if (scores !== null) expect(sum / tokenIds.length ** lengthPenalty).toBeCloseTo(scores[i], 2);
    const endsEarly = stopTokenIds.includes(tokenIds.at(-1) ?? -1);
    expect(finishReason).toBe(endsEarly ? 'stop' : 'length');
  });
}

describe.skipIf(!hasStories)('beam search', () => {
  let engine: Engine;
  const records: RequestRecord[] = [];
  let stats: StepStats[] = [];
  const base: EngineOptions = { model: storiesFolder, threads: 2, maxModelLen: 256 };

  beforeAll(async () => {
    const observer = {
      onStep: (one: StepStats) => stats.push(one),
      onFinished: (record: RequestRecord) => records.push(record),
    };
    engine = await Engine.open({ ...base, observer });
  });
  afterAll(() => engine?.close());

  it.each(cases)('$prompt, $n beams, length penalty $lengthPenalty, ends $stopTokenIds', async (one) => {
    check(await search(engine, one), one);
  });

  it('is reported once for each beam, and its text follows the prompt', async () => {
    records.length = 0;
    const one = cases[2];
    const deltas = await search(engine, one);
    expect(records.map(({ index, n, numOutputTokens }) => ({ index, n, numOutputTokens }))).toEqual(
      one.outputs.map((output, index) => ({ index, n: one.n, numOutputTokens: output.length })),
    );
    deltas.forEach(({ text }, i) => {
      const whole = engine.decode([...one.promptTokenIds, ...one.outputs[i].slice(0, -1)], true);
      expect(one.prompt + text).toBe(whole);
    });
  });

  it('computes the prompt once, and no more than a block for each token', async () => {
    stats = [];
    const [long] = cases;
    const promptTokenIds = Array.from({ length: 200 }, (_, i) => (i === 0 ? 1 : 300 + (i % 150)));
    await search(engine, { ...long, promptTokenIds, n: 4, maxTokens: 20 });
    const sum = (count: (one: StepStats) => number) => stats.reduce((total, one) => total + count(one), 0);
    const computed = sum(
      ({ numPromptTokens, numCachedPromptTokens }) => numPromptTokens - numCachedPromptTokens,
    );
    expect(computed).toBeLessThanOrEqual(200 + 4 * 19 * engine.description.blockSize);
    expect(sum(({ numGenerationTokens }) => numGenerationTokens)).toBe(1 + 4 * 19);
  });

  it('finds the same in a crowd, with few blocks', async () => {
    const crowded = await Engine.open({ ...base, numBlocksOverride: 24, blockSize: 8, maxModelLen: 96 });
    const found = await Promise.all(cases.map((one) => search(crowded, one)));
    found.forEach((deltas, i) => {
      check(deltas, cases[i]);
    });
    await crowded.close();
  });

  it('ends every beam when its client leaves', async () => {
    const stop = new AbortController();
    const found = search(engine, { ...cases[1], maxTokens: 200 }, stop.signal);
    setImmediate(() => stop.abort());
    expect((await found).map(({ finishReason, tokenIds }) => [finishReason, tokenIds])).toEqual([
      ['abort', []],
      ['abort', []],
    ]);
  });

  it('is refused without a prefix cache, and with more beams than log-probabilities', async () => {
    await expect(search(engine, { ...cases[0], n: 20 })).rejects.toThrow(
      'found 20 beams with 1 tokens that end an answer, allowed: together at most 20 (--max-logprobs)',
    );
    const uncached = await Engine.open({ ...base, enablePrefixCaching: false });
    await expect(search(uncached, cases[0])).rejects.toThrow('beam search needs the prefix cache');
    await uncached.close();
  });
});
