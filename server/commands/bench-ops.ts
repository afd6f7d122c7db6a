// `quire bench ops [MODEL]`

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { defaultThreads } from '../../engine/cpu-cores.ts';
import {
  type BenchedOp,
  benchedOps,
  type CpuRoofs,
  isDivisible,
  measureCpuRoofs,
  measureOp,
  type OpBenchOptions,
  type OpFigures,
  opCases,
  readShape,
  type WeightForm,
  weightForms,
} from '../../engine/op-bench.ts';
import { helpOf, type Option, OptionError, type OptionValues, readOptions } from '../options.ts';
import { packageRoot } from '../serve.ts';
import { Progress } from './progress.ts';

export const benchOpsOptions: readonly Option[] = [
  { group: 'What', name: 'op', kind: { type: 'list' }, fallback: [], help: `one of ${benchedOps.join(', ')}, may be given several times; default all` },
  { group: 'What', name: 'weights', kind: { type: 'list' }, fallback: [], help: `form of a matmul’s weights, one of ${weightForms.join(', ')}, may be given several times; default all` },
  { group: 'What', name: 'rows', kind: { type: 'list' }, fallback: ['1', '4', '16', '64', '512'], help: 'tokens of a call, may be given several times' },
  { group: 'What', name: 'group-size', kind: { type: 'choice', values: ['32', '64', '128'] }, fallback: '128', help: 'weights that share a scale, of w4' },
  { group: 'What', name: 'context', kind: { type: 'integer', low: 1, high: 1 << 17 }, fallback: 512, help: 'tokens in the cache of each sequence that decodes' },

  { group: 'How', name: 'cpu', kind: { type: 'choice', values: ['auto', 'amx', 'avx512', 'avx2', 'portable'] }, fallback: 'auto', help: 'kernels; auto takes the best this machine has' },
  { group: 'How', name: 'cpu-activations', kind: { type: 'choice', values: ['int8', 'f32'] }, fallback: 'int8', help: 'form in which they go into a matmul with integer weights' },
  { group: 'How', name: 'threads', kind: { type: 'integer', low: 1, high: 1024 }, fallback: null, help: 'threads that compute; default one per core that the process may use, or that its container is granted' },
  { group: 'How', name: 'seconds', kind: { type: 'number', low: 0, high: 60 }, fallback: 0.2, help: 'that each figure takes at least; three calls in any case' },

  { group: 'Report', name: 'output-json', kind: { type: 'text' }, fallback: null, help: 'JSON file for the figures' },
]; // biome-ignore format: one option a line

export const benchOpsHelp = () =>
  helpOf(
    'quire bench ops [MODEL] [flags]',
    'Times the ops of the CPU at the shapes of MODEL, a folder with a config.json (default the shape of Llama-3.2-1B),\n' +
      'beside what this machine can do at best, measured in the same run. Weights are random, and read from memory, not\n' +
      'from a cache. GB/s counts what a call must read and write once, weights as a file has them; GOP/s counts a\n' +
      'multiplication and an addition as two.',
    benchOpsOptions,
    false,
  );

function chosen<T extends string>(name: string, found: string[], allowed: readonly T[]): readonly T[] {
  const unknown = found.find((value) => !allowed.includes(value as T));
  if (unknown !== undefined) {
    throw new OptionError(`--${name}: found ${JSON.stringify(unknown)}, allowed: ${allowed.join(', ')}`);
  }
  return found.length === 0 ? allowed : (found as T[]);
}

function rowCount(text: string): number {
  const rows = /^\d+$/.test(text) ? Number(text) : 0;
  if (rows >= 1 && rows <= 8192) return rows;
  throw new OptionError(`--rows: found ${JSON.stringify(text)}, allowed: a whole number from 1 to 8192`);
}

function toBenchOptions(values: OptionValues): OpBenchOptions {
  return {
    ops: chosen<BenchedOp>('op', values.op as string[], benchedOps),
    weights: chosen<WeightForm>('weights', values.weights as string[], weightForms),
    rows: (values.rows as string[]).map(rowCount),
    groupSize: Number(values['group-size']),
    context: values.context as number,
    seconds: values.seconds as number,
    roundsActivations: values['cpu-activations'] === 'int8',
    threads: (values.threads as number | null) ?? defaultThreads(),
    cpuVariant: values.cpu === 'auto' ? null : (values.cpu as 'avx2'),
  };
}

