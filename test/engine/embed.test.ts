// Engine.embed: the hidden state of a prompt's last token, as transformers has it, and the same bits whatever
// runs beside it.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AbortedError,
  defaultSamplingParams,
  Engine,
  EngineEndedError,
  type EngineOptions,
  normalize,
  type RequestRecord,
} from '../../dist/engine/engine.js';
import { hasStories, storiesFolder } from '../stories260k.ts';
import { randomInts } from './random.ts';

interface Case {
  text: string;
  tokenIds: number[];
  values: number[];
}

const golden: { cases: Record<'stories260k' | 'quire-demo' | 'quire-demo-rhymes', Case[]> } = JSON.parse(
  readFileSync(new URL('../golden/hidden-states.json', import.meta.url), 'utf8'),
);
const demo = fileURLToPath(new URL('../../models/quire-demo', import.meta.url));
const maxModelLen = 256;
const base: EngineOptions = { model: demo, maxModelLen, threads: 2 };
const exact = { cpuActivations: 'f32', kvCacheDtype: 'float32' } as const;

function embed(engine: Engine, tokenIds: readonly number[], adapter: string | null = null) {
  return engine.embed({ requestId: 'test', promptTokenIds: Int32Array.from(tokenIds), adapter });
}

async function expectGolden(engine: Engine, cases: Case[], adapter: string | null = null): Promise<void> {
  for (const { text, tokenIds, values } of cases) {
    expect([...(await engine.encodeText(text, true)).tokenIds]).toEqual(tokenIds);
    const found = normalize(await embed(engine, tokenIds, adapter));
    expect(found.length).toBe(values.length);
    const errors = values.map((value, i) => Math.abs(value - found[i]));
    expect(Math.max(...errors), text).toBeLessThan(1e-4);
  }
}

describe('the hidden state of the last token is that of transformers', () => {
  it('of quire-demo, with its adapter and without', async () => {
    const engine = await Engine.open({ ...base, ...exact });
    await engine.loadAdapter('rhymes', `${demo}-rhymes`);
    await expectGolden(engine, golden.cases['quire-demo']);
    await expectGolden(engine, golden.cases['quire-demo-rhymes'], 'rhymes');
    await engine.close();
  });

  it.skipIf(!hasStories)('of stories260k', async () => {
    const engine = await Engine.open({ model: storiesFolder, ...exact });
    await expectGolden(engine, golden.cases.stories260k);
    await engine.close();
  });
});

describe('the same bits', () => {
  const int = randomInts(Number(process.env.QUIRE_TEST_SEED ?? 20_260_101));
  const tokens = (count: number) => Array.from({ length: count }, () => int(3, 2000));
  const stems = Array.from({ length: 5 }, () => tokens(int(20, 120)));
  const prompts = Array.from({ length: 96 }, () => [
    ...stems[int(0, 4)].slice(0, int(1, 120)),
    ...tokens(int(0, 60)),
  ]);

  /** Every other one among answers that are being written. */
  async function embedAll(engine: Engine, isCrowd: boolean): Promise<Float32Array[]> {
    if (!isCrowd) {
      const found: Float32Array[] = [];
      for (const prompt of prompts) found.push(await embed(engine, prompt));
      return found;
    }
    const sampling = { ...defaultSamplingParams, temperature: 0, maxTokens: 20, ignoreEos: true };
    const write = async (prompt: readonly number[]) => {
      const request = { requestId: 'test', promptTokenIds: Int32Array.from(prompt), sampling };
      for await (const _delta of engine.generate(request));
    };
    const embedded = prompts.map((prompt, i) => {
      const answer = i % 2 === 0 ? write(prompt) : null;
      return Promise.all([embed(engine, prompt), answer]).then(([values]) => values);
    });
    return Promise.all(embedded);
  }

  let wanted: Float32Array[] = [];
  beforeAll(async () => {
    const engine = await Engine.open({ ...base, enablePrefixCaching: false });
    wanted = await embedAll(engine, false);
    await engine.close();
  });

  it.each<[string, EngineOptions, boolean]>([
    ['one by one, with the prefix cache', base, false],
    ['in a crowd', base, true],
    ['in a crowd, with the prefix cache off', { ...base, enablePrefixCaching: false }, true],
    ['in chunks of 1 token', { ...base, longPrefillTokenThreshold: 1, maxNumSeqs: 16 }, true],
    ['in chunks of 7 tokens, in blocks of 8', { ...base, longPrefillTokenThreshold: 7, blockSize: 8 }, true],
    ['with 40 tokens in a step', { ...base, maxNumBatchedTokens: 40, maxNumSeqs: 16 }, true],
    ['preempted by a KV pool of 20 blocks', { ...base, numBlocksOverride: 20 }, true],
    ['on three threads, with drafts', { ...base, threads: 3, speculation: ngram() }, true],
  ])('%s', async (_name, options, isCrowd) => {
    let numPreemptions = 0;
    const onFinished = (record: RequestRecord) => {
      numPreemptions += record.numPreemptions;
    };
    const engine = await Engine.open({ ...options, observer: { onFinished } });
    const found = await embedAll(engine, isCrowd);
    expect(engine.stats).toMatchObject({ numRunning: 0, numWaiting: 0, kvCacheUsage: 0 });
    await engine.close();
    expect(found).toEqual(wanted);
    if (options.numBlocksOverride !== undefined) expect(numPreemptions).toBeGreaterThan(0);
  });
});

