// AutoAWQ checkpoints: the text of the dequantised model in transformers; what is not read is refused.

import { readFileSync } from 'node:fs';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defaultSamplingParams, Engine } from '../../dist/engine/engine.js';
import { loadModel } from '../../engine/model-files.ts';

const folder = fileURLToPath(new URL('../golden/awq', import.meta.url));
const golden: { maxTokens: number; cases: Array<{ prompt: string; tokenIds: number[] }> } = JSON.parse(
  readFileSync(`${folder}/cases.json`, 'utf8'),
);

describe('an AutoAWQ checkpoint', () => {
  it.each(['avx512', 'avx2', 'portable'] as const)('is served by the %s kernels', async (cpuVariant) => {
    const opening = Engine.open({
      model: folder,
      cpuVariant,
      kvCacheDtype: 'float32',
      cpuActivations: 'f32',
      quantization: 'none',
    });
    const engine = await opening.catch((error: Error) => {
      expect(error.message).toContain('this machine cannot run');
      return null;
    });
    if (engine === null) {
      console.warn(`SKIPPED: this machine has no ${cpuVariant}`);
      return;
    }
    const sampling = { ...defaultSamplingParams, temperature: 0, maxTokens: golden.maxTokens };
    await Promise.all(
      golden.cases.map(async ({ prompt, tokenIds }) => {
        const { tokenIds: promptTokenIds } = await engine.encodeText(prompt, true);
        const found: number[] = [];
        for await (const delta of engine.generate({ requestId: 'test', promptTokenIds, sampling })) {
          found.push(...delta.tokenIds);
        }
        expect(found).toEqual(tokenIds);
      }),
    );
    await engine.close();
  });

  describe('refuses', () => {
    let copy = '';
    beforeEach(async () => {
      copy = await mkdtemp(join(tmpdir(), 'quire-awq-'));
      await cp(folder, copy, { recursive: true });
    });
    afterEach(() => rm(copy, { recursive: true }));

    it.each([
      [{ quant_method: 'gptq' }, /quant_method is "gptq", allowed: "awq", "fp8"/],
      [{ bits: 8 }, /bits is 8/],
      [{ group_size: 48 }, /group_size is 48, allowed: 32, 64, 128/],
      [{ group_size: 64 }, /qzeros is I32 .*, expected I32/],
      [{ version: 'gemv' }, /version is "gemv", allowed: "gemm"/],
      [{ zero_point: false }, /zero_point is false, allowed: true/],
    ])('%o', async (fields, expected) => {
      const config = JSON.parse(readFileSync(`${folder}/config.json`, 'utf8'));
      config.quantization_config = { ...config.quantization_config, ...fields };
      await writeFile(join(copy, 'config.json'), JSON.stringify(config));
      await expect(loadModel(copy, { loadFormat: 'auto' })).rejects.toThrow(expected);
    });
  });
});
