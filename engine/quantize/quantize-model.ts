// A model in numbers -> a model in 4-bit integers, in AutoAWQ's layout: a file for every layer, so that work
// that was broken off goes on where it stopped, and a folder that gets its name only when it is complete.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { bytesOf } from '../floats.ts';
import { readJsonObject } from '../json-fields.ts';
import type { LayerSlot } from '../model-config.ts';
import { ModelError, writeError } from '../model-error.ts';
import { type LoadedModel, loadModel } from '../model-files.ts';
import { type Checkpoint, openCheckpoint, type TensorEntry } from '../safetensors.ts';
import { readValues } from '../tensor-values.ts';
import { layerSlotOf } from '../weight-map.ts';
import { Activations } from './activations.ts';
import type { Matrix } from './groups.ts';
import { canQuantise, type Layer, linearSlots, roundLayer, searchLayer } from './layer.ts';
import { type FileTensor, packAwq } from './pack.ts';

export interface QuantizeOptions {
  method: 'awq' | 'rtn';
  groupSize: 32 | 64 | 128;
  /** Tokens of the calibration text; needed by awq. */
  calibration: Int32Array | null;
  threads: number;
}

export interface QuantizeReport {
  /** Slots whose matrices do not fit the group, e.g. down_proj. */
  notConverted: string[];
}

interface Job {
  loaded: LoadedModel;
  checkpoint: Checkpoint;
  options: QuantizeOptions;
  /** Where files gather until all are there. */
  folder: string;
  names: string[];
}

/** Throws ModelError when the model cannot be quantised or `out` exists. */
export async function quantizeModel(
  base: string,
  out: string,
  options: QuantizeOptions,
  onLayer: (done: number, total: number) => void,
): Promise<QuantizeReport> {
  if (existsSync(out)) throw new ModelError(`${out} exists: name a new folder`);
  const loaded = await loadModel(base, { loadFormat: 'auto' });
  if (loaded.config.awq !== null || loaded.config.fp8) throw new ModelError(`${base} is quantised already`);
  if (loaded.config.normOffset || loaded.config.numExperts > 0) {
    throw new ModelError(`${base}: quantising a ${loaded.config.architecture} is not supported`);
  }
  const checkpoint = await openCheckpoint(loaded.modelPath);
  const { numLayers } = loaded.config;
  const total = String(numLayers + 1).padStart(5, '0');
  const names = Array.from(
    { length: numLayers + 1 },
    (_, i) => `model-${String(i + 1).padStart(5, '0')}-of-${total}.safetensors`,
  );
  const job: Job = { loaded, checkpoint, options, folder: `${resolve(out)}.unfinished`, names };
  try {
    const notConverted = await quantizeLayers(job, onLayer);
    await rename(job.folder, out);
    return { notConverted };
  } catch (error) {
    throw writeError(error, job.folder);
  }
}

async function quantizeLayers(
  job: Job,
  onLayer: (done: number, total: number) => void,
): Promise<QuantizeReport['notConverted']> {
  const { loaded, options } = job;
  const { numLayers } = loaded.config;
  await beginOrResume(job);
  const activations =
    options.method === 'awq' && options.calibration !== null
      ? new Activations(loaded, options.calibration, options.threads)
      : null;
  try {
    await writeShard(job, 0, () => globalTensors(job));
    for (let layer = 0; layer < numLayers; layer++) {
      await writeShard(job, layer + 1, () => layerTensors(job, layer, activations));
      onLayer(layer + 1, numLayers);
    }
  } finally {
    activations?.close();
  }
  return finish(job);
}

/** A folder of the same job is continued; one of another job is begun anew. */
async function beginOrResume({ loaded, options, folder }: Job): Promise<void> {
  const { calibration, ...rest } = options;
  const text = createHash('sha256')
    .update(calibration ?? new Int32Array(0))
    .digest('hex');
  const description = JSON.stringify({ modelPath: loaded.modelPath, ...rest, calibration: text });
  const file = join(folder, 'job.json');
  if (existsSync(file) && (await readFile(file, 'utf8')) === description) return;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await writeFile(file, description);
}

async function writeShard(
  { folder, names }: Job,
  i: number,
  make: () => Promise<FileTensor[]>,
): Promise<void> {
  const path = join(folder, names[i]);
  if (existsSync(path)) return;
  const tensors = await make();
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let offset = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes.length] };
    offset += bytes.length;
  }
  const text = JSON.stringify(header);
  // The data begins at a multiple of eight, as the format asks of writers.
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8, ' '));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const part = `${path}.part`;
  await writeFile(part, Buffer.concat([length, padded, ...tensors.map(({ bytes }) => bytes)]), {
    flush: true,
  });
  await rename(part, path);
}