function ngram() {
  return { method: 'ngram', numSpeculativeTokens: 4, promptLookupMax: 3, promptLookupMin: 1 } as const;
}

describe('Engine.embed', () => {
  let engine: Engine;
  const records: RequestRecord[] = [];
  beforeAll(async () => {
    const observer = { onFinished: (record: RequestRecord) => records.push(record) };
    engine = await Engine.open({ ...base, observer });
  });
  afterAll(() => engine.close());
  const prompt = (count: number) => Int32Array.from({ length: count }, (_, i) => 3 + i);

  it('takes a prompt that fills the context, and none that is longer', async () => {
    expect(await embed(engine, [...prompt(maxModelLen)])).toHaveLength(engine.description.hiddenSize);
    await expect(embed(engine, [...prompt(maxModelLen + 1)])).rejects.toMatchObject({
      message: 'the prompt has 257 tokens and the context length is 256',
      code: 'context_length_exceeded',
    });
    await expect(embed(engine, [])).rejects.toThrow('the prompt has no tokens, at least 1 is needed');
    await expect(embed(engine, [2048])).rejects.toThrow('token id 2048 is not in the vocabulary');
    await expect(embed(engine, [1], 'nobody')).rejects.toThrow('the adapter nobody is not loaded');
  });

  it('reports a request that made no tokens', async () => {
    records.length = 0;
    await engine.embed({ requestId: 'seen', promptTokenIds: prompt(40) });
    expect(records).toMatchObject([
      {
        requestId: 'seen',
        numPromptTokens: 40,
        numCachedTokens: 32,
        numOutputTokens: 0,
        firstTokenMs: null,
        finishReason: 'stop',
      },
    ]);
  });

  it('ends when its caller leaves, when it is aborted, and with the engine', async () => {
    await engine.control.ask('pause');
    const leaving = new AbortController();
    const left = engine.embed({ requestId: 'left', promptTokenIds: prompt(9), signal: leaving.signal });
    const aborted = engine.embed({ requestId: 'aborted', promptTokenIds: prompt(9) });
    const ended = engine.embed({ requestId: 'ended', promptTokenIds: prompt(9) });
    const ends = [left, aborted, ended].map((end) => end.catch((error: unknown) => error));
    leaving.abort(new Error('gone'));
    expect(engine.abort(['aborted'])).toBe(1);
    expect(await ends[0]).toEqual(new Error('gone'));
    expect(await ends[1]).toBeInstanceOf(AbortedError);
    await engine.close();
    expect(await ends[2]).toBeInstanceOf(EngineEndedError);
    await expect(embed(engine, [1])).rejects.toThrow(EngineEndedError);
  });
});
