// A merged checkpoint says what peft's merged model says, and is written whole or not at all.

import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defaultSamplingParams, Engine } from '../../dist/engine/engine.js';
import { bytesOf, floatsOf } from '../../engine/floats.ts';
import { mergeLora } from '../../engine/merge-lora.ts';
import { runCli, runCliInLittleRoom } from '../end-to-end/server-process.ts';
import { hasStories, storiesFolder } from '../stories260k.ts';

const adapters = fileURLToPath(new URL('../golden/lora', import.meta.url));
const golden: { maxTokens: number; cases: Array<{ adapter: string; prompt: string; tokenIds: number[] }> } =
  JSON.parse(readFileSync(`${adapters}/cases.json`, 'utf8'));

describe.skipIf(!hasStories)('merge-lora', () => {
  let folder = '';
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quire-merge-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it.each(['all-linear', 'rslora', 'rank-one'])('%s: the text of peft', async (adapter) => {
    const out = join(folder, 'merged');
    const seen: string[] = [];
    await mergeLora(storiesFolder, join(adapters, adapter), out, (_done, _total, name) => seen.push(name));
    expect(new Set(seen).size).toBe(47);
    const engine = await Engine.open({ model: out });
    for (const { prompt, tokenIds } of golden.cases.filter((one) => one.adapter === adapter)) {
      const { tokenIds: promptTokenIds } = await engine.encodeText(prompt, true);
      const sampling = { ...defaultSamplingParams, temperature: 0, maxTokens: golden.maxTokens };
      const found: number[] = [];
      for await (const delta of engine.generate({ requestId: 'test', promptTokenIds, sampling })) {
        found.push(...delta.tokenIds);
      }
      expect(found).toEqual(tokenIds);
    }
    await engine.close();
  });

  it('leaves nothing under the final name when something is wrong', async () => {
    const base = join(folder, 'base');
    await cp(storiesFolder, base, { recursive: true });
    const out = join(folder, 'out');
    const refused = async (adapter: string, expected: RegExp) => {
      const { code, stderr } = await runCli(['merge-lora', base, adapter, out]);
      expect(code).toBe(1);
      expect(stderr).toMatch(expected);
      expect([existsSync(out), existsSync(`${out}.unfinished`)]).toEqual([false, false]);
    };
    await refused(join(folder, 'nothing'), /^quire: .*nothing is not an adapter folder\n$/);
    await refused(adapters, /adapter_config.json is missing/);
    const weights = await readFile(join(base, 'model.safetensors'));
    await rm(join(base, 'model.safetensors'));
    await writeFile(join(base, 'model.safetensors'), weights);
    await truncate(join(base, 'model.safetensors'), 700_000);
    await refused(join(adapters, 'rslora'), /truncated/);
  });

  it('leaves nothing when the disk is full', async () => {
    const out = join(folder, 'out');
    const args = ['merge-lora', storiesFolder, join(adapters, 'rslora'), out];
    const { code, stderr } = await runCliInLittleRoom(args, 200);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^quire: the disk has no room for .*out \(EFBIG\): make some .*\n$/m);
    expect([existsSync(out), existsSync(`${out}.unfinished`)]).toEqual([false, false]);
  });

  it('refuses to write over anything', async () => {
    const { code, stderr } = await runCli(['merge-lora', storiesFolder, join(adapters, 'rslora'), folder]);
    expect([code, stderr]).toEqual([1, `quire: ${folder} exists: name a new folder\n`]);
  });
});

describe('numbers of files', () => {
  it.each(['f32', 'f16', 'bf16'] as const)('%s bytes survive', (dtype) => {
    const bits = fc.integer({ min: 0, max: 0xffff });
    fc.assert(
      fc.property(fc.array(bits, { minLength: 1, maxLength: 50 }), (values) => {
        const bytes = Buffer.from(
          dtype === 'f32' ? Float32Array.from(values).buffer : Uint16Array.from(values).buffer,
        );
        const floats = floatsOf(bytes, dtype);
        if (floats.some((value) => !Number.isFinite(value))) return;
        expect(bytesOf(floats, dtype)).toEqual(bytes);
      }),
      { numRuns: 2000 },
    );
  });

  it('round to the nearest, ties to even', () => {
    const rounded = (value: number, dtype: 'f16' | 'bf16') =>
      floatsOf(bytesOf(Float32Array.of(value), dtype), dtype)[0];
    expect(rounded(1 + 2 ** -11, 'f16')).toBe(1);
    expect(rounded(1 + 3 * 2 ** -11, 'f16')).toBe(1 + 2 ** -9);
    expect(rounded(2 ** -25, 'f16')).toBe(0);
    expect(rounded(1.5 * 2 ** -24, 'f16')).toBe(2 ** -23);
    expect(rounded(65_520, 'f16')).toBe(Number.POSITIVE_INFINITY);
    expect(rounded(1 + 2 ** -8, 'bf16')).toBe(1);
    expect(rounded(1 + 3 * 2 ** -8, 'bf16')).toBe(1 + 2 ** -6);
  });
});
