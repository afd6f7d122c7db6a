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

/** f32 -> the file's form, rounded to the nearest, ties to even. */
export function bytesOf(values: Float32Array, dtype: WeightDtype): Buffer {
  if (dtype === 'f32') return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  const out = new Uint16Array(values.length);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < values.length; i++) {
    out[i] = dtype === 'bf16' ? toBfloat(bits[i]) : toHalf(values[i]);
  }
  return Buffer.from(out.buffer);
}

/** Of a finite f32's bits. */
function toBfloat(bits: number): number {
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function toHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  const exponent = Math.max(-14, Math.floor(Math.log2(magnitude || 1e-30)));
  // In units of the last place; rounding up may carry into the exponent, which the sum below takes in.
  const scaled = roundToEven(magnitude / 2 ** (exponent - 10));
  const half = exponent === -14 ? scaled : scaled + ((exponent + 14) << 10);
  return sign | Math.min(half, 0x7c00);
}

function roundToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
