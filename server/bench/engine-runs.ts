// A model inside this process under a fixed load, for `quire bench throughput` and `quire bench latency`: no
// HTTP, the same continuous batching.

import { existsSync } from 'node:fs';
import { defaultSamplingParams, Engine } from '../../engine/engine.ts';
import { resolveModel } from '../../engine/hub.ts';
import { type Option, OptionError, type OptionValues, readOptions, serveOptions } from '../options.ts';
import { toEngineOptions } from '../serve.ts';
import { seededRandom } from './prompts.ts';

const modelFlags = ['load-format', 'dtype', 'quantization', 'packed-cache', 'max-model-len', 'seed'];

/** The flags of `quire serve` that shape the model and its engine. */
export const engineOptions: readonly Option[] = serveOptions.filter(
  ({ name, group }) => group === 'Engine' || modelFlags.includes(name),
);

export interface BenchModel {
  engine: Engine;
  random: () => number;
}

/**
 * Opens MODEL with the flags that were given and the defaults of `quire serve`; its context is `maxModelLen`
 * tokens unless a flag says otherwise. Throws OptionError or ModelError.
 */
export async function openBenchModel(
  model: string | null,
  values: OptionValues,
  limits: { maxModelLen: number; maxNumSeqs: number },
): Promise<BenchModel> {
  if (model === null) throw new OptionError('a MODEL is needed: a folder or a Hub id');
  const asked = values['max-model-len'] as number | null;
  if (asked !== null && asked < limits.maxModelLen) {
    throw new OptionError(`--max-model-len: found ${asked}, the requests need ${limits.maxModelLen}`);
  }
  if ((values['max-num-seqs'] as number) < limits.maxNumSeqs) {
    throw new OptionError(
      `--max-num-seqs: found ${values['max-num-seqs']}, the requests need ${limits.maxNumSeqs}`,
    );
  }
  const folder = await resolveModel(model, process.env, (line) => process.stderr.write(line));
  const defaults = readOptions([], {}, serveOptions).values;
  const engine = await Engine.open({
    ...(await toEngineOptions({ ...defaults, ...values }, folder)),
    maxModelLen: asked ?? limits.maxModelLen,
  });
  for (const { isProblem, text } of engine.packedCaches) if (isProblem) process.stderr.write(`${text}\n`);
  return { engine, random: seededRandom((values.seed as number | null) ?? 0) };
}

/** What one request saw, on one clock. */
export interface StreamTimes {
  startMs: number;
  /** When each output token came. */
  tokenMs: number[];
}

async function runStream(
  engine: Engine,
  promptTokenIds: Int32Array,
  outputLen: number,
): Promise<StreamTimes> {
  const startMs = performance.now();
  const tokenMs: number[] = [];
  const sampling = { ...defaultSamplingParams, temperature: 0, maxTokens: outputLen, ignoreEos: true };
  for await (const delta of engine.generate({ requestId: 'bench', promptTokenIds, sampling })) {
    const nowMs = performance.now();
    for (let i = 0; i < delta.tokenIds.length; i++) tokenMs.push(nowMs);
  }
  if (tokenMs.length !== outputLen) {
    const died = await Promise.race([engine.died, Promise.resolve(null)]);
    throw died ?? new Error(`a request ended after ${tokenMs.length} of ${outputLen} tokens`);
  }
  return { startMs, tokenMs };
}

/** `streams` requests at once, each with a random prompt of its own. */
export function runStreams(
  { engine, random }: BenchModel,
  streams: number,
  inputLen: number,
  outputLen: number,
): Promise<StreamTimes[]> {
  const { vocabSize } = engine.description;
  return Promise.all(
    Array.from({ length: streams }, () =>
      runStream(
        engine,
        Int32Array.from({ length: inputLen }, () => Math.floor(random() * vocabSize)),
        outputLen,
      ),
    ),
  );
}

/** The most memory this process has had, in bytes. */
export const peakMemoryBytes = () => process.resourceUsage().maxRSS * 1024;

export function describeModel({ engine }: BenchModel, threads: number | null): string {
  const { architecture, kernels, weightBytes } = engine.description;
  return `${architecture} on ${kernels}, ${threads ?? 'one thread per core'}${threads === null ? '' : ' threads'}, weights ${(weightBytes / 1e6).toFixed(0)} MB\n`;
}

/** A file that cannot be written is better known before the run than after it. */
export function checkOutputFolder(file: string | null): void {
  if (file === null) return;
  const folder = file.includes('/') ? file.slice(0, file.lastIndexOf('/')) || '/' : '.';
  if (!existsSync(folder)) throw new OptionError(`--output-json: ${folder} does not exist`);
}
