// Headers of safetensors files (https://huggingface.co/docs/safetensors): an 8-byte little-endian length,
// that many bytes of JSON, then the data. Nothing in a header is believed before it is checked against the
// file.

import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isObject, type JsonObject, readJsonObject, shown } from './json-fields.ts';
import type { WeightDtype } from './model-config.ts';
import { ModelError } from './model-error.ts';

/** The format's own limit on headers. */
const maxHeaderBytes = 100_000_000;
const dtypes: Record<string, WeightDtype> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };
const elementBytes: Record<WeightDtype, number> = { f32: 4, f16: 2, bf16: 2 };

export interface TensorEntry {
  name: string;
  /** Index into the checkpoint's paths. */
  file: number;
  /** The format's own name; one of F32, F16, BF16 is needed to use it. */
  fileDtype: string;
  shape: number[];
  /** Bytes from the start of the file. */
  offset: number;
  bytes: number;
}

export interface Checkpoint {
  paths: string[];
  tensors: Map<string, TensorEntry>;
}

/** The entry's form in memory. Throws ModelError for one that weights cannot have. */
export function weightDtypeOf(entry: TensorEntry, path: string): WeightDtype {
  const dtype = dtypes[entry.fileDtype];
  if (dtype !== undefined) return dtype;
  throw new ModelError(
    `${path}: tensor ${entry.name} is ${entry.fileDtype}, supported are ${Object.keys(dtypes).join(', ')}`,
  );
}

/** Reads the headers of model.safetensors, or of the shards that model.safetensors.index.json names. */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  const names = await readdir(folder);
  let files: string[];
  if (names.includes('model.safetensors.index.json')) files = await readIndex(folder, names);
  else if (names.includes('model.safetensors')) files = ['model.safetensors'];
  else {
    const other = names.find((name) => /\.(bin|pt|pth|ckpt|gguf)$/.test(name));
    const hint = other === undefined ? '' : ` (${other} is not read: convert it to safetensors)`;
    throw new ModelError(`${folder} has no model.safetensors or model.safetensors.index.json${hint}`);
  }
  const paths = files.map((name) => join(folder, name));
  const tensors = new Map<string, TensorEntry>();
  for (const [file, path] of paths.entries()) {
    for (const entry of await readHeader(path, file)) {
      if (tensors.has(entry.name)) throw new ModelError(`${path}: tensor ${entry.name} is in two files`);
      tensors.set(entry.name, entry);
    }
  }
  return { paths, tensors };
}

/** The tensors of one file. */
export function readTensorEntries(path: string): Promise<TensorEntry[]> {
  return readHeader(path, 0);
}

async function readIndex(folder: string, names: string[]): Promise<string[]> {
  const path = join(folder, 'model.safetensors.index.json');
  const { weight_map: weightMap } = await readJsonObject(path);
  if (!isObject(weightMap))
    throw new ModelError(`${path}: weight_map is ${shown(weightMap)}, expected an object`);
  const shards = [...new Set(Object.values(weightMap))];
  for (const shard of shards) {
    // A plain name, so that an index cannot lead out of its folder.
    if (typeof shard !== 'string' || !/^[\w.-]+\.safetensors$/.test(shard)) {
      throw new ModelError(
        `${path}: ${shown(shard)} is not the name of a safetensors file in the same folder`,
      );
    }
    if (!names.includes(shard)) throw new ModelError(`${path}: the shard ${shard} is missing`);
  }
  if (shards.length === 0) throw new ModelError(`${path}: weight_map is empty`);
  return (shards as string[]).sort();
}

async function readHeader(path: string, file: number): Promise<TensorEntry[]> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    const prefix = Buffer.alloc(8);
    if (size < 8)
      throw new ModelError(`${path} has ${size} bytes, too few for a safetensors file: download it again`);
    await handle.read(prefix, 0, 8, 0);
    const headerBytes = prefix.readBigUInt64LE();
    if (headerBytes > BigInt(Math.min(size - 8, maxHeaderBytes))) {
      throw new ModelError(
        `${path} announces a header of ${headerBytes} bytes and has ${size} in all: download it again`,
      );
    }
    const text = Buffer.alloc(Number(headerBytes));
    await handle.read(text, 0, text.length, 8);
    return parseHeader(text.toString('utf8'), path, file, 8 + text.length, size);
  } finally {
    await handle.close();
  }
}

function parseHeader(
  text: string,
  path: string,
  file: number,
  dataStart: number,
  size: number,
): TensorEntry[] {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch {
    throw new ModelError(`${path}: the header is not JSON: download it again`);
  }
  if (!isObject(header)) throw new ModelError(`${path}: the header is ${shown(header)}, expected an object`);
  const entries = Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, value]) => parseEntry(name, value, path, file, dataStart, size));
  let end = dataStart;
  for (const entry of [...entries].sort((a, b) => a.offset - b.offset)) {
    if (entry.bytes > 0 && entry.offset < end)
      throw new ModelError(`${path}: tensor ${entry.name} overlaps another`);
    end = Math.max(end, entry.offset + entry.bytes);
  }
  return entries;
}

function parseEntry(
  name: string,
  value: unknown,
  path: string,
  file: number,
  dataStart: number,
  size: number,
): TensorEntry {
  const { dtype, shape, data_offsets: offsets } = (isObject(value) ? value : {}) as JsonObject;
  const isCount = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
  if (
    typeof dtype !== 'string' ||
    !Array.isArray(shape) ||
    !shape.every(isCount) ||
    !Array.isArray(offsets) ||
    offsets.length !== 2 ||
    !offsets.every(isCount)
  ) {
    throw new ModelError(`${path}: the header's entry for tensor ${name} is ${shown(value)}`);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end || dataStart + end > size) {
    throw new ModelError(
      `${path}: tensor ${name} ends at byte ${dataStart + end} of a file of ${size}: it is truncated, download it again`,
    );
  }
  const known = dtypes[dtype];
  const bytes = end - begin;
  const elements = shape.reduce((product: number, length: number) => product * length, 1);
  if (known !== undefined && elements * elementBytes[known] !== bytes) {
    throw new ModelError(`${path}: tensor ${name} of shape ${shown(shape)} ${dtype} has ${bytes} bytes`);
  }
  return { name, file, fileDtype: dtype, shape: shape as number[], offset: dataStart + begin, bytes };
}
