// The forward pass on a real model, against transformers' logits.

import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { type LoadedModel, loadModel } from '../../engine/model-files.ts';
import { cpuFeatures, type KvCacheDtype, type NativeModelOptions } from '../../engine/native.ts';
import { hasStories, storiesFolder } from '../stories260k.ts';
import { forward, forwardOptions, openForForward, stepChunks } from './forward.ts';

interface Golden {
  tokenIds: number[];
  positions: Array<{ argmax: number; logits: Record<string, number> }>;
}

const golden: Golden = JSON.parse(
  readFileSync(new URL('../golden/stories260k-logits.json', import.meta.url), 'utf8'),
);

function maxError(logits: readonly Float32Array[]): number {
  return Math.max(
    ...golden.positions.flatMap(({ logits: expected }, position) =>
      Object.entries(expected).map(([id, logit]) => Math.abs(logits[position][Number(id)] - logit)),
    ),
  );
}

describe.skipIf(!hasStories)('stories260k', () => {
  let model: LoadedModel;
  beforeAll(async () => {
    model = await loadModel(storiesFolder, { loadFormat: 'auto' });
  });

  const variants = [['reference', null] as const, ...cpuFeatures().variants.map((v) => ['cpu', v] as const)];
  it.each(variants)('has the logits of transformers over 200 positions (%s %s)', (backend, cpuVariant) => {
    for (const chunkSize of backend === 'reference' ? [200] : [200, 7]) {
      const native = openForForward(model, { backend, cpuVariant });
      const logits = forward(native, golden.tokenIds, chunkSize, 16);
      native.close();
      expect(golden.tokenIds).toHaveLength(200);
      expect(maxError(logits)).toBeLessThanOrEqual(1e-3);
      const argmax = logits.map((row) => row.indexOf(Math.max(...row)));
      expect(argmax).toEqual(golden.positions.map((position) => position.argmax));
    }
  });

  it.each([8, 16, 32])('computes the same bits with blocks of %i, in any chunks', (blockSize) => {
    const reference = openForForward(model);
    const expected = forward(reference, golden.tokenIds, 200, 16);
    reference.close();
    for (const chunkSize of [1, 7, 64, 200]) {
      const native = openForForward(model, { blockSize });
      expect(forward(native, golden.tokenIds, chunkSize, blockSize)).toEqual(expected);
      native.close();
    }
  });

  it('computes the same bits beside other sequences, decodes and prefill chunks mixed', () => {
    const alone = openForForward(model);
    const expected = forward(alone, golden.tokenIds, 200, 16);
    alone.close();
    const native = openForForward(model);
    const { tokenIds } = golden;
    forward(native, tokenIds.slice(0, 50), 50, 16, 0);
    const mixed = stepChunks(
      native,
      [
        { row: 0, tokenIds: tokenIds.slice(50, 51), start: 50 },
        { row: 3, tokenIds: tokenIds.slice(0, 33), start: 0 },
        { row: 1, tokenIds: tokenIds.slice(0, 100), start: 0 },
      ],
      16,
    );
    native.close();
    expect(mixed[0]).toEqual(expected[50]);
    expect(mixed.slice(1, 34)).toEqual(expected.slice(0, 33));
    expect(mixed.slice(34)).toEqual(expected.slice(0, 100));
  });

  it('stays close with a cache or weights in fewer bits', () => {
    // Far from exact, and far from wrong.
    const cases: Array<[Partial<NativeModelOptions>, low: number, high: number]> = [
      [{ kvCacheDtype: 'f16' }, 1e-4, 0.05],
      [{ kvCacheDtype: 'bf16' }, 1e-3, 0.5],
      // One scale for the 8 numbers of a head: the reference is as far off.
      [{ kvCacheDtype: 'i8' }, 1e-3, 1],
      [{ dtype: 'bf16' }, 1e-3, 0.5],
    ];
    for (const [options, low, high] of cases) {
      const native = openForForward(model, options);
      const error = maxError(forward(native, golden.tokenIds, 200, 16));
      native.close();
      expect(error, JSON.stringify(options)).toBeGreaterThan(low);
      expect(error, JSON.stringify(options)).toBeLessThan(high);
    }
  });

  it('counts what a block of 8-bit keys and values takes, scales included', () => {
    const bytesOf = (kvCacheDtype: KvCacheDtype) => {
      const native = openForForward(model, { kvCacheDtype });
      const { kvBytesPerBlock } = native.memory;
      native.close();
      return kvBytesPerBlock;
    };
    const { numLayers, numKvHeads } = model.config;
    const scales = 2 * numLayers * numKvHeads * forwardOptions.blockSize * 4;
    expect(bytesOf('i8')).toBe(bytesOf('f32') / 4 + scales);
    expect(bytesOf('f16')).toBe(bytesOf('f32') / 2);
  });
});
