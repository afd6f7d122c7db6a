// Numbers of files as f32: little-endian f32, f16 and bf16.

import type { WeightDtype } from './model-config.ts';

/** The bytes' length is a multiple of the element's. */
export function floatsOf(bytes: Buffer, dtype: WeightDtype): Float32Array {
  if (dtype === 'f32') {
    return Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
  }
  const out = new Float32Array(bytes.length / 2);
  const bits = new Uint32Array(out.buffer);
  for (let i = 0; i < out.length; i++) {
    const half = bytes.readUInt16LE(2 * i);
    if (dtype === 'bf16') bits[i] = half << 16;
    else out[i] = fromHalf(half);
  }
  return out;
}

/** IEEE 754 binary16. */
function fromHalf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
