// What rounding costs, on the logits: activations to 8 bits in front of integer weights, and every matrix to
// 8 bits (`--quantization int8`).

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type LoadedModel, loadModel } from '../../engine/model-files.ts';
import { cpuFeatures, type NativeModelOptions } from '../../engine/native.ts';
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

describe.each(cpuFeatures().variants)('rounding, %s', (cpuVariant) => {
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
