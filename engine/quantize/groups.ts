// Weights as 4-bit integers in groups along the input: q = round(w / scale) + zero, 0 to 15.

/** A matrix [rows, cols], row-major. */
export interface Matrix {
  rows: number;
  cols: number;
  values: Float32Array;
}

export interface Quantised {
  rows: number;
  cols: number;
  group: number;
  /** [rows, cols], 0 to 15 */
  q: Uint8Array;
  /** [rows, cols / group] */
  zeros: Uint8Array;
  /** [rows, cols / group], exactly representable in f16 */
  scales: Float32Array;
}

const maxQ = 15;
const half = new DataView(new ArrayBuffer(4));

/** Rounded to f16 and back, as the file keeps scales; at least the smallest normal number, never 0. */
export function asHalf(value: number): number {
  const bounded = Math.max(2 ** -14, Math.min(65_504, value));
  half.setFloat32(0, bounded);
  // Ten bits of fraction are left of 23, rounded to the nearest, ties to even.
  const bits = half.getUint32(0);
  half.setUint32(0, (bits + 0xfff + ((bits >>> 13) & 1)) & ~0x1fff);
  return Math.min(65_504, half.getFloat32(0));
}

/** The scale and zero of a range of weights, which always takes 0 in. */
export function rangeOf(low: number, high: number): { scale: number; zero: number } {
  const scale = asHalf((Math.max(high, 0) - Math.min(low, 0)) / maxQ);
  return { scale, zero: Math.min(maxQ, Math.max(0, Math.round(-Math.min(low, 0) / scale))) };
}

export const quantiseOne = (value: number, scale: number, zero: number) =>
  Math.min(maxQ, Math.max(0, Math.round(value / scale) + zero));

/** clip, [rows, cols / group]: share of each group's range that is kept, 1 for all of it. */
export function quantise(
  { rows, cols, values }: Matrix,
  group: number,
  clip: Float32Array | null,
): Quantised {
  const groups = cols / group;
  const out: Quantised = {
    rows,
    cols,
    group,
    q: new Uint8Array(rows * cols),
    zeros: new Uint8Array(rows * groups),
    scales: new Float32Array(rows * groups),
  };
  for (let i = 0; i < rows * groups; i++) {
    let low = 0;
    let high = 0;
    for (let j = i * group; j < (i + 1) * group; j++) {
      low = Math.min(low, values[j]);
      high = Math.max(high, values[j]);
    }
    const kept = clip?.[i] ?? 1;
    const { scale, zero } = rangeOf(low * kept, high * kept);
    out.scales[i] = scale;
    out.zeros[i] = zero;
    for (let j = i * group; j < (i + 1) * group; j++) out.q[j] = quantiseOne(values[j], scale, zero);
  }
  return out;
}

export function dequantise({ rows, cols, group, q, zeros, scales }: Quantised): Matrix {
  const values = new Float32Array(rows * cols);
  for (let j = 0; j < values.length; j++) {
    const i = Math.floor(j / group);
    values[j] = (q[j] - zeros[i]) * scales[i];
  }
  return { rows, cols, values };
}
