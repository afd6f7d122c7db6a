// AutoAWQ's GEMM layout: [in, out / 8] words of eight 4-bit numbers. https://github.com/casper-hansen/AutoAWQ

import { bytesOf } from '../floats.ts';
import type { Quantised } from './groups.ts';

const perWord = 8;
/** Where the eight outputs of a word stand, in bits. */
const shifts = [0, 16, 4, 20, 8, 24, 12, 28];

export interface FileTensor {
  name: string;
  dtype: 'F16' | 'I32';
  shape: number[];
  bytes: Buffer;
}

export function packAwq(matrix: string, { rows, cols, group, q, zeros, scales }: Quantised): FileTensor[] {
  const groups = cols / group;
  const transposed = new Float32Array(scales.length);
  for (let row = 0; row < rows; row++) {
    for (let g = 0; g < groups; g++) transposed[g * rows + row] = scales[row * groups + g];
  }
  return [
    { name: `${matrix}.qweight`, dtype: 'I32', shape: [cols, rows / perWord], bytes: words(q, rows, cols) },
    {
      name: `${matrix}.qzeros`,
      dtype: 'I32',
      shape: [groups, rows / perWord],
      bytes: words(zeros, rows, groups),
    },
    { name: `${matrix}.scales`, dtype: 'F16', shape: [groups, rows], bytes: bytesOf(transposed, 'f16') },
  ];
}

/** values [rows, cols] -> words [cols, rows / 8]. */
function words(values: Uint8Array, rows: number, cols: number): Buffer {
  const packed = new Uint32Array((cols * rows) / perWord);
  const perColumn = rows / perWord;
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      packed[col * perColumn + Math.floor(row / perWord)] |=
        values[row * cols + col] << shifts[row % perWord];
    }
  }
  return Buffer.from(packed.buffer);
}
