// A request's tokens depend on the request alone. Seeded property tests of the built engine on a real model:
// alone or in a crowd, prefix cache on or off, any block size, any chunk limit, preempted or never, guessed
// ahead or not.

import { rmSync } from 'node:fs';
import {
  defaultSamplingParams,
  Engine,
  type EngineOptions,
  type GenerateRequest,
  type SamplingParams,
  type StepStats,
} from 'quire';
import { afterAll, describe, expect, it } from 'vitest';
import { nearCopy } from '../near-copy.ts';
import { hasStories, storiesFolder } from '../stories260k.ts';

/** mulberry32: small, seeded, good enough to draw test cases. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Case {
  promptTokenIds: number[];
  sampling: SamplingParams;
}

/** Prompts share prefixes, so that the prefix cache and preemption have something to do. */
function drawCases(count: number, seed: number): Case[] {
  const next = random(seed);
  const int = (low: number, high: number) => low + Math.floor(next() * (high - low + 1));
  const stems = Array.from({ length: 6 }, () => [
    1,
    ...Array.from({ length: int(10, 120) }, () => int(3, 511)),
  ]);
  return Array.from({ length: count }, () => {
    const stem = stems[int(0, stems.length - 1)].slice(0, int(1, 120));
    const own = Array.from({ length: int(0, 40) }, () => int(3, 511));
    const isGreedy = next() < 0.4;
    return {
      promptTokenIds: [...stem, ...own],
      sampling: {
        ...defaultSamplingParams,
        temperature: isGreedy ? 0 : 0.2 + next() * 1.3,
        topP: next() < 0.5 ? 1 : 0.5 + next() * 0.5,
        topK: next() < 0.5 ? 0 : int(1, 60),
        minP: next() < 0.7 ? 0 : next() * 0.2,
        repetitionPenalty: next() < 0.7 ? 1 : 1 + next() * 0.5,
        presencePenalty: next() < 0.8 ? 0 : next() * 2,
        frequencyPenalty: next() < 0.8 ? 0 : next() * 2,
        logitBias: next() < 0.8 ? [] : [[int(3, 511), next() * 10 - 5]],
        seed: BigInt(int(0, 2 ** 31)),
        maxTokens: int(1, 60),
        minTokens: next() < 0.8 ? 0 : int(0, 10),
        ignoreEos: next() < 0.5,
        logprobs: next() < 0.2 ? int(0, 5) : null,
      },
    };
  });
}

async function run(engine: Engine, { promptTokenIds, sampling }: Case): Promise<string> {
  const request: GenerateRequest = {
    requestId: 'test',
    promptTokenIds: Int32Array.from(promptTokenIds),
    sampling,
  };
  const tokenIds: number[] = [];
  const logprobs: number[] = [];
  let text = '';
  let finish = null;
  for await (const delta of engine.generate(request)) {
    tokenIds.push(...delta.tokenIds);
    logprobs.push(...(delta.logprobs ?? []).map(({ logprob }) => logprob));
    text += delta.text;
    finish = delta.finishReason ?? finish;
  }
  return JSON.stringify({ tokenIds, logprobs, text, finish });
}

