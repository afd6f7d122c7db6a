// `quire bench throughput MODEL`: tokens a second of the model inside this process, for prefill and for decode
// of several streams.

import { writeFileSync } from 'node:fs';
import { Progress } from '../commands/progress.ts';
import { helpOf, type Option, OptionError, readOptions } from '../options.ts';
import {
  type BenchModel,
  checkOutputFolder,
  describeModel,
  engineOptions,
  openBenchModel,
  peakMemoryBytes,
  runStreams,
  type StreamTimes,
} from './engine-runs.ts';

const tokens = { type: 'integer', low: 2, high: 1_000_000 } as const;

export const throughputOptions: readonly Option[] = [
  { group: 'Load', name: 'prefill-len', kind: tokens, fallback: 512, help: 'tokens of the prompt that prefill is measured with' },
  { group: 'Load', name: 'input-len', kind: tokens, fallback: 128, help: 'prompt tokens of each stream that decodes' },
  { group: 'Load', name: 'output-len', kind: tokens, fallback: 64, help: 'output tokens of each stream that decodes' },
  { group: 'Load', name: 'batch-size', kind: { type: 'list' }, fallback: ['1', '4', '16', '32'], help: 'streams at once, may be given several times' },
  { group: 'Load', name: 'num-iters', kind: { type: 'integer', low: 1, high: 1000 }, fallback: 3, help: 'runs of each, of which the median counts' },
  { group: 'Load', name: 'num-iters-warmup', kind: { type: 'integer', low: 0, high: 1000 }, fallback: 1, help: 'runs of prefill before them that do not count' },

  { group: 'Report', name: 'output-json', kind: { type: 'text' }, fallback: null, help: 'JSON file for the figures' },
  ...engineOptions,
]; // biome-ignore format: one option a line

export const throughputHelp = () =>
  helpOf(
    'quire bench throughput MODEL [flags]',
    'Runs MODEL, a folder or a Hub id, inside this process and reports tokens a second: of a prompt up to its first\n' +
      'token, and of streams while all of them decode. With --load-format dummy a folder with a config.json is enough.',
    throughputOptions,
    false,
  );