async function globalTensors(job: Job): Promise<FileTensor[]> {
  const { checkpoint, loaded } = job;
  const entries = [...checkpoint.tensors.values()].filter(
    ({ name }) => layerSlotOf(name, loaded.config) === null,
  );
  return Promise.all(
    entries.map(async (entry) =>
      asHalfTensor(entry.name, entry.shape, (await readMatrix(job, entry)).values),
    ),
  );
}

async function layerTensors(job: Job, layer: number, activations: Activations | null): Promise<FileTensor[]> {
  const { checkpoint, loaded, options } = job;
  const matrices: Layer = new Map();
  const entryOf = new Map<LayerSlot, TensorEntry>();
  for (const entry of checkpoint.tensors.values()) {
    const place = layerSlotOf(entry.name, loaded.config);
    if (place === null || place.layer !== layer) continue;
    matrices.set(place.slot, await readMatrix(job, entry));
    entryOf.set(place.slot, entry);
  }
  activations?.run(layer);
  const { quantised, others } =
    activations === null
      ? roundLayer(matrices, options.groupSize)
      : searchLayer(matrices, options.groupSize, activations, loaded.config);
  const nameOf = (slot: LayerSlot) => (entryOf.get(slot) as TensorEntry).name;
  return [
    ...[...quantised].flatMap(([slot, matrix]) => packAwq(nameOf(slot).replace(/\.weight$/, ''), matrix)),
    ...[...others].map(([slot, { values }]) =>
      asHalfTensor(nameOf(slot), (entryOf.get(slot) as TensorEntry).shape, values),
    ),
  ];
}

async function readMatrix({ checkpoint }: Job, entry: TensorEntry): Promise<Matrix> {
  const path = checkpoint.paths[entry.file];
  const file = await open(path, 'r');
  const values = await readValues(file, entry, path).finally(() => file.close());
  const [rows, cols] = entry.shape.length === 2 ? entry.shape : [1, entry.shape[0]];
  return { rows, cols, values };
}

function asHalfTensor(name: string, shape: number[], values: Float32Array): FileTensor {
  if (values.some((value) => Math.abs(value) > 65_504)) {
    throw new ModelError(
      `tensor ${name} has numbers that float16 does not have, which AutoAWQ's layout needs`,
    );
  }
  return { name, dtype: 'F16', shape, bytes: bytesOf(values, 'f16') };
}

/** Config, index, tokenizer. Returns the slots that stayed as numbers. */
async function finish({ loaded, checkpoint, options, folder, names }: Job): Promise<string[]> {
  const { config, modelPath } = loaded;
  const notConverted = linearSlots.filter((slot) =>
    [...checkpoint.tensors.values()].some(({ name, shape }) => {
      const place = layerSlotOf(name, config);
      return (
        place?.slot === slot &&
        !canQuantise({ rows: shape[0], cols: shape[1], values: new Float32Array(0) }, options.groupSize)
      );
    }),
  );
  for (const file of await readdir(modelPath)) {
    if (!/\.(json|jinja|txt|model)$/.test(file) || /^config\.json$|\.index\.json$/.test(file)) continue;
    await copyFile(join(modelPath, file), join(folder, basename(file)));
  }
  const raw = await readJsonObject(join(modelPath, 'config.json'));
  const quantization = {
    quant_method: 'awq',
    bits: 4,
    group_size: options.groupSize,
    zero_point: true,
    version: 'gemm',
    modules_to_not_convert: ['lm_head', ...notConverted],
  };
  const { torch_dtype: _torchDtype, ...kept } = raw;
  const written = { ...kept, dtype: 'float16', quantization_config: quantization };
  await writeFile(join(folder, 'config.json'), `${JSON.stringify(written, null, 2)}\n`);
  await writeFile(join(folder, 'model.safetensors.index.json'), await indexOf(folder, names));
  await rm(join(folder, 'job.json'));
  return notConverted;
}

async function indexOf(folder: string, names: readonly string[]): Promise<string> {
  const weightMap: Record<string, string> = {};
  let totalSize = 0;
  for (const name of names) {
    const bytes = await readFile(join(folder, name));
    const length = Number(bytes.readBigUInt64LE());
    const header = JSON.parse(bytes.subarray(8, 8 + length).toString());
    for (const tensor of Object.keys(header)) if (tensor !== '__metadata__') weightMap[tensor] = name;
    totalSize += bytes.length - 8 - length;
  }
  return `${JSON.stringify({ metadata: { total_size: totalSize }, weight_map: weightMap }, null, 2)}\n`;
}