async function runTogether(engine: Engine, cases: Case[], concurrency: number): Promise<string[]> {
  const results: string[] = new Array(cases.length);
  let nextCase = 0;
  const worker = async () => {
    while (nextCase < cases.length) {
      const i = nextCase++;
      results[i] = await run(engine, cases[i]);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return results;
}

describe.skipIf(!hasStories)('the same tokens', () => {
  const seed = Number(process.env.QUIRE_TEST_SEED ?? 20_260_101);
  const cases = drawCases(256, seed);
  const base: EngineOptions = { model: storiesFolder, maxModelLen: 256, threads: 2 };
  let expected: Promise<string[]> | null = null;

  /** Each case alone: one at a time, no prefix cache, whole prompts in one step. */
  function alone(): Promise<string[]> {
    expected ??= (async () => {
      const engine = await Engine.open({ ...base, enablePrefixCaching: false });
      const results = await runTogether(engine, cases, 1);
      await engine.close();
      return results;
    })();
    return expected;
  }
  const draftFolder = hasStories ? nearCopy(storiesFolder) : storiesFolder;
  afterAll(async () => {
    await expected;
    rmSync(draftFolder, { recursive: true });
  });

  const variations: Array<[name: string, options: Partial<EngineOptions>, concurrency: number]> = [
    ['among 64 concurrent requests', {}, 64],
    ['with the prefix cache off, among 64', { enablePrefixCaching: false }, 64],
    ['with blocks of 8 tokens', { blockSize: 8 }, 64],
    ['with blocks of 32 tokens', { blockSize: 32 }, 64],
    ['in chunks of 1 token', { longPrefillTokenThreshold: 1 }, 16],
    ['in chunks of 7 tokens', { longPrefillTokenThreshold: 7 }, 64],
    ['in chunks of 33 tokens', { longPrefillTokenThreshold: 33 }, 64],
    ['with 16 tokens in a step', { maxNumBatchedTokens: 16, maxNumSeqs: 16 }, 64],
    ['with 512 tokens in a step', { maxNumBatchedTokens: 512 }, 64],
    ['preempted by a KV pool of 40 blocks', { numBlocksOverride: 40 }, 64],
    ['preempted, without the prefix cache', { numBlocksOverride: 40, enablePrefixCaching: false }, 64],
    ['on one thread', { threads: 1 }, 64],
    ['on three threads', { threads: 3 }, 64],
  ];

  const ngram = (numSpeculativeTokens: number): Partial<EngineOptions> => ({
    // Guesses from a single token: many, most of them wrong.
    speculation: { method: 'ngram', numSpeculativeTokens, promptLookupMax: 3, promptLookupMin: 1 },
  });
  const draftModel = (numSpeculativeTokens: number, more: object = {}): Partial<EngineOptions> => ({
    speculation: {
      method: 'draft_model',
      numSpeculativeTokens,
      model: draftFolder,
      maxModelLen: null,
      ...more,
    },
  });
  const speculative: typeof variations = [
    ['with drafts of 1 token, one by one', ngram(1), 1],
    ['with drafts of 5 tokens, among 64', ngram(5), 64],
    ['with drafts of 16 tokens, in blocks of 8', { ...ngram(16), blockSize: 8 }, 64],
    ['with drafts, preempted by a KV pool of 40 blocks', { ...ngram(5), numBlocksOverride: 40 }, 64],
    ['with drafts, 20 tokens in a step', { ...ngram(5), maxNumBatchedTokens: 20, maxNumSeqs: 16 }, 64],
    ['with drafts, in chunks of 7 tokens', { ...ngram(4), longPrefillTokenThreshold: 7 }, 64],
    ['with a draft model, among 64', draftModel(4), 64],
    ['with a draft model while 40 run at most, among 64', draftModel(4, { disableByBatchSize: 40 }), 64],
    ['with a draft model, one by one, no cache', { ...draftModel(7), enablePrefixCaching: false }, 1],
    [
      'with a draft model, preempted by a KV pool of 40 blocks',
      { ...draftModel(3), numBlocksOverride: 40 },
      64,
    ],
    [
      'with a draft model, 20 tokens in a step',
      { ...draftModel(5), maxNumBatchedTokens: 20, maxNumSeqs: 16 },
      64,
    ],
    ['with a draft model, in chunks of 7 tokens', { ...draftModel(4), longPrefillTokenThreshold: 7 }, 64],
  ];

  it.each([...variations, ...speculative])('%s', async (_name, options, concurrency) => {
    let numPreemptions = 0;
    let numAccepted = 0;
    const observer = {
      onStep: ({ numAcceptedByPosition }: StepStats) => {
        for (const count of numAcceptedByPosition) numAccepted += count;
      },
      onFinished: (record: { numPreemptions: number }) => (numPreemptions += record.numPreemptions),
    };
    const engine = await Engine.open({ ...base, ...options, observer });
    const results = await runTogether(engine, cases, concurrency);
    expect(engine.stats).toMatchObject({ numRunning: 0, numWaiting: 0, kvCacheUsage: 0 });
    await engine.close();
    const wanted = await alone();
    const wrong = results.flatMap((result, i) =>
      result === wanted[i] ? [] : [{ case: i, result, wanted: wanted[i] }],
    );
    expect(wrong.slice(0, 3), `seed ${seed}: ${wrong.length} of ${cases.length} differ`).toEqual([]);
    if (options.numBlocksOverride !== undefined) expect(numPreemptions).toBeGreaterThan(0);
    if (options.speculation !== undefined) expect(numAccepted).toBeGreaterThan(50);
  });

  it('with the model as its own draft, whose guesses are never wrong', async () => {
    const counts = { drafted: 0, accepted: 0 };
    const onStep = ({ numDraftTokens, numAcceptedByPosition }: StepStats) => {
      counts.drafted += numDraftTokens;
      for (const count of numAcceptedByPosition) counts.accepted += count;
    };
    const engine = await Engine.open({
      ...base,
      ...draftModel(4, { model: storiesFolder }),
      observer: { onStep },
    });
    expect(await runTogether(engine, cases, 64)).toEqual(await alone());
    await engine.close();
    expect(counts.drafted).toBeGreaterThan(1000);
    expect(counts.accepted).toBe(counts.drafted);
  });

  it.each(['float16', 'bfloat16', 'int8_per_token_head'] as const)(
    'with a cache of %s',
    async (kvCacheDtype) => {
      const few = cases.slice(0, 64);
      const open = (options: Partial<EngineOptions>) => Engine.open({ ...base, kvCacheDtype, ...options });
      const lone = await open({ enablePrefixCaching: false });
      const wanted = await runTogether(lone, few, 1);
      await lone.close();
      const crowded = await open({ blockSize: 8, longPrefillTokenThreshold: 33, threads: 3 });
      const results = await runTogether(crowded, few, 64);
      await crowded.close();
      expect(results).toEqual(wanted);
    },
  );
});
