// Where packed weights are kept for the next start (--packed-cache), and the key of what they were made of.

import { createHash, type Hash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { LoadedModel } from './model-files.ts';
import type { NativeModelOptions, PackedCache } from './native.ts';

/** In the model's folder, for `auto`. */
const fileName = 'packed-weights.quire';
const sampleBytes = 4096;
const maxSamples = 512;

type TileOptions = Pick<NativeModelOptions, 'dtype' | 'quantization' | 'roundsActivations'>;

/** What is asked for a draft model where this is for the main one: one file would be in the other's way. */
export function draftFileOf(asked: string | null): string | null {
  return asked === null || asked === 'auto' ? asked : `${asked}.draft`;
}

/**
 * `asked` is a path, or `auto` for a file beside the model. Null when there is nothing to keep: nothing was
 * asked for, or the weights come from no file.
 */
export function packedCacheOf(
  asked: string | null,
  { modelPath, config, files }: LoadedModel,
  { dtype, quantization, roundsActivations }: TileOptions,
): PackedCache | null {
  if (asked === null || files.paths.length === 0) return null;
  const hash = createHash('sha256');
  hash.update(JSON.stringify([config, files.tensors, dtype, quantization, roundsActivations]));
  let mode = 0o666;
  for (const [file, path] of files.paths.entries()) {
    const tensors = files.tensors.filter((tensor) => tensor.file === file);
    mode &= addFile(hash, path, tensors);
  }
  return {
    path: asked === 'auto' ? join(modelPath, fileName) : resolve(asked),
    key: hash.digest('hex'),
    mode,
  };
}

/**
 * Size, time of the last change, and a sample of every tensor: to read all would take as long as to pack it.
 * Returns the file's permissions, which the packed weights must not exceed.
 */
function addFile(hash: Hash, path: string, tensors: LoadedModel['files']['tensors']): number {
  const file = openSync(path, 'r');
  try {
    const { size, mtimeNs, mode } = fstatSync(file, { bigint: true });
    hash.update(`${size} ${mtimeNs} `);
    const sample = Buffer.alloc(sampleBytes);
    const every = Math.ceil(tensors.length / maxSamples);
    for (const { offset, bytes } of tensors.filter((_, i) => i % every === 0)) {
      const middle = offset + Math.max(0, Math.floor((bytes - sampleBytes) / 2));
      const count = readSync(file, sample, 0, Math.min(sampleBytes, bytes), middle);
      hash.update(sample.subarray(0, count));
    }
    return Number(mode);
  } finally {
    closeSync(file);
  }
}
