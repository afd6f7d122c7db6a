// `quire bench ops|throughput|latency`: real runs of a small model, whose figures are there and positive.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type OpBenchOptions, opCases, readShape } from '../../engine/op-bench.ts';
import { decodeRate } from '../../server/bench/throughput.ts';
import { runCli } from '../end-to-end/server-process.ts';

const demo = fileURLToPath(new URL('../../models/quire-demo', import.meta.url));
const shape = (name: string) => fileURLToPath(new URL(`../../scripts/shapes/${name}`, import.meta.url));

describe('quire bench', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quire-bench-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  async function bench(line: string) {
    const file = join(folder, 'figures.json');
    const run = await runCli(['bench', ...line.split(' '), '--output-json', file]);
    expect(run.stderr).toBe('');
    expect(run.code).toBe(0);
    return { stdout: run.stdout, figures: JSON.parse(await readFile(file, 'utf8')) };
  }

  it('throughput: prefill, and decode of each number of streams', async () => {
    const { stdout, figures } = await bench(
      `throughput ${demo} --prefill-len 64 --input-len 16 --output-len 8 --batch-size 1 --batch-size 4 --num-iters 2`,
    );
    expect(stdout).toMatch(/^4 x 16 in, 8 out +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+$/m);
    expect(stdout).toMatch(/^peak memory \d+ MB$/m);
    expect(figures.peakMemoryBytes).toBeGreaterThan(10e6);
    expect(figures.rows.map((row: { streams: number }) => row.streams)).toEqual([1, 1, 4]);
    const [prefill, ...decodes] = figures.rows;
    expect(prefill).toMatchObject({ inputLen: 64, outputLen: 1, decodeTokensPerS: null });
    for (const row of decodes) {
      expect(row).toMatchObject({ inputLen: 16, outputLen: 8 });
      for (const name of ['decodeTokensPerS', 'prefillTokensPerS', 'outputTokensPerS', 'ttftMs']) {
        expect(row[name], name).toBeGreaterThan(0);
      }
    }
  });

  it('throughput counts the tokens of all streams together, while all of them decode', () => {
    const first = { startMs: 0, tokenMs: [10, 20, 30, 40] };
    const second = { startMs: 5, tokenMs: [20, 30, 40, 50] };
    expect(decodeRate([first])).toBe(100);
    expect(decodeRate([first, second])).toBe(200);
    expect(decodeRate([{ startMs: 0, tokenMs: [10, 10] }])).toBeNull();
  });

  it('throughput of a config alone, with random weights', async () => {
    const { figures } = await bench(
      `throughput ${demo} --load-format dummy --cpu portable --threads 1 --prefill-len 16 --input-len 4 --output-len 4 --batch-size 2 --num-iters 1`,
    );
    expect(figures.kernels).toBe('cpu portable');
    expect(figures.rows[1].decodeTokensPerS).toBeGreaterThan(0);
  });

  it('latency: first token, between tokens, the whole', async () => {
    const { stdout, figures } = await bench(`latency ${demo} --input-len 16 --output-len 10 --num-iters 3`);
    expect(stdout).toMatch(/^ +mean +p50 +p99$/m);
    for (const name of ['ttftMs', 'itlMs', 'e2eMs']) {
      const { mean, median, p99 } = figures[name];
      expect(mean, name).toBeGreaterThan(0);
      expect(p99, name).toBeGreaterThanOrEqual(median);
    }
    expect(figures.e2eMs.mean).toBeGreaterThan(figures.ttftMs.mean);
  });

  it('ops: every op at every number of rows, beside roofs', async () => {
    const { stdout, figures } = await bench(
      `ops ${demo} --weights bf16 --weights w8 --weights w6 --weights w4 --rows 1 --rows 5 --group-size 32 --seconds 0`,
    );
    for (const [name, roof] of Object.entries(figures.roofs)) {
      if (name !== 'bf16Dot') expect(roof, name).toBeGreaterThan(0);
    }
    expect(stdout).toMatch(/^memory read +[\d.]+ GB\/s linear/m);
    expect(new Set(figures.figures.map(({ op }: { op: string }) => op)).size).toBe(7);
    for (const row of figures.figures) {
      for (const name of ['ms', 'gbPerS', 'gopPerS']) expect(row[name], name).toBeGreaterThan(0);
      expect([1, 5]).toContain(row.rows);
    }
    const forms = figures.figures.map(({ weights }: { weights: string | null }) => weights);
    expect(new Set(forms)).toEqual(new Set(['bf16', 'w8', 'w6', 'w4', null]));
  });

  it('counts what a call reads and computes', async () => {
    const options: OpBenchOptions = {
      ops: ['matmul', 'attention_decode'],
      weights: ['w4', 'bf16'],
      rows: [1, 512],
      ...{ groupSize: 128, context: 100, seconds: 0, threads: 1, cpuVariant: null },
      roundsActivations: true,
    };
    const cases = opCases(await readShape(shape('llama-3.2-1b')), options);
    expect(cases.map(({ form, shape: name }) => `${form} ${name}`)).toEqual([
      ...['w4', 'bf16'].flatMap((form) => [
        `${form} qkv 3072 x 2048`,
        `${form} o 2048 x 2048`,
        `${form} gate_up 16384 x 2048`,
        `${form} down 2048 x 8192`,
        `${form} lm_head 128256 x 2048`,
      ]),
      'null 32/8 heads of 64, context 100',
    ]);
    const [w4, , , , head] = cases;
    // Half a byte a weight, and 20 bits for each group of 128.
    expect(w4.bytes(1)).toBe(3072 * 2048 * (0.5 + 20 / 8 / 128) + 4 * (3072 + 2048));
    expect(w4.operations(512)).toBe(2 * 512 * 3072 * 2048);
    expect(head.rows).toEqual([1]);
    expect(cases[10].bytes(512)).toBe(512 * 100 * 2 * 2 * 8 * 64);
  });
});
