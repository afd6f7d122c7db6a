// From the hidden states of a padded batch to one vector per input.

import type { Pooling } from './sentence-transformer.ts';

/** `states` is [lengths.length, width, size]; what lies behind an input's own length is padding. */
export function pool(
  states: Float32Array,
  lengths: readonly number[],
  width: number,
  size: number,
  pooling: Pooling,
): Float32Array {
  const out = new Float32Array(lengths.length * size);
  lengths.forEach((length, row) => {
    const from = row * width * size;
    const own = states.subarray(from, from + length * size);
    poolOne(own, out.subarray(row * size, (row + 1) * size), pooling);
  });
  return out;
}

function poolOne(states: Float32Array, out: Float32Array, pooling: Pooling): void {
  const size = out.length;
  if (pooling === 'cls' || pooling === 'last') {
    const from = pooling === 'cls' ? 0 : states.length - size;
    out.set(states.subarray(from, from + size));
    return;
  }
  const length = states.length / size;
  for (let column = 0; column < size; column++) {
    let sum = 0;
    let largest = Number.NEGATIVE_INFINITY;
    for (let i = column; i < states.length; i += size) {
      sum += states[i];
      largest = Math.max(largest, states[i]);
    }
    out[column] = pooling === 'mean' ? sum / length : largest;
  }
}

/** To length 1, in place; a vector of zeros stays. */
export function normalize(vector: Float32Array): Float32Array {
  let sum = 0;
  for (const value of vector) sum += value * value;
  const norm = Math.sqrt(sum);
  if (norm > 0) for (let i = 0; i < vector.length; i++) vector[i] /= norm;
  return vector;
}

export function cosine(a: Float32Array, b: Float32Array): number {
  let dot = 0;
  let squaresOfA = 0;
  let squaresOfB = 0;
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i];
    squaresOfA += a[i] * a[i];
    squaresOfB += b[i] * b[i];
  }
  return dot / (Math.sqrt(squaresOfA * squaresOfB) || 1);
}
