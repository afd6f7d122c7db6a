// `quire bench latency MODEL`: what one request waits for, with nobody beside it.

import { writeFileSync } from 'node:fs';
import { Progress } from '../commands/progress.ts';
import { helpOf, type Option, readOptions } from '../options.ts';
import {
  checkOutputFolder,
  describeModel,
  engineOptions,
  openBenchModel,
  peakMemoryBytes,
  runStreams,
} from './engine-runs.ts';
import { type Distribution, distribution } from './report.ts';

export const latencyOptions: readonly Option[] = [
  { group: 'Load', name: 'input-len', kind: { type: 'integer', low: 1, high: 1_000_000 }, fallback: 128, help: 'prompt tokens of a request' },
  { group: 'Load', name: 'output-len', kind: { type: 'integer', low: 2, high: 1_000_000 }, fallback: 64, help: 'output tokens of a request' },
  { group: 'Load', name: 'num-iters', kind: { type: 'integer', low: 1, high: 100_000 }, fallback: 5, help: 'requests that count, one after the other' },
  { group: 'Load', name: 'num-iters-warmup', kind: { type: 'integer', low: 0, high: 100_000 }, fallback: 1, help: 'requests before them that do not' },

  { group: 'Report', name: 'output-json', kind: { type: 'text' }, fallback: null, help: 'JSON file for the figures' },
  ...engineOptions,
]; // biome-ignore format: one option a line

export const latencyHelp = () =>
  helpOf(
    'quire bench latency MODEL [flags]',
    'Runs MODEL, a folder or a Hub id, inside this process with one request at a time and reports the time to its first\n' +
      'token, between its tokens and to its end. With --load-format dummy a folder with a config.json is enough.',
    latencyOptions,
    false,
  );

interface Latencies {
  ttftMs: Distribution;
  itlMs: Distribution;
  e2eMs: Distribution;
}

export function formatLatencies({ ttftMs, itlMs, e2eMs }: Latencies): string {
  const row = (name: string, { mean, median, p99 }: Distribution) =>
    `${name.padEnd(30)}${[mean, median, p99].map((value) => value.toFixed(2).padStart(12)).join('')} ms`;
  return [
    `${''.padEnd(30)}${['mean', 'p50', 'p99'].map((name) => name.padStart(12)).join('')}`,
    row('time to first token, TTFT', ttftMs),
    row('between tokens, ITL', itlMs),
    row('end to end, E2E', e2eMs),
    '',
  ].join('\n');
}

export async function runLatency(args: readonly string[]): Promise<number> {
  const { model: named, values } = readOptions(args, {}, latencyOptions);
  const file = values['output-json'] as string | null;
  checkOutputFolder(file);
  const inputLen = values['input-len'] as number;
  const outputLen = values['output-len'] as number;
  const [numIters, numWarmups] = [values['num-iters'] as number, values['num-iters-warmup'] as number];
  const model = await openBenchModel(named, values, { maxModelLen: inputLen + outputLen, maxNumSeqs: 1 });
  const ttft: number[] = [];
  const itl: number[] = [];
  const e2e: number[] = [];
  const progress = new Progress('requests');
  try {
    for (let i = 0; i < numWarmups + numIters; i++) {
      progress.show(i, numWarmups + numIters, i < numWarmups ? 'warm-up' : '');
      const [{ startMs, tokenMs }] = await runStreams(model, 1, inputLen, outputLen);
      if (i < numWarmups) continue;
      ttft.push(tokenMs[0] - startMs);
      itl.push(...tokenMs.slice(1).map((ms, k) => ms - tokenMs[k]));
      e2e.push(tokenMs[tokenMs.length - 1] - startMs);
    }
    progress.show(numWarmups + numIters, numWarmups + numIters);
  } finally {
    progress.stop();
    await model.engine.close();
  }
  const latencies = { ttftMs: distribution(ttft), itlMs: distribution(itl), e2eMs: distribution(e2e) };
  const peak = peakMemoryBytes();
  process.stdout.write(
    `${describeModel(model, values.threads as number | null)}${formatLatencies(latencies)}peak memory ${(peak / 1e6).toFixed(0)} MB\n`,
  );
  if (file !== null) {
    const { architecture, kernels, weightBytes } = model.engine.description;
    const load = { inputLen, outputLen, numIters };
    writeFileSync(
      file,
      `${JSON.stringify({ model: named, architecture, kernels, weightBytes, ...load, ...latencies, peakMemoryBytes: peak })}\n`,
    );
  }
  return 0;
}
