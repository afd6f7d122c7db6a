// The numbers of one tensor of a safetensors file, as f32, none of them infinite or NaN.

import type { FileHandle } from 'node:fs/promises';
import { floatsOf } from './floats.ts';
import { ModelError } from './model-error.ts';
import { type TensorEntry, weightDtypeOf } from './safetensors.ts';

/** `path` is the open file's, for errors. Throws ModelError for what weights cannot be. */
export async function readValues(file: FileHandle, entry: TensorEntry, path: string): Promise<Float32Array> {
  const dtype = weightDtypeOf(entry, path);
  const bytes = Buffer.alloc(entry.bytes);
  await file.read(bytes, 0, entry.bytes, entry.offset);
  const values = floatsOf(bytes, dtype);
  checkFinite(values, `${path}: tensor ${entry.name}`);
  return values;
}

export function checkFinite(values: Float32Array, what: string): void {
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw new ModelError(`${what} holds ${values[bad]}, allowed: finite numbers`);
}
