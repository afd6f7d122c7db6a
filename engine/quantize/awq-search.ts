// Activation-aware weight quantisation (arXiv 2306.00978): input channels that carry large activations are
// scaled up before rounding, and what feeds them scaled down, so that their weights lose less. Then ranges
// are clipped where that lowers the output's error.

import { dequantise, type Matrix, quantise, quantiseOne, rangeOf } from './groups.ts';

/** Ratios 0, 1/20 .. 19/20 of the paper's exponent. */
const numRatios = 20;
/** Ranges are shrunk in steps of a twentieth, down to half. */
const clipSteps = 10;
const clipStep = 0.05;

/** Mean magnitude of each input channel, those of one source taken together. samples [n, channels]. */
function meanMagnitudes(samples: Matrix, sources: Int32Array): Float64Array {
  const sums = new Float64Array(samples.cols);
  const counts = new Float64Array(samples.cols);
  for (let i = 0; i < samples.values.length; i++) {
    sums[sources[i % samples.cols]] += Math.abs(samples.values[i]);
    counts[sources[i % samples.cols]]++;
  }
  return Float64Array.from(sources, (source) => Math.max(sums[source] / counts[source], 1e-4));
}

/** Scales of the ratio, their geometric middle at 1 so that nothing overflows. */
function scalesOf(magnitudes: Float64Array, ratio: number): Float32Array {
  const powers = magnitudes.map((magnitude) => Math.max(magnitude ** ratio, 1e-4));
  const middle = Math.sqrt(powers.reduce((a, b) => Math.max(a, b)) * powers.reduce((a, b) => Math.min(a, b)));
  return Float32Array.from(powers, (power) => power / middle);
}

export function scaleColumns({ rows, cols, values }: Matrix, scales: Float32Array): Matrix {
  return { rows, cols, values: values.map((value, i) => value * scales[i % cols]) };
}

/** Sum over the samples of |difference x|^2, difference [rows, cols]. */
function outputError(difference: Float32Array, rows: number, samples: Matrix): number {
  const { cols, values } = samples;
  let error = 0;
  for (let s = 0; s < samples.rows; s++) {
    for (let row = 0; row < rows; row++) {
      let dot = 0;
      for (let k = 0; k < cols; k++) dot += difference[row * cols + k] * values[s * cols + k];
      error += dot * dot;
    }
  }
  return error;
}

function errorOf(matrix: Matrix, scales: Float32Array, group: number, samples: Matrix): number {
  const back = dequantise(quantise(scaleColumns(matrix, scales), group, null)).values;
  const difference = back.map((value, i) => value / scales[i % matrix.cols] - matrix.values[i]);
  return outputError(difference, matrix.rows, samples);
}

/**
 * The scales, one per input channel, under which the matrices that share these inputs lose least. Ratio 0 (no
 * scaling) is among those tried. sources: where each channel comes from; those of one source get one scale.
 */
export function searchScales(
  matrices: readonly Matrix[],
  group: number,
  samples: Matrix,
  sources: Int32Array,
): Float32Array {
  const magnitudes = meanMagnitudes(samples, sources);
  let best = scalesOf(magnitudes, 0);
  let bestError = Number.POSITIVE_INFINITY;
  for (let i = 0; i < numRatios; i++) {
    const scales = scalesOf(magnitudes, i / numRatios);
    const error = matrices.reduce((sum, matrix) => sum + errorOf(matrix, scales, group, samples), 0);
    if (error < bestError) {
      bestError = error;
      best = scales;
    }
  }
  return best;
}

/** The share of each group's range to keep, [rows, cols / group], that lowers the group's own output error most. */
export function searchClip({ rows, cols, values }: Matrix, group: number, samples: Matrix): Float32Array {
  const groups = cols / group;
  const clip = new Float32Array(rows * groups).fill(1);
  const rounding = new Float64Array(group);
  for (let i = 0; i < rows * groups; i++) {
    const weights = values.subarray(i * group, (i + 1) * group);
    const [low, high] = [Math.min(0, ...weights), Math.max(0, ...weights)];
    let bestError = Number.POSITIVE_INFINITY;
    for (let step = 0; step < clipSteps; step++) {
      const kept = 1 - step * clipStep;
      const { scale, zero } = rangeOf(low * kept, high * kept);
      for (let k = 0; k < group; k++) {
        rounding[k] = (quantiseOne(weights[k], scale, zero) - zero) * scale - weights[k];
      }
      const error = groupError(rounding, samples, (i % groups) * group);
      if (error < bestError) {
        bestError = error;
        clip[i] = kept;
      }
    }
  }
  return clip;
}

function groupError(rounding: Float64Array, samples: Matrix, firstChannel: number): number {
  let error = 0;
  for (let s = 0; s < samples.rows; s++) {
    let dot = 0;
    const at = s * samples.cols + firstChannel;
    for (let k = 0; k < rounding.length; k++) dot += rounding[k] * samples.values[at + k];
    error += dot * dot;
  }
  return error;
}
