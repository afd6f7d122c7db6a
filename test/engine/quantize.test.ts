// 4-bit checkpoints: what is written is what is served, awq loses less than rounding, and work goes on
// where it stopped.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { scaleColumns, searchClip, searchScales } from '../../engine/quantize/awq-search.ts';
import { asHalf, dequantise, type Matrix, quantise } from '../../engine/quantize/groups.ts';
import { runCli, runCliInLittleRoom } from '../end-to-end/server-process.ts';
import { greedyCases, hasStories, storiesFolder } from '../stories260k.ts';
import { randomInts } from './random.ts';

function randomMatrix(random: () => number, rows: number, cols: number): Matrix {
  return { rows, cols, values: Float32Array.from({ length: rows * cols }, () => 2 * random() - 1) };
}

/** Sum of squared differences of the outputs of two matrices. */
function outputError(a: Matrix, b: Matrix, inputs: Matrix): number {
  let error = 0;
  for (let s = 0; s < inputs.rows; s++) {
    for (let row = 0; row < a.rows; row++) {
      let dot = 0;
      for (let k = 0; k < a.cols; k++) {
        dot += (a.values[row * a.cols + k] - b.values[row * a.cols + k]) * inputs.values[s * a.cols + k];
      }
      error += dot * dot;
    }
  }
  return error;
}

describe('groups', () => {
  it('lose at most half a step, and nothing of zero', () => {
    fc.assert(
      fc.property(
        fc.array(fc.float({ min: -100, max: 100, noNaN: true }), { minLength: 64, maxLength: 64 }),
        (row) => {
          row[3] = 0;
          const matrix = { rows: 1, cols: 64, values: Float32Array.from(row) };
          const quantised = quantise(matrix, 32, null);
          const { values } = dequantise(quantised);
          expect(values[3]).toBe(0);
          values.forEach((value, i) => {
            const scale = quantised.scales[Math.floor(i / 32)];
            // The scale is rounded to f16, and the zero to a whole step.
            expect(Math.abs(value - matrix.values[i])).toBeLessThanOrEqual(scale * 1.02 + 1e-6);
          });
        },
      ),
    );
  });

  it('have scales that f16 holds', () => {
    fc.assert(
      fc.property(fc.float({ min: 0, max: 70_000, noNaN: true }), (value) => {
        const rounded = asHalf(value);
        expect(asHalf(rounded)).toBe(rounded);
        const bounded = Math.min(65_504, Math.max(2 ** -14, value));
        expect(Math.abs(rounded - bounded)).toBeLessThanOrEqual(bounded * 2 ** -11);
      }),
    );
  });
});

describe('the search', () => {
  const ints = randomInts(5);
  const random = () => ints(0, 1 << 24) / (1 << 24);
  const inputs = randomMatrix(random, 40, 64);
  // A few channels carry much more than the others, as in real models.
  for (const channel of [3, 20, 41]) for (let s = 0; s < 40; s++) inputs.values[s * 64 + channel] *= 30;
  const matrix = randomMatrix(random, 24, 64);
  const plain = outputError(dequantise(quantise(matrix, 32, null)), matrix, inputs);

  it('finds scales that lose less than rounding alone', () => {
    const scales = searchScales(
      [matrix],
      32,
      inputs,
      Int32Array.from({ length: 64 }, (_, i) => i),
    );
    const back = dequantise(quantise(scaleColumns(matrix, scales), 32, null));
    const inverse = scales.map((scale) => 1 / scale);
    expect(outputError(scaleColumns(back, inverse), matrix, inputs)).toBeLessThan(plain / 2);
  });

  it('clips only where a group loses less by it', () => {
    const clip = searchClip(matrix, 32, inputs);
    expect(clip.every((share) => share > 0.5 && share <= 1)).toBe(true);
    expect(outputError(dequantise(quantise(matrix, 32, clip)), matrix, inputs)).toBeLessThan(plain);
  });
});