/** The instruction that bounds the op. */
function computeRoof({ op, weights }: OpFigures, roofs: CpuRoofs, roundsActivations: boolean): number {
  if (op !== 'matmul') return roofs.f32Fma;
  if (weights?.startsWith('w')) return roundsActivations ? roofs.int8Dot : roofs.f32Fma;
  return weights === 'bf16' && roofs.bf16Dot > 0 ? roofs.bf16Dot : roofs.f32Fma;
}

const percent = (share: number) => (Number.isFinite(share) ? `${(share * 100).toFixed(0)}%` : '');

export function formatRoofs(roofs: CpuRoofs): string {
  return [
    `memory read        ${roofs.readLinear.toFixed(1)} GB/s linear, ${roofs.readStreams.toFixed(1)} GB/s in 16 streams a thread`,
    `8-bit dot product  ${roofs.int8Dot.toFixed(0)} GOP/s`,
    `bf16 dot product   ${roofs.bf16Dot === 0 ? 'no instruction' : `${roofs.bf16Dot.toFixed(0)} GOP/s`}`,
    `f32 fused multiply-add  ${roofs.f32Fma.toFixed(0)} GOP/s`,
    '',
  ].join('\n');
}

const columns: Array<[name: string, width: number]> = [
  ['ms', 10],
  ['GB/s', 8],
  ['of read', 8],
  ['GOP/s', 8],
  ['of roof', 8],
];

function formatFigures(
  figures: readonly OpFigures[],
  roofs: CpuRoofs,
  { roundsActivations }: OpBenchOptions,
): string {
  const readRoof = Math.max(roofs.readLinear, roofs.readStreams);
  const nameWidth = Math.max(...figures.map(({ op, shape }) => `${op} ${shape}`.length)) + 2;
  const line = (name: string, weights: string, rows: string, cells: readonly string[]) =>
    `${name.padEnd(nameWidth)}${weights.padEnd(8)}${rows.padStart(5)}${cells.map((cell, i) => cell.padStart(columns[i][1])).join('')}`;
  return [
    line(
      'op',
      'weights',
      'rows',
      columns.map(([name]) => name),
    ),
    ...figures.map((row) =>
      line(`${row.op} ${row.shape}`, row.weights ?? '', `${row.rows}`, [
        row.ms.toFixed(row.ms < 1 ? 4 : 2),
        row.gbPerS.toFixed(1),
        percent(row.gbPerS / readRoof),
        row.gopPerS.toFixed(1),
        percent(row.gopPerS / computeRoof(row, roofs, roundsActivations)),
      ]),
    ),
    '',
  ].join('\n');
}

export async function runBenchOps(args: readonly string[]): Promise<number> {
  const { model, values } = readOptions(args, {}, benchOpsOptions);
  const options = toBenchOptions(values);
  const folder = model ?? join(packageRoot, 'scripts', 'shapes', 'llama-3.2-1b');
  const config = await readShape(folder);
  const [cases, left] = [true, false].map((fits) =>
    opCases(config, options).filter((opCase) => isDivisible(opCase, options.groupSize) === fits),
  );
  const progress = new Progress('ops');
  const figures: OpFigures[] = [];
  let roofs: CpuRoofs;
  try {
    progress.show(0, cases.length, 'roofs');
    roofs = measureCpuRoofs(options.threads);
    for (const [i, opCase] of cases.entries()) {
      progress.show(i, cases.length, `${opCase.op} ${opCase.shape} ${opCase.form ?? ''}`);
      // The bar is drawn between two measurements.
      await new Promise((resolve) => setImmediate(resolve));
      figures.push(...measureOp(config, opCase, options));
    }
    progress.show(cases.length, cases.length);
  } finally {
    progress.stop();
  }
  process.stdout.write(`${formatRoofs(roofs)}\n${formatFigures(figures, roofs, options)}`);
  for (const { shape, form } of left) {
    process.stdout.write(`not measured: ${shape} in ${form}, whose rows are not whole groups\n`);
  }
  const file = values['output-json'] as string | null;
  if (file !== null) {
    writeFileSync(file, `${JSON.stringify({ shape: folder, threads: options.threads, roofs, figures })}\n`);
  }
  return 0;
}
