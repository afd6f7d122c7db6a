// A model and a LoRA adapter -> a model: every file of the checkpoint again, tensor by tensor, with the
// adapter's update added where it has one. Memory is bounded by the largest tensor.

import { existsSync } from 'node:fs';
import { copyFile, type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { bytesOf } from './floats.ts';
import { type AdapterTensor, loadAdapter } from './lora-adapter.ts';
import type { ModelConfig } from './model-config.ts';
import { ModelError, writeError } from './model-error.ts';
import { loadModel } from './model-files.ts';
import { openCheckpoint, type TensorEntry, weightDtypeOf } from './safetensors.ts';
import { checkFinite, readValues } from './tensor-values.ts';
import { layerSlotOf, shapesOf } from './weight-map.ts';

const maxRank = 4096;
const copyChunkBytes = 8 << 20;

/** Told of every tensor that is written. */
export type OnTensor = (done: number, total: number, name: string) => void;

/**
 * Writes the merged model to `out`, which must not exist; it appears there only when it is complete. Throws
 * ModelError when the model or the adapter is bad, or when `out` exists.
 */
export async function mergeLora(
  baseFolder: string,
  adapterFolder: string,
  out: string,
  onTensor: OnTensor,
): Promise<void> {
  if (existsSync(out)) throw new ModelError(`${out} exists: name a new folder`);
  const { config, modelPath } = await loadModel(baseFolder, { loadFormat: 'auto' });
  const adapter = await loadAdapter(adapterFolder, config, maxRank);
  const unfinished = `${resolve(out)}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true });
  try {
    await mergeFiles(modelPath, unfinished, config, adapter.tensors, onTensor);
    await copyOthers(modelPath, unfinished);
    await rename(unfinished, out);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true });
    throw writeError(error, out);
  }
}

/** Everything beside the weights: configs, tokenizer, template, the index of shards. */
async function copyOthers(from: string, to: string): Promise<void> {
  for (const file of await readdir(from, { withFileTypes: true })) {
    if (!/\.(json|jinja|txt|model)$/.test(file.name)) continue;
    await copyFile(join(from, file.name), join(to, file.name));
  }
}

async function mergeFiles(
  from: string,
  to: string,
  config: ModelConfig,
  updates: readonly AdapterTensor[],
  onTensor: OnTensor,
): Promise<void> {
  const { paths, tensors } = await openCheckpoint(from);
  const byPlace = new Map(updates.map((update) => [`${update.layer} ${update.slot}`, update]));
  let done = 0;
  for (const [i, path] of paths.entries()) {
    const entries = [...tensors.values()]
      .filter(({ file }) => file === i)
      .sort((a, b) => a.offset - b.offset);
    const source = await open(path, 'r');
    const target = await open(join(to, path.slice(from.length + 1)), 'wx');
    try {
      let at = 0;
      for (const entry of entries) {
        // The header, and any padding, stay as they are: no shape and no offset changes.
        await copyBytes(source, target, at, entry.offset);
        const place = layerSlotOf(entry.name, config);
        const update = place === null ? undefined : byPlace.get(`${place.layer} ${place.slot}`);
        if (update === undefined) await copyBytes(source, target, entry.offset, entry.offset + entry.bytes);
        else await writeAt(target, await merged(source, entry, path, update, config), entry.offset);
        at = entry.offset + entry.bytes;
        onTensor(++done, tensors.size, entry.name);
      }
      await copyBytes(source, target, at, (await source.stat()).size);
      await target.sync();
    } finally {
      await source.close();
      await target.close();
    }
  }
}

async function merged(
  source: FileHandle,
  entry: TensorEntry,
  path: string,
  { slot, rank, a, b }: AdapterTensor,
  config: ModelConfig,
): Promise<Buffer> {
  const weights = await readValues(source, entry, path);
  const [outputs, inputs] = shapesOf(config)[slot];
  const row = new Float64Array(inputs);
  for (let i = 0; i < outputs; i++) {
    row.fill(0);
    for (let r = 0; r < rank; r++) {
      const factor = b[r * outputs + i];
      for (let j = 0; j < inputs; j++) row[j] += factor * a[r * inputs + j];
    }
    for (let j = 0; j < inputs; j++) weights[i * inputs + j] += row[j];
  }
  checkFinite(weights, `${path}: tensor ${entry.name}, once merged,`);
  return bytesOf(weights, weightDtypeOf(entry, path));
}

async function copyBytes(source: FileHandle, target: FileHandle, start: number, end: number): Promise<void> {
  const chunk = Buffer.alloc(Math.min(copyChunkBytes, Math.max(0, end - start)));
  for (let at = start; at < end; at += chunk.length) {
    const length = Math.min(chunk.length, end - at);
    await source.read(chunk, 0, length, at);
    await writeAt(target, chunk.subarray(0, length), at);
  }
}

async function writeAt(target: FileHandle, bytes: Buffer, position: number): Promise<void> {
  // A write that finds little room writes a part; the next one tells why.
  for (let done = 0; done < bytes.length; ) {
    done += (await target.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}
