// `quire bench ops`: which ops a model's step calls on the CPU, at which shapes, what each reads and computes,
// and how long it takes. native/op_bench.cc does the timing.

import type { ModelConfig } from './model-config.ts';
import { loadModel } from './model-files.ts';
import { benchOp, type CpuVariant } from './native.ts';

export { type CpuRoofs, measureCpuRoofs } from './native.ts';

export const weightForms = ['f32', 'bf16', 'f16', 'w8', 'w6', 'w4'] as const;
export type WeightForm = (typeof weightForms)[number];

export const benchedOps = [
  'matmul',
  'attention_decode',
  'attention_prefill',
  'rms_norm',
  'rope_and_cache',
  'silu_mul',
  'sample',
] as const;
export type BenchedOp = (typeof benchedOps)[number];

/** The model never asks for more logits at a time. */
const maxLogitsRows = 64;

export interface OpCase {
  op: BenchedOp;
  /** Of a matmul's weights; null for the others. */
  form: WeightForm | null;
  /** What it is in the model, and its size. */
  shape: string;
  /** [outputs, inputs] of a matmul, the size of a row of the others. */
  outputs: number;
  inputs: number;
  /** Tokens of a call. */
  rows: number[];
  /** What a call of `rows` tokens must read and write of memory, and its multiplications and additions. */
  bytes(rows: number): number;
  operations(rows: number): number;
}

export interface OpFigures {
  op: BenchedOp;
  weights: WeightForm | null;
  shape: string;
  rows: number;
  /** Median of a call. */
  ms: number;
  gbPerS: number;
  gopPerS: number;
}

export interface OpBenchOptions {
  ops: readonly BenchedOp[];
  weights: readonly WeightForm[];
  rows: readonly number[];
  /** Inputs that share a scale, of w4. */
  groupSize: number;
  /** Tokens in the cache of each sequence of attention_decode. */
  context: number;
  /** Seconds each figure takes at least. */
  seconds: number;
  threads: number;
  /** Activations become 8 bits on their way into a matmul with integer weights. */
  roundsActivations: boolean;
  cpuVariant: CpuVariant | null;
}

/** w4 has a scale of 16 bits and a zero of 4 for each group, w6 and w8 a scale of 16 bits for 128 inputs. */
export function bytesPerWeight(form: WeightForm, groupSize: number): number {
  if (form === 'w8') return 1 + 2 / 128;
  if (form === 'w6') return 6 / 8 + 2 / 128;
  if (form === 'w4') return 0.5 + 2.5 / groupSize;
  return form === 'f32' ? 4 : 2;
}

function matmulCases(config: ModelConfig, options: OpBenchOptions): OpCase[] {
  const { hiddenSize: hidden, intermediateSize: inner, headSize, numHeads, numKvHeads } = config;
  const matrices: Array<[name: string, outputs: number, inputs: number]> = [
    ['qkv', (numHeads + 2 * numKvHeads) * headSize, hidden],
    ['o', hidden, numHeads * headSize],
    ['gate_up', 2 * inner, hidden],
    ['down', hidden, inner],
    ['lm_head', config.vocabSize, hidden],
  ];
  return options.weights.flatMap((form) =>
    matrices.map(([name, outputs, inputs]) => ({
      op: 'matmul' as const,
      form,
      shape: `${name} ${outputs} x ${inputs}`,
      ...{ outputs, inputs },
      rows: options.rows.filter((rows) => name !== 'lm_head' || rows <= maxLogitsRows),
      bytes: (rows) =>
        outputs * inputs * bytesPerWeight(form, options.groupSize) + 4 * rows * (outputs + inputs),
      operations: (rows) => 2 * rows * outputs * inputs,
    })),
  );
}

function otherCases(config: ModelConfig, options: OpBenchOptions): OpCase[] {
  const { hiddenSize: hidden, intermediateSize: inner, headSize, numHeads, numKvHeads, vocabSize } = config;
  const heads = `${numHeads}/${numKvHeads} heads of ${headSize}`;
  // K and V of a token in bf16.
  const kvBytes = 4 * numKvHeads * headSize;
  const qkv = (numHeads + 2 * numKvHeads) * headSize;
  const row = (op: BenchedOp, shape: string, size: number, bytes: number, operations: number): OpCase => ({
    ...{ op, form: null, shape, outputs: size, inputs: 1, rows: [...options.rows] },
    bytes: (rows) => rows * bytes,
    operations: (rows) => rows * operations,
  });
  const { context } = options;
  const scores = 4 * numHeads * headSize;
  return [
    row('attention_decode', `${heads}, context ${context}`, 1, context * kvBytes, context * scores),
    {
      ...row('attention_prefill', heads, 1, kvBytes + 8 * numHeads * headSize, 0),
      operations: (rows) => (scores * rows * (rows + 1)) / 2,
    },
    row('rms_norm', `${hidden}`, hidden, 16 * hidden, 4 * hidden),
    row('rope_and_cache', heads, 1, 8 * qkv + kvBytes, 3 * qkv),
    row('silu_mul', `${inner}`, inner, 12 * inner, 4 * inner),
    {
      ...row('sample', `greedy, ${vocabSize}`, vocabSize, 4 * vocabSize, vocabSize),
      rows: options.rows.filter((rows) => rows <= maxLogitsRows),
    },
  ];
}

/** Of a folder with a config.json. Throws ModelError. */
export async function readShape(folder: string): Promise<ModelConfig> {
  return (await loadModel(folder, { loadFormat: 'dummy' })).config;
}

/** Whether the matrix's rows are whole groups. */
export function isDivisible({ form, inputs }: OpCase, groupSize: number): boolean {
  return inputs % (form === 'w4' ? groupSize : form === 'w6' || form === 'w8' ? 32 : 1) === 0;
}

/** What there is to measure of a model of this shape. */
export function opCases(config: ModelConfig, options: OpBenchOptions): OpCase[] {
  return [...matmulCases(config, options), ...otherCases(config, options)].filter(
    ({ op, rows }) => options.ops.includes(op) && rows.length > 0,
  );
}

/** Blocks until it is done: about `seconds` for each of the case's rows. */
export function measureOp(config: ModelConfig, opCase: OpCase, options: OpBenchOptions): OpFigures[] {
  const { op, form, shape, outputs, inputs, rows } = opCase;
  const times = benchOp({
    ...{ op, form: form ?? '', outputs, inputs, rows },
    ...{ numHeads: config.numHeads, numKvHeads: config.numKvHeads, headSize: config.headSize },
    ...{ group: options.groupSize, context: options.context, seconds: options.seconds },
    ...{ threads: options.threads, cpuVariant: options.cpuVariant },
    roundsActivations: options.roundsActivations,
  });
  return rows.map((count, i) => ({
    ...{ op, weights: form, shape, rows: count, ms: times[i] },
    gbPerS: opCase.bytes(count) / times[i] / 1e6,
    gopPerS: opCase.operations(count) / times[i] / 1e6,
  }));
}
