// Adapters: peft's own merged text, alone or in a crowd of others, more of them than slots.

import { readFileSync } from 'node:fs';
import { cp, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultSamplingParams, Engine, ModelError } from '../../dist/engine/engine.js';
import { buildApp } from '../../dist/server/app.js';
import { testAppOptions } from '../server/app-options.ts';
import { greedyCases, hasStories, storiesFolder } from '../stories260k.ts';

const folder = fileURLToPath(new URL('../golden/lora', import.meta.url));
const golden: { maxTokens: number; cases: Array<{ adapter: string; prompt: string; tokenIds: number[] }> } =
  JSON.parse(readFileSync(`${folder}/cases.json`, 'utf8'));
const names = ['all-linear', 'rslora', 'rank-one'];
const sampling = { ...defaultSamplingParams, temperature: 0, maxTokens: golden.maxTokens };

describe.skipIf(!hasStories)('adapters of stories260k', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await Engine.open({ model: storiesFolder, maxLoras: 2 });
    for (const name of names) await engine.loadAdapter(name, join(folder, name));
  });
  afterAll(() => engine?.close());

  async function generate(adapter: string | null, prompt: string): Promise<number[]> {
    const { tokenIds } = await engine.encodeText(prompt, true);
    const out: number[] = [];
    const request = { requestId: 'test', promptTokenIds: tokenIds, sampling, adapter };
    for await (const delta of engine.generate(request)) out.push(...delta.tokenIds);
    return out;
  }

  it.each(golden.cases)(
    '$adapter continues "$prompt" as peft does',
    async ({ adapter, prompt, tokenIds }) => {
      expect(await generate(adapter, prompt)).toEqual(tokenIds);
    },
  );

  it('runs on the CUDA kernels, in the emulator, with padded heads', async () => {
    const emulated = await Engine.open({
      model: storiesFolder,
      backend: 'emulated',
      maxNumBatchedTokens: 64,
    });
    await emulated.loadAdapter('all-linear', join(folder, 'all-linear'));
    const one = golden.cases.find(({ adapter }) => adapter === 'all-linear') as (typeof golden.cases)[number];
    const { tokenIds } = await emulated.encodeText(one.prompt, true);
    const sampling = { ...defaultSamplingParams, temperature: 0, maxTokens: 12 };
    const request = { requestId: 'test', promptTokenIds: tokenIds, sampling, adapter: 'all-linear' };
    const found: number[] = [];
    for await (const delta of emulated.generate(request)) found.push(...delta.tokenIds);
    expect(found).toEqual(one.tokenIds.slice(0, 12));
    await emulated.close();
  });

  it('mixes 32 requests of three adapters and none in two slots', async () => {
    const base = greedyCases.map(({ prompt, tokenIds }) => ({
      adapter: null,
      prompt,
      tokenIds: tokenIds.slice(0, golden.maxTokens),
    }));
    const all = [...golden.cases, ...base];
    const crowd = Array.from({ length: 32 }, (_, i) => all[(i * 5) % all.length]);
    const found = await Promise.all(crowd.map(({ adapter, prompt }) => generate(adapter, prompt)));
    expect(found).toEqual(crowd.map(({ tokenIds }) => tokenIds));
  });

  it('never shares a cached prefix between adapters', async () => {
    const prompt = 'Tom saw a cat on a red mat and sang. ';
    const { tokenIds } = await engine.encodeText(prompt.repeat(3), true);
    const cached = async (adapter: string | null) => {
      const request = {
        requestId: 'test',
        promptTokenIds: tokenIds,
        sampling: { ...sampling, maxTokens: 1 },
        adapter,
      };
      let count = 0;
      for await (const delta of engine.generate(request)) count = delta.numCachedTokens;
      return count;
    };
    for (const adapter of [null, ...names]) {
      expect(await cached(adapter)).toBe(0);
      expect(await cached(adapter)).toBeGreaterThan(0);
    }
    await engine.loadAdapter('rslora', join(folder, 'rslora'));
    expect(await cached('rslora')).toBe(0);
  });

  it('lets requests finish when their adapter is unloaded', async () => {
    const { prompt, tokenIds } = golden.cases[0];
    await engine.loadAdapter('leaving', join(folder, 'all-linear'));
    const running = Array.from({ length: 4 }, () => generate('leaving', prompt));
    await generate(null, 'A');
    expect(engine.unloadAdapter('leaving')).toBe(true);
    expect(engine.unloadAdapter('leaving')).toBe(false);
    for (const found of await Promise.all(running)) expect(found).toEqual(tokenIds);
    await expect(generate('leaving', prompt)).rejects.toThrow('the adapter leaving is not loaded');
  });

  it('serves the model and its adapters by name over HTTP', async () => {
    const options = { ...testAppOptions, servedModelNames: ['base'], allowRuntimeLora: true };
    const { fastify } = await buildApp(engine, options);
    const post = async (url: string, payload: object) => {
      const answer = await fastify.inject({ method: 'POST', url, payload });
      return { status: answer.statusCode, body: answer.json() };
    };
    const { adapter: model, prompt } = golden.cases[0];
    const first = await post('/v1/completions', {
      model,
      prompt,
      max_tokens: 8,
      temperature: 0,
      return_token_ids: true,
    });
    expect(first.body.model).toBe(model);
    expect(first.body.choices[0].token_ids).toEqual(golden.cases[0].tokenIds.slice(0, 8));
    const listed = (await fastify.inject('/v1/models')).json().data;
    expect(listed.map(({ id }: { id: string }) => id).sort()).toEqual([...names, 'base'].sort());
    expect(listed.find(({ id }: { id: string }) => id === 'rslora').parent).toBe('base');

    const load = (lora_name: string, lora_path: string) =>
      post('/v1/load_lora_adapter', { lora_name, lora_path });
    expect((await load('fourth', join(folder, 'rank-one'))).status).toBe(200);
    expect((await post('/v1/completions', { model: 'fourth', prompt, max_tokens: 1 })).status).toBe(200);
    expect((await post('/v1/unload_lora_adapter', { lora_name: 'fourth' })).status).toBe(200);
    expect((await post('/v1/unload_lora_adapter', { lora_name: 'fourth' })).status).toBe(404);
    expect((await post('/v1/completions', { model: 'fourth', prompt })).status).toBe(404);
    expect((await load('fifth', '/nonexistent')).body.error).toMatchObject({
      param: 'lora_path',
      code: 'invalid_value',
    });
    expect((await load('base', join(folder, 'rank-one'))).body.error.param).toBe('lora_name');
    expect(first.status).toBe(200);
    await fastify.close();
  });

  it('keeps no more adapters in memory than it may', async () => {
    const small = await Engine.open({ model: storiesFolder, maxCpuLoras: 2 });
    await small.loadAdapter('a', join(folder, 'rank-one'));
    await small.loadAdapter('b', join(folder, 'rank-one'));
    await small.loadAdapter('b', join(folder, 'rslora'));
    await expect(small.loadAdapter('c', join(folder, 'rank-one'))).rejects.toThrow(
      '2 adapters are in memory, allowed 2 (--max-cpu-loras): unload one first',
    );
    small.unloadAdapter('a');
    await small.loadAdapter('c', join(folder, 'rank-one'));
    expect([...small.adapters.keys()]).toEqual(['b', 'c']);
    await small.close();
  });

  it('offers no route for it unless told to', async () => {
    const { fastify } = await buildApp(engine, testAppOptions);
    const answer = await fastify.inject({ method: 'POST', url: '/v1/load_lora_adapter', payload: {} });
    expect(answer.statusCode).toBe(404);
    await fastify.close();
  });

  describe('refuses', () => {
    let copy = '';
    const config = () => JSON.parse(readFileSync(`${folder}/all-linear/adapter_config.json`, 'utf8'));
    const withConfig = (fields: object) => (path: string) =>
      writeFile(join(path, 'adapter_config.json'), JSON.stringify({ ...config(), ...fields }));
    const rows: Array<[name: string, damage: (path: string) => Promise<void>, expected: RegExp]> = [
      ['a missing file', (path) => rm(join(path, 'adapter_model.safetensors')), /adapter_model.safetensors is missing/],
      ['another method', withConfig({ peft_type: 'IA3' }), /peft_type is "IA3", allowed: "LORA"/],
      ['DoRA', withConfig({ use_dora: true }), /use_dora is true/],
      ['a rank above the limit', withConfig({ r: 65 }), /r is 65, allowed: at most 64/],
      ['a rank that is not the tensors', withConfig({ r: 5 }), /has shape .*, expected .*: is it for another model/],
      ['saved modules', withConfig({ modules_to_save: ['lm_head'] }), /modules_to_save/],
      ['a config that is no JSON', (path) => writeFile(join(path, 'adapter_config.json'), '{'), /is not JSON/],
      ['truncated weights', (path) => truncate(join(path, 'adapter_model.safetensors'), 9000), /adapter_model.safetensors/],
    ]; // biome-ignore format: one damage a row

    it.each(rows)('%s', async (_name, damage, expected) => {
      copy = await mkdtemp(join(tmpdir(), 'quire-lora-'));
      await cp(join(folder, 'all-linear'), copy, { recursive: true });
      await damage(copy);
      const loading = engine.loadAdapter('bad', copy);
      await expect(loading).rejects.toThrow(expected);
      await expect(loading).rejects.toThrow(ModelError);
      expect(engine.adapters.has('bad')).toBe(false);
      expect(await generate('rank-one', golden.cases[6].prompt)).toEqual(golden.cases[6].tokenIds);
      await rm(copy, { recursive: true });
    });
  });
});
