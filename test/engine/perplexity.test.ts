// Perplexity over windows is transformers'.

import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Engine } from '../../dist/engine/engine.js';
import { measurePerplexity } from '../../engine/perplexity.ts';
import { runCli } from '../end-to-end/server-process.ts';
import { hasStories, storiesFolder } from '../stories260k.ts';

interface Golden {
  text: string;
  numTokens: number;
  cases: Array<{ window: number; stride: number; negativeLogLikelihood: number }>;
}
const golden: Golden = JSON.parse(
  readFileSync(new URL('../golden/perplexity.json', import.meta.url), 'utf8'),
);

describe.skipIf(!hasStories)('perplexity of stories260k', () => {
  let engine: Engine;
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quire-perplexity-'));
    engine = await Engine.open({ model: storiesFolder });
  });
  afterAll(async () => {
    await engine.close();
    await rm(folder, { recursive: true, force: true });
  });

  it.each(golden.cases)(
    'window $window, stride $stride',
    async ({ window, stride, negativeLogLikelihood }) => {
      const found = await measurePerplexity(engine, golden.text, { window, stride }, () => {});
      expect(found.numTokens).toBe(golden.numTokens);
      expect(found.negativeLogLikelihood).toBeCloseTo(negativeLogLikelihood, 2);
      expect(found.perplexity).toBeCloseTo(Math.exp(negativeLogLikelihood / golden.numTokens), 3);
      const bits = negativeLogLikelihood / Math.LN2 / Buffer.byteLength(golden.text);
      expect(found.bitsPerByte).toBeCloseTo(bits, 4);
    },
  );

  it('on the command line', async () => {
    const file = join(folder, 'text.txt');
    await writeFile(file, golden.text);
    const { code, stdout } = await runCli([
      'eval',
      'perplexity',
      storiesFolder,
      '--text',
      file,
      '--window',
      '16',
      '--stride',
      '8',
    ]);
    const perplexity = Math.exp(golden.cases[1].negativeLogLikelihood / golden.numTokens);
    expect(code).toBe(0);
    expect(Number(/perplexity ([\d.]+)/.exec(stdout)?.[1])).toBeCloseTo(perplexity, 2);
    await writeFile(file, '');
    const empty = await runCli(['eval', 'perplexity', storiesFolder, '--text', file]);
    expect([empty.code, empty.stderr]).toEqual([1, 'quire: the text has 1 tokens, at least 2 are needed\n']);
    const none = await runCli(['eval', 'perplexity', storiesFolder]);
    expect([none.code, none.stderr]).toEqual([1, 'quire: eval perplexity needs MODEL and --text FILE\n']);
  });
});
