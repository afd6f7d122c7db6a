// What rounding costs, on the logits: activations to 8 bits in front of integer weights, and every matrix to
// 8 bits (`--quantization int8`). And that it costs the same wherever it is done.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { AdapterTensor } from '../../engine/lora-adapter.ts';
import type { LayerSlot } from '../../engine/model-config.ts';
import { type LoadedModel, loadModel } from '../../engine/model-files.ts';
import { cpuFeatures, type NativeModelOptions } from '../../engine/native.ts';
import { shapesOf } from '../../engine/weight-map.ts';
import { openForForward, stepChunks } from './forward.ts';

const pathOf = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

function logitsOf(model: LoadedModel, overrides: Partial<NativeModelOptions>): Float32Array {
  const native = openForForward(model, overrides);
  const tokenIds = Array.from({ length: 64 }, (_, i) => (i * 37 + 11) % model.config.vocabSize);
  const rows = stepChunks(native, [{ row: 0, tokenIds, start: 0 }], 16);
  native.close();
  return Float32Array.from(rows.flatMap((row) => [...row]));
}

/** Root mean square of the difference over that of the logits. */
function relativeError(found: Float32Array, expected: Float32Array): number {
  const squares = (values: (i: number) => number) => expected.reduce((sum, _, i) => sum + values(i) ** 2, 0);
  return Math.sqrt(squares((i) => found[i] - expected[i]) / squares((i) => expected[i]));
}

const projections = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const;

/** An adapter that adds 0 everywhere. */
function zeroAdapter({ config }: LoadedModel): AdapterTensor[] {
  return Array.from({ length: config.numLayers }, (_, layer) =>
    projections.map((slot: LayerSlot) => {
      const [outputs, inputs] = shapesOf(config)[slot];
      return { slot, layer, rank: 1, a: new Float32Array(inputs), b: new Float32Array(outputs) };
    }),
  ).flat();
}

describe.each(cpuFeatures().variants)('rounding, %s', (cpuVariant) => {
  // Norms and activations write 8 bits where nothing but integer matmuls reads them. A step with an adapter
  // wants floats, and the matmuls round these.
  it.each([
    ['test/golden/awq', 'auto'],
    ['models/quire-demo', 'int8'],
  ] as const)('gives the same bits in the op before the matmul as in it, %s', async (path, quantization) => {
    const model = await loadModel(pathOf(path), { loadFormat: 'auto' });
    const native = openForForward(model, { cpuVariant, roundsActivations: true, quantization });
    native.loadAdapter(1, zeroAdapter(model));
    const tokenIds = Array.from({ length: 21 }, (_, i) => (i * 41 + 3) % model.config.vocabSize);
    const alone = stepChunks(native, [{ row: 0, tokenIds, start: 0 }], 16);
    const beside = stepChunks(
      native,
      [
        { row: 0, tokenIds, start: 0 },
        { row: 1, tokenIds, start: 0, adapter: 1 },
      ],
      16,
    );
    native.close();
    expect(beside).toEqual([...alone, ...alone]);
  });

  it('costs an AutoAWQ checkpoint little', async () => {
    const model = await loadModel(pathOf('test/golden/awq'), { loadFormat: 'auto' });
    const exact = logitsOf(model, { cpuVariant });
    const error = relativeError(
      logitsOf(model, { cpuVariant, roundsActivations: true, quantization: 'auto' }),
      exact,
    );
    expect(error).toBeGreaterThan(0);
    expect(error).toBeLessThan(0.05);
  });

  it('costs a model in bfloat16 little', async () => {
    const model = await loadModel(pathOf('models/quire-demo'), { loadFormat: 'auto' });
    const exact = logitsOf(model, { cpuVariant });
    const plain = relativeError(logitsOf(model, { cpuVariant, quantization: 'int8' }), exact);
    const both = relativeError(
      logitsOf(model, { cpuVariant, roundsActivations: true, quantization: 'int8' }),
      exact,
    );
    expect(plain).toBeGreaterThan(0);
    expect(plain).toBeLessThan(0.05);
    expect(both).toBeLessThan(0.05);
  });
});
