// The model that ships: small, and the same in quire as in transformers.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultSamplingParams, Engine } from '../../dist/engine/engine.js';
import { mergeLora } from '../../engine/merge-lora.ts';
import { quantizeModel } from '../../engine/quantize/quantize-model.ts';

const model = fileURLToPath(new URL('../../models/quire-demo', import.meta.url));
const adapter = `${model}-rhymes`;

interface Case {
  prompt: string;
  tokenIds: number[];
  /** With the adapter, by peft. */
  adapterTokenIds: number[];
}

/** Greedy answers of transformers; prompts as rendered text. */
const golden: { maxTokens: number; cases: Case[] } = JSON.parse(
  readFileSync(new URL('../golden/quire-demo.json', import.meta.url), 'utf8'),
);

describe('quire-demo', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await Engine.open({ model, kvCacheDtype: 'float32' });
  });
  afterAll(() => engine.close());

  it('is small', () => {
    const size = readdirSync(model).reduce((sum, name) => sum + statSync(join(model, name)).size, 0);
    expect(size).toBeLessThan(8e6);
  });

  it.each(golden.cases)('$prompt', async ({ prompt, tokenIds }) => {
    expect(await answer(engine, prompt, null)).toEqual(tokenIds);
  });
});

async function answer(engine: Engine, prompt: string, adapterName: string | null): Promise<number[]> {
  const { tokenIds: promptTokenIds } = await engine.encodeText(prompt, false);
  const sampling = { ...defaultSamplingParams, temperature: 0, maxTokens: golden.maxTokens };
  const request = { requestId: 'test', promptTokenIds, sampling, adapter: adapterName };
  const found: number[] = [];
  for await (const delta of engine.generate(request)) found.push(...delta.tokenIds);
  return found;
}

describe('quire-demo-rhymes', () => {
  it('is small', () => {
    const size = readdirSync(adapter).reduce((sum, name) => sum + statSync(join(adapter, name)).size, 0);
    expect(size).toBeLessThan(300e3);
  });

  it('says what peft says, beside the model', async () => {
    const engine = await Engine.open({ model, kvCacheDtype: 'float32' });
    await engine.loadAdapter('rhymes', adapter);
    const answers = await Promise.all(
      golden.cases.flatMap(({ prompt }) => [answer(engine, prompt, 'rhymes'), answer(engine, prompt, null)]),
    );
    expect(answers).toEqual(
      golden.cases.flatMap(({ tokenIds, adapterTokenIds }) => [adapterTokenIds, tokenIds]),
    );
    await engine.close();
  });

  it('says the same merged', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'quire-rhymes-'));
    await mergeLora(model, adapter, join(folder, 'merged'), () => {});
    const engine = await Engine.open({ model: join(folder, 'merged'), kvCacheDtype: 'float32' });
    const answers = await Promise.all(golden.cases.map(({ prompt }) => answer(engine, prompt, null)));
    expect(answers).toEqual(golden.cases.map(({ adapterTokenIds }) => adapterTokenIds));
    await engine.close();
    await rm(folder, { recursive: true });
  });

  it('says the same on the CUDA kernels, in the emulator', async () => {
    const engine = await Engine.open({
      model,
      backend: 'emulated',
      maxNumBatchedTokens: 256,
      maxModelLen: 256,
    });
    await engine.loadAdapter('rhymes', adapter);
    for (const { prompt, tokenIds, adapterTokenIds } of golden.cases.slice(0, 2)) {
      expect(await answer(engine, prompt, 'rhymes')).toEqual(adapterTokenIds);
      expect(await answer(engine, prompt, null)).toEqual(tokenIds);
    }
    await engine.close();
  });
});

describe('quire-demo in 4 bits', () => {
  it('says the same on the CUDA kernels, in the emulator, as on the CPU', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'quire-w4-'));
    const out = join(folder, 'w4');
    const options = { method: 'rtn', groupSize: 64, calibration: null, threads: 1 } as const;
    await quantizeModel(model, out, options, () => {});
    const limits = { model: out, maxNumBatchedTokens: 256, maxModelLen: 256 };
    const cpu = await Engine.open({ ...limits, kvCacheDtype: 'float32' });
    const emulated = await Engine.open({ ...limits, backend: 'emulated' });
    const prompts = golden.cases.slice(0, 4).map(({ prompt }) => prompt);
    const expected = await Promise.all(prompts.map((prompt) => answer(cpu, prompt, null)));
    expect(await Promise.all(prompts.map((prompt) => answer(emulated, prompt, null)))).toEqual(expected);
    await Promise.all([cpu.close(), emulated.close()]);
    await rm(folder, { recursive: true });
  });
});