describe.skipIf(!hasStories)('quire quantize', () => {
  let folder = '';
  let text = '';
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quire-quantize-'));
    text = join(folder, 'text.txt');
    await writeFile(text, greedyCases.map((one) => one.prompt + one.text).join('\n'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const quantize = (out: string, ...flags: string[]) =>
    runCli(['quantize', storiesFolder, out, '--group-size', '32', ...flags]);

  async function perplexity(model: string): Promise<number> {
    const { stdout } = await runCli(['eval', 'perplexity', model, '--text', text]);
    return Number(/perplexity ([\d.]+)/.exec(stdout)?.[1]);
  }

  it('loses less by awq than by rounding, and says what it left out', async () => {
    const [rtn, awq] = [join(folder, 'rtn'), join(folder, 'awq')];
    const rounded = await quantize(rtn, '--method', 'rtn');
    expect(rounded.code).toBe(0);
    expect(rounded.stdout).toContain('do not fit groups of 32: gate_proj, up_proj, down_proj\n');
    expect((await quantize(awq, '--calibration', text)).code).toBe(0);
    const original = await perplexity(storiesFolder);
    const [lossRtn, lossAwq] = [(await perplexity(rtn)) - original, (await perplexity(awq)) - original];
    expect(lossRtn).toBeGreaterThan(0);
    expect(lossRtn).toBeLessThan(0.3);
    expect(lossAwq).toBeLessThan(lossRtn);
    const { quantization_config: config } = JSON.parse(await readFile(join(awq, 'config.json'), 'utf8'));
    expect(config).toMatchObject({ quant_method: 'awq', bits: 4, group_size: 32, version: 'gemm' });
    expect(config.modules_to_not_convert).toEqual(['lm_head', 'gate_proj', 'up_proj', 'down_proj']);
  });

  it('goes on where it stopped, and begins anew for another job', async () => {
    const whole = join(folder, 'whole');
    await quantize(whole, '--method', 'rtn');
    const shards = (await readdir(whole)).filter((name) => name.endsWith('.safetensors')).sort();
    expect(shards).toHaveLength(6);
    // What a run that was broken off leaves: its job, and shards; one with a mark shows that it was kept.
    const leave = async (job: string) => {
      await mkdir(`${out}.unfinished`);
      await writeFile(join(`${out}.unfinished`, 'job.json'), job);
      const marked = Buffer.concat([await readFile(join(whole, shards[1])), Buffer.from('mark')]);
      await writeFile(join(`${out}.unfinished`, shards[1]), marked);
      return marked;
    };
    const out = join(folder, 'out');
    const calibration = createHash('sha256').update(new Int32Array(0)).digest('hex');
    const job = { modelPath: storiesFolder, method: 'rtn', groupSize: 32, threads: 1, calibration };
    const marked = await leave(JSON.stringify(job));
    expect((await quantize(out, '--method', 'rtn', '--threads', '1')).code).toBe(0);
    expect(await readFile(join(out, shards[1]))).toEqual(marked);
    await rm(out, { recursive: true });
    await leave('{"another": "job"}');
    expect((await quantize(out, '--method', 'rtn')).code).toBe(0);
    expect(existsSync(`${out}.unfinished`)).toBe(false);
    for (const name of shards)
      expect(await readFile(join(out, name))).toEqual(await readFile(join(whole, name)));
  });

  it('says so when the disk is full, and goes on when there is room again', async () => {
    const out = join(folder, 'out');
    const flags = ['quantize', storiesFolder, out, '--group-size', '32', '--method', 'rtn'];
    const { code, stderr } = await runCliInLittleRoom(flags, 40);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^quire: the disk has no room for .*out.unfinished \(EFBIG\): make some .*\n$/m);
    expect(existsSync(out)).toBe(false);
    expect((await runCli(flags)).code).toBe(0);
  });

  it('refuses in one line', async () => {
    const out = join(folder, 'out');
    await writeFile(join(folder, 'empty.txt'), '');
    const rows: Array<[args: string[], expected: RegExp]> = [
      [['quantize', storiesFolder], /^quire: quantize needs MODEL and OUT first\n$/],
      [['quantize', storiesFolder, out], /^quire: --method awq needs --calibration FILE\n$/],
      [
        ['quantize', storiesFolder, out, '--calibration', '/nonexistent'],
        /^quire: --calibration: .* does not exist\n$/,
      ],
      [
        ['quantize', storiesFolder, out, '--calibration', join(folder, 'empty.txt')],
        /^quire: the calibration text has 1 tokens, at least 16 are needed\n$/,
      ],
      [['quantize', storiesFolder, out, '--bits', '3'], /^quire: --bits: found "3", allowed: 4\n$/],
      [['quantize', storiesFolder, folder, '--method', 'rtn'], /exists: name a new folder\n$/],
    ];
    for (const [args, expected] of rows) {
      const { code, stderr } = await runCli(args);
      expect(code).toBe(1);
      expect(stderr).toMatch(expected);
    }
    expect(existsSync(out)).toBe(false);
  });
});
