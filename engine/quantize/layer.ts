// One decoder layer, quantised: scales folded into what comes before, ranges clipped, integers packed.

import type { LayerSlot, ModelConfig } from '../model-config.ts';
import type { Activations } from './activations.ts';
import { scaleColumns, searchClip, searchScales } from './awq-search.ts';
import { type Matrix, type Quantised, quantise } from './groups.ts';

/** A layer's weights by slot; vectors (norms, biases) have one row. */
export type Layer = Map<LayerSlot, Matrix>;

type Heads = Pick<ModelConfig, 'headSize' | 'numHeads' | 'numKvHeads'>;

export interface LayerResult {
  quantised: Map<LayerSlot, Quantised>;
  /** What stays as numbers: norms with the scales folded in, biases, matrices that cannot be quantised. */
  others: Layer;
}

/** Matrices that read the same inputs, and what those inputs come out of. */
const families: ReadonlyArray<{ readers: LayerSlot[]; source: LayerSlot; sourceBias: LayerSlot | null }> = [
  { readers: ['q_proj', 'k_proj', 'v_proj'], source: 'input_norm', sourceBias: null },
  { readers: ['o_proj'], source: 'v_proj', sourceBias: 'v_bias' },
  { readers: ['gate_proj', 'up_proj'], source: 'post_attention_norm', sourceBias: null },
  { readers: ['down_proj'], source: 'up_proj', sourceBias: 'up_bias' },
];
export const linearSlots = families.flatMap(({ readers }) => readers);
/** Clipping q and k moves the scores of attention more than it helps (AutoAWQ leaves them out too). */
const neverClipped: ReadonlySet<LayerSlot> = new Set(['q_proj', 'k_proj']);

/** Rows of activations that errors are measured on. */
const numSamples = 96;

export const canQuantise = ({ rows, cols }: Matrix, group: number) => cols % group === 0 && rows % 8 === 0;

/** Rounds to the nearest, nothing else: the baseline. */
export function roundLayer(layer: Layer, group: number): LayerResult {
  return finish(layer, group, new Map());
}

/** activations.run(layer) must have been called. */
export function searchLayer(
  original: Layer,
  group: number,
  activations: Activations,
  heads: Heads,
): LayerResult {
  const layer: Layer = new Map(original);
  const clips = new Map<LayerSlot, Float32Array>();
  for (const { readers, source, sourceBias } of families) {
    const samples = activations.inputsOf(readers[0], numSamples);
    const targets = readers.filter((slot) => canQuantise(original.get(slot) as Matrix, group));
    if (targets.length === 0) continue;
    const sources = sourcesOf(source, samples.cols, heads);
    const scales = searchScales(
      targets.map((slot) => layer.get(slot) as Matrix),
      group,
      samples,
      sources,
    );
    fold(layer, { source, sourceBias, sources }, readers, scales);
    const scaled = scaleColumns(
      samples,
      scales.map((scale) => 1 / scale),
    );
    for (const slot of targets) {
      if (!neverClipped.has(slot)) clips.set(slot, searchClip(layer.get(slot) as Matrix, group, scaled));
    }
  }
  return finish(layer, group, clips);
}

/**
 * Where each input channel comes from: a channel of the norm, or a row of the matrix before. Grouped-query
 * attention hands one v to several heads of o's inputs, which then share its scale.
 */
function sourcesOf(
  source: LayerSlot,
  channels: number,
  { headSize, numHeads, numKvHeads }: Heads,
): Int32Array {
  const perGroup = numHeads / numKvHeads;
  return Int32Array.from({ length: channels }, (_, channel) => {
    if (source !== 'v_proj') return channel;
    const head = Math.floor(channel / headSize);
    return Math.floor(head / perGroup) * headSize + (channel % headSize);
  });
}

interface Source {
  source: LayerSlot;
  sourceBias: LayerSlot | null;
  sources: Int32Array;
}

/** Multiplies the readers' columns by the scales, and divides what feeds them. */
function fold(
  layer: Layer,
  { source, sourceBias, sources }: Source,
  readers: readonly LayerSlot[],
  scales: Float32Array,
): void {
  for (const slot of readers) layer.set(slot, scaleColumns(layer.get(slot) as Matrix, scales));
  const bySource = new Float32Array(scales.length);
  sources.forEach((from, channel) => {
    bySource[from] = scales[channel];
  });
  for (const slot of sourceBias === null ? [source] : [source, sourceBias]) {
    const matrix = layer.get(slot);
    if (matrix === undefined) continue;
    const perScale = matrix.rows === 1 ? 1 : matrix.cols;
    const values = matrix.values.map((value, i) => value / bySource[Math.floor(i / perScale)]);
    layer.set(slot, { ...matrix, values });
  }
}

function finish(layer: Layer, group: number, clips: ReadonlyMap<LayerSlot, Float32Array>): LayerResult {
  const result: LayerResult = { quantised: new Map(), others: new Map() };
  for (const [slot, matrix] of layer) {
    if (linearSlots.includes(slot) && canQuantise(matrix, group)) {
      result.quantised.set(slot, quantise(matrix, group, clips.get(slot) ?? null));
    } else result.others.set(slot, matrix);
  }
  return result;
}