export interface ThroughputRow {
  streams: number;
  inputLen: number;
  outputLen: number;
  /** Of all streams together, while all of them decode; null for prefill. */
  decodeTokensPerS: number | null;
  /** Prompt tokens over the time to the last stream's first token. */
  prefillTokensPerS: number;
  /** Output tokens over the whole run, prefill included. */
  outputTokensPerS: number;
  ttftMs: number;
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** Tokens a second between the last first token and the first end: there every stream decodes. */
export function decodeRate(streams: readonly StreamTimes[]): number | null {
  const from = Math.max(...streams.map(({ tokenMs }) => tokenMs[0]));
  const to = Math.min(...streams.map(({ tokenMs }) => tokenMs[tokenMs.length - 1]));
  const inside = streams.flatMap(({ tokenMs }) => tokenMs.filter((ms) => ms > from && ms <= to)).length;
  return to > from && inside > 0 ? (inside / (to - from)) * 1000 : null;
}

async function measure(
  model: BenchModel,
  streams: number,
  inputLen: number,
  outputLen: number,
): Promise<ThroughputRow> {
  const times = await runStreams(model, streams, inputLen, outputLen);
  const startMs = Math.min(...times.map((stream) => stream.startMs));
  const endMs = Math.max(...times.map(({ tokenMs }) => tokenMs[tokenMs.length - 1]));
  const firstMs = Math.max(...times.map(({ tokenMs }) => tokenMs[0]));
  const ttfts = times.map((stream) => stream.tokenMs[0] - stream.startMs);
  return {
    ...{ streams, inputLen, outputLen },
    decodeTokensPerS: outputLen > 1 ? decodeRate(times) : null,
    prefillTokensPerS: ((streams * inputLen) / (firstMs - startMs)) * 1000,
    outputTokensPerS: ((streams * outputLen) / (endMs - startMs)) * 1000,
    ttftMs: ttfts.reduce((sum, ms) => sum + ms, 0) / ttfts.length,
  };
}

function medianRow(runs: readonly ThroughputRow[]): ThroughputRow {
  const rates = runs.flatMap(({ decodeTokensPerS }) => decodeTokensPerS ?? []);
  return {
    ...runs[0],
    decodeTokensPerS: rates.length > 0 ? median(rates) : null,
    prefillTokensPerS: median(runs.map((run) => run.prefillTokensPerS)),
    outputTokensPerS: median(runs.map((run) => run.outputTokensPerS)),
    ttftMs: median(runs.map((run) => run.ttftMs)),
  };
}

export function formatThroughput(rows: readonly ThroughputRow[]): string {
  const cells = (values: readonly string[]) => values.map((value) => value.padStart(14)).join('');
  return [
    `${'tokens a second'.padEnd(32)}${cells(['prefill', 'decode', 'per stream', 'output', 'TTFT ms'])}`,
    ...rows.map(({ streams, inputLen, outputLen, decodeTokensPerS: decode, ...row }) => {
      const name = `${streams} x ${inputLen} in, ${outputLen} out`.padEnd(32);
      const decodes = decode === null ? ['', ''] : [decode.toFixed(2), (decode / streams).toFixed(2)];
      return `${name}${cells([row.prefillTokensPerS.toFixed(2), ...decodes, row.outputTokensPerS.toFixed(2), row.ttftMs.toFixed(1)])}`;
    }),
    '',
  ].join('\n');
}

function batchSize(text: string): number {
  const size = /^\d+$/.test(text) ? Number(text) : 0;
  if (size >= 1 && size <= 65_536) return size;
  throw new OptionError(
    `--batch-size: found ${JSON.stringify(text)}, allowed: a whole number from 1 to 65536`,
  );
}

export async function runThroughput(args: readonly string[]): Promise<number> {
  const { model: named, values } = readOptions(args, {}, throughputOptions);
  const file = values['output-json'] as string | null;
  checkOutputFolder(file);
  const sizes = (values['batch-size'] as string[]).map(batchSize);
  const [prefillLen, inputLen, outputLen, numIters, numWarmups] = [
    'prefill-len',
    'input-len',
    'output-len',
    'num-iters',
    'num-iters-warmup',
  ].map((name) => values[name] as number);
  const model = await openBenchModel(named, values, {
    maxModelLen: Math.max(prefillLen + 1, inputLen + outputLen),
    maxNumSeqs: Math.max(...sizes),
  });
  const cases: Array<[streams: number, inputLen: number, outputLen: number]> = [
    [1, prefillLen, 1],
    ...sizes.map((size): [number, number, number] => [size, inputLen, outputLen]),
  ];
  const progress = new Progress('runs');
  const rows: ThroughputRow[] = [];
  const total = numWarmups + cases.length * numIters;
  try {
    for (let i = 0; i < numWarmups; i++) {
      progress.show(i, total, 'warm-up');
      await measure(model, ...cases[0]);
    }
    for (const [i, load] of cases.entries()) {
      const runs: ThroughputRow[] = [];
      for (let run = 0; run < numIters; run++) {
        progress.show(numWarmups + i * numIters + run, total, `${load[0]} x ${load[1]} in, ${load[2]} out`);
        runs.push(await measure(model, ...load));
      }
      rows.push(medianRow(runs));
    }
    progress.show(total, total);
  } finally {
    progress.stop();
    await model.engine.close();
  }
  const { description } = model.engine;
  const peak = peakMemoryBytes();
  process.stdout.write(
    `${describeModel(model, values.threads as number | null)}${formatThroughput(rows)}peak memory ${(peak / 1e6).toFixed(0)} MB\n`,
  );
  if (file !== null) {
    const { architecture, kernels, weightBytes } = description;
    writeFileSync(
      file,
      `${JSON.stringify({ model: named, architecture, kernels, weightBytes, rows, peakMemoryBytes: peak })}\n`,
    );
  }
  return 0;
}
