// Checkpoints in fp8 as AutoFP8 writes and vLLM reads them: matrices in e4m3 beside one weight_scale for the
// whole or one for each row. Activations get a scale for each row as they come.
// https://docs.vllm.ai/en/latest/features/quantization/fp8.html

import { Fields, isObject, type JsonObject, shown } from './json-fields.ts';
import type { TensorSource } from './model-config.ts';
import { ModelError } from './model-error.ts';
import { type Checkpoint, type TensorEntry, weightDtypeOf } from './safetensors.ts';

/** The format's name for e4m3. */
export const fp8FileDtype = 'F8_E4M3';

/** Whether config.json says fp8. Throws ModelError for a kind of it that is not read. */
export function readFp8Config(config: JsonObject, where: string): boolean {
  const raw = config.quantization_config;
  if (!isObject(raw) || raw.quant_method !== 'fp8') return false;
  const fields = new Fields(raw, `${where}: quantization_config`);
  if (fields.text('fmt', 'e4m3') !== 'e4m3') fields.fail('fmt', '"e4m3"');
  if (fields.get('weight_block_size') != null)
    fields.fail('weight_block_size', 'null: one scale for a matrix or for each of its rows');
  // A static scale would only be coarser than the one that is found for each row.
  const scheme = fields.text('activation_scheme', 'dynamic');
  if (scheme !== 'dynamic' && scheme !== 'static') fields.fail('activation_scheme', '"dynamic", "static"');
  return true;
}

/** Tensors that belong to a matrix in fp8 and are no weights themselves. */
export function isFp8Scale(name: string): boolean {
  return /\.(weight_scale|input_scale)$/.test(name);
}

/** The source of a matrix in e4m3 of shape [out, in], its scale checked. */
export function fp8Source(
  place: Pick<TensorSource, 'slot' | 'layer' | 'expert'>,
  entry: TensorEntry,
  checkpoint: Checkpoint,
  folder: string,
): TensorSource {
  const { name, shape, file, offset, bytes } = entry;
  const [rows, cols] = shape;
  if (!place.slot.endsWith('_proj') || bytes !== rows * cols) {
    throw new ModelError(
      `${folder}: tensor ${name} is ${entry.fileDtype} of ${bytes} bytes: only matrices of the layers can be, with a byte for each number`,
    );
  }
  const scale = checkpoint.tensors.get(`${name}_scale`);
  if (scale === undefined) throw new ModelError(`${folder}: tensor ${name}_scale is missing`);
  const count = scale.shape.reduce((product, length) => product * length, 1);
  if (scale.shape.length > 2 || (count !== 1 && (count !== rows || scale.shape[0] !== rows))) {
    throw new ModelError(
      `${folder}: tensor ${scale.name} has shape ${shown(scale.shape)}, expected [1] or ${shown([rows, 1])}`,
    );
  }
  const scales = { file: scale.file, offset: scale.offset, bytes: scale.bytes };
  const dtype = weightDtypeOf(scale, checkpoint.paths[scale.file]);
  const f8 = { scales, dtype, hasRowScales: count === rows };
  return { ...place, dtype: 'f8', shape, file, offset, bytes, f8 };
}
