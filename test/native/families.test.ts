// Every model family against transformers, on tiny random checkpoints (scripts/goldens/families.py).

import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadModel } from '../../engine/model-files.ts';
import { cpuFeatures } from '../../engine/native.ts';
import { forward, openForForward } from './forward.ts';

const golden = fileURLToPath(new URL('../golden/families', import.meta.url));
const families = readdirSync(golden);
const backends = [
  ['reference', null] as const,
  ...cpuFeatures().variants.map((variant) => ['cpu', variant] as const),
];

describe.each(families)('%s', (family) => {
  const expected: { tokenIds: number[]; logits: number[][] } = JSON.parse(
    readFileSync(`${golden}/${family}/logits.json`, 'utf8'),
  );

  it.each(backends)('has the logits of transformers (%s %s)', async (backend, cpuVariant) => {
    const model = await loadModel(`${golden}/${family}`, { loadFormat: 'auto' });
    for (const chunkSize of [40, 7]) {
      const native = openForForward(model, { backend, cpuVariant });
      const logits = forward(native, expected.tokenIds, chunkSize, 16);
      native.close();
      const errors = logits.flatMap((row, position) =>
        Array.from(row, (logit, id) => Math.abs(logit - expected.logits[position][id])),
      );
      expect(Math.max(...errors)).toBeLessThanOrEqual(1e-3);
    }
  });
});
