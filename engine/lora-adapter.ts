// A LoRA adapter as peft saves it: adapter_config.json and adapter_model.safetensors, read and checked
// against the model it is for. https://huggingface.co/docs/peft/developer_guides/checkpoint

import { existsSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Fields, isObject, type JsonObject, readJsonObject, shown } from './json-fields.ts';
import type { LayerSlot, ModelConfig } from './model-config.ts';
import { ModelError } from './model-error.ts';
import { readTensorEntries, type TensorEntry } from './safetensors.ts';
import { readValues } from './tensor-values.ts';
import { layerSlotOf, shapesOf } from './weight-map.ts';

/** The update of one matrix: out += b^T (a x). */
export interface AdapterTensor {
  slot: LayerSlot;
  layer: number;
  rank: number;
  /** [rank, in] */
  a: Float32Array;
  /** [rank, out]: peft's B transposed, times its scale. */
  b: Float32Array;
}

export interface LoraAdapter {
  rank: number;
  tensors: AdapterTensor[];
}

const projections: ReadonlySet<string> = new Set([
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
]);

/** Throws ModelError in one line when the folder has no adapter that fits the model. */
export async function loadAdapter(folder: string, model: ModelConfig, maxRank: number): Promise<LoraAdapter> {
  const status = await stat(folder).catch(() => null);
  if (!status?.isDirectory()) throw new ModelError(`${folder} is not an adapter folder`);
  const configPath = join(folder, 'adapter_config.json');
  const weightsPath = join(folder, 'adapter_model.safetensors');
  for (const path of [configPath, weightsPath]) {
    if (!existsSync(path)) throw new ModelError(`${path} is missing, so ${folder} is not a LoRA adapter`);
  }
  const { rank, scale } = readConfig(await readJsonObject(configPath), configPath);
  if (rank > maxRank) throw new ModelError(`${configPath}: r is ${rank}, allowed: at most ${maxRank}`);
  const entries = await readTensorEntries(weightsPath);
  const pairs = pairUp(entries, weightsPath);
  const tensors: AdapterTensor[] = [];
  const file = await open(weightsPath, 'r');
  try {
    for (const [name, { a, b }] of pairs) {
      const place = placeOf(name, model, weightsPath);
      const [outputs, inputs] = shapesOf(model)[place.slot];
      checkShape(a, [rank, inputs], weightsPath);
      checkShape(b, [outputs, rank], weightsPath);
      const values = await readValues(file, a, weightsPath);
      const transposed = transpose(await readValues(file, b, weightsPath), outputs, rank, scale);
      tensors.push({ ...place, rank, a: values, b: transposed });
    }
  } finally {
    await file.close();
  }
  return { rank, tensors };
}

function readConfig(config: JsonObject, where: string): { rank: number; scale: number } {
  const fields = new Fields(config, where);
  if (fields.text('peft_type') !== 'LORA') fields.fail('peft_type', '"LORA"');
  for (const name of ['use_dora', 'fan_in_fan_out', 'lora_bias']) {
    if (fields.boolean(name, false)) fields.fail(name, 'false');
  }
  if (fields.text('bias', 'none') !== 'none') fields.fail('bias', '"none"');
  for (const name of ['rank_pattern', 'alpha_pattern']) {
    const pattern = fields.get(name);
    if (isObject(pattern) && Object.keys(pattern).length > 0) fields.fail(name, 'nothing');
  }
  if (fields.get('modules_to_save') !== undefined) fields.fail('modules_to_save', 'nothing');
  const rank = fields.integer('r', 1, 1 << 16);
  const alpha = fields.number('lora_alpha', -1e6, 1e6);
  // rsLoRA: arXiv 2312.03732.
  return { rank, scale: alpha / (fields.boolean('use_rslora', false) ? Math.sqrt(rank) : rank) };
}

function pairUp(
  entries: readonly TensorEntry[],
  path: string,
): Map<string, { a: TensorEntry; b: TensorEntry }> {
  const halves = new Map<string, { a?: TensorEntry; b?: TensorEntry }>();
  for (const entry of entries) {
    const match = /^(?:base_model\.model\.)?(.+)\.lora_(A|B)(?:\.default)?\.weight$/.exec(entry.name);
    if (match === null) throw new ModelError(`${path}: tensor ${entry.name} is not part of a LoRA adapter`);
    const half = match[2] === 'A' ? 'a' : 'b';
    halves.set(match[1], { ...halves.get(match[1]), [half]: entry });
  }
  if (halves.size === 0) throw new ModelError(`${path} has no tensors`);
  const pairs = new Map<string, { a: TensorEntry; b: TensorEntry }>();
  for (const [name, { a, b }] of halves) {
    if (a === undefined || b === undefined)
      throw new ModelError(`${path}: ${name} has only one of lora_A and lora_B`);
    pairs.set(name, { a, b });
  }
  return pairs;
}

function placeOf(name: string, model: ModelConfig, path: string): { slot: LayerSlot; layer: number } {
  const place = layerSlotOf(`${name}.weight`, model);
  if (place !== null && projections.has(place.slot)) return place;
  throw new ModelError(
    `${path}: ${name} is no linear layer of ${model.architecture} with ${model.numLayers} layers: is it for another model?`,
  );
}

function checkShape(entry: TensorEntry, expected: readonly number[], path: string): void {
  if (entry.shape.length === 2 && entry.shape.every((length, i) => length === expected[i])) return;
  throw new ModelError(
    `${path}: tensor ${entry.name} has shape ${shown(entry.shape)}, expected ${shown(expected)}: is it for another model?`,
  );
}

function transpose(values: Float32Array, rows: number, cols: number, scale: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < cols; j++) out[j * rows + i] = values[i * cols + j] * scale;
  return out;
}
