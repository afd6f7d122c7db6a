// The model that ships: small, and the same in quire as in transformers.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultSamplingParams, Engine } from '../../dist/engine/engine.js';

const model = fileURLToPath(new URL('../../models/quire-demo', import.meta.url));
/** Greedy answers of transformers; prompts as rendered text. */
const golden: { maxTokens: number; cases: Array<{ prompt: string; tokenIds: number[] }> } = JSON.parse(
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
    const { tokenIds: promptTokenIds } = await engine.encodeText(prompt, false);
    const sampling = { ...defaultSamplingParams, temperature: 0, maxTokens: golden.maxTokens };
    const found: number[] = [];
    for await (const delta of engine.generate({ requestId: 'test', promptTokenIds, sampling })) {
      found.push(...delta.tokenIds);
    }
    expect(found).toEqual(tokenIds);
  });
});
