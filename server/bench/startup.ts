// `quire bench startup MODEL`: what a person waits for between starting a server and its first token.

import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { Progress } from '../commands/progress.ts';
import { helpOf, type Option, OptionError, type OptionValues, readOptions } from '../options.ts';
import { checkOutputFolder, engineOptions } from './engine-runs.ts';
import { type Distribution, distribution } from './report.ts';

export const startupOptions: readonly Option[] = [
  { group: 'Load', name: 'num-iters', kind: { type: 'integer', low: 1, high: 1000 }, fallback: 5, help: 'starts that count, one after the other' },
  { group: 'Load', name: 'num-iters-warmup', kind: { type: 'integer', low: 0, high: 1000 }, fallback: 1, help: 'starts before them that do not; the first reads the disk, and writes the file of --packed-cache' },
  { group: 'Load', name: 'prompt', kind: { type: 'text' }, fallback: 'Once upon a time', help: 'what the one token is asked for with; a word that is not in the vocabulary may take longer the first time' },

  { group: 'Report', name: 'output-json', kind: { type: 'text' }, fallback: null, help: 'JSON file for the figures' },
  ...engineOptions,
]; // biome-ignore format: one option a line

export const startupHelp = () =>
  helpOf(
    'quire bench startup MODEL [flags]',
    'Starts `quire serve MODEL` again and again, asks for one token as soon as it listens, and reports the time from the\n' +
      'start of the process to that token, in phases. The flags that shape the engine are handed on.',
    startupOptions,
    false,
  );

/** Milliseconds. The server's own phases are those of its line `ready`. */
interface StartTimes {
  imports: number;
  headers: number;
  engineThread: number;
  weights: number;
  tokenizer: number;
  routes: number;
  listening: number;
  request: number;
  firstToken: number;
}

/** The order of the report, and what each is called there. */
const phases: Array<[key: keyof StartTimes, name: string]> = [
  ['imports', 'process and imports'],
  ['headers', 'config and headers (1)'],
  ['engineThread', 'engine thread (1)'],
  ['weights', 'weights and buffers (1)'],
  ['tokenizer', 'tokenizer (2), beside (1)'],
  ['routes', 'routes (1)'],
  ['listening', 'start to listening'],
  ['request', 'request for one token'],
  ['firstToken', 'start to first token'],
];

/** What was given of the engine's flags, as arguments again. */
function engineArguments(values: OptionValues): string[] {
  const { values: defaults } = readOptions([], {}, engineOptions);
  return engineOptions
    .filter(({ name }) => values[name] !== defaults[name])
    .map(({ name, kind }) => {
      if (kind.type === 'flag') return values[name] === true ? `--${name}` : `--no-${name}`;
      return `--${name}=${values[name]}`;
    });
}

/** Resolves with the match of what the process prints; rejects when it ends before. */
function printed(server: ChildProcess, output: () => string, pattern: RegExp): Promise<RegExpExecArray> {
  return new Promise((resolve, reject) => {
    const look = () => {
      const match = pattern.exec(output());
      if (match !== null) resolve(match);
    };
    look();
    server.stdout?.on('data', look);
    server.once('exit', (code) =>
      reject(new OptionError(`the server ended with ${code}: ${output().trim().split('\n').at(-1)}`)),
    );
  });
}

async function oneStart(args: readonly string[], prompt: string): Promise<StartTimes> {
  const startMs = performance.now();
  const server = spawn(process.execPath, [process.argv[1], 'serve', ...args]);
  let output = '';
  for (const stream of [server.stdout, server.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  const exited = new Promise((resolve) => server.once('exit', resolve));
  try {
    const [, url] = await printed(server, () => output, /listening on (http\S+),/);
    const listening = performance.now() - startMs;
    const answer = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt, max_tokens: 1, temperature: 0, ignore_eos: true }),
    });
    if (!answer.ok) throw new OptionError(`the server answered ${answer.status}: ${await answer.text()}`);
    await answer.arrayBuffer();
    const firstToken = performance.now() - startMs;
    const [, own] = await printed(server, () => output, /"startupMs":(\{[^}]*\})/);
    return { ...JSON.parse(own), listening, request: firstToken - listening, firstToken };
  } finally {
    server.kill('SIGTERM');
    await exited;
  }
}

type StartDistributions = Record<keyof StartTimes, Distribution>;

export function formatStarts(starts: StartDistributions): string {
  const row = (name: string, cells: string[]) =>
    `${name.padEnd(30)}${cells.map((cell) => cell.padStart(12)).join('')}`;
  return [
    row('', ['mean', 'p50', 'p99']),
    ...phases.map(([key, name]) => {
      const { mean, median, p99 } = starts[key];
      return `${row(
        name,
        [mean, median, p99].map((ms) => ms.toFixed(0)),
      )} ms`;
    }),
    '',
  ].join('\n');
}

export async function runStartup(args: readonly string[]): Promise<number> {
  const { model, values } = readOptions(args, {}, startupOptions);
  if (model === null) throw new OptionError('a MODEL is needed: a folder or a Hub id');
  const file = values['output-json'] as string | null;
  checkOutputFolder(file);
  const [numIters, numWarmups] = [values['num-iters'] as number, values['num-iters-warmup'] as number];
  const place = ['--host=127.0.0.1', '--port=0', '--log-format=json', '--log-level=info'];
  const serveArgs = [model, ...place, ...engineArguments(values)];
  const starts: StartTimes[] = [];
  const progress = new Progress('starts');
  try {
    for (let i = 0; i < numWarmups + numIters; i++) {
      progress.show(i, numWarmups + numIters, i < numWarmups ? 'warm-up' : '');
      const times = await oneStart(serveArgs, values.prompt as string);
      if (i >= numWarmups) starts.push(times);
    }
    progress.show(numWarmups + numIters, numWarmups + numIters);
  } finally {
    progress.stop();
  }
  const figures = Object.fromEntries(
    phases.map(([key]) => [key, distribution(starts.map((times) => times[key]))]),
  ) as StartDistributions;
  process.stdout.write(formatStarts(figures));
  if (file !== null) writeFileSync(file, `${JSON.stringify({ model, numIters, ...figures })}\n`);
  return 0;
}
