// AutoAWQ checkpoints (GEMM layout): what config.json says of them, and their tensors.
// https://github.com/casper-hansen/AutoAWQ, awq/modules/linear/gemm.py

import { Fields, isObject, type JsonObject, shown } from './json-fields.ts';
import type { AwqConfig, TensorSource } from './model-config.ts';
import { ModelError } from './model-error.ts';
import type { Checkpoint, TensorEntry } from './safetensors.ts';

/** Numbers of a 32-bit word. */
const perWord = 8;
const groupSizes = [32, 64, 128];

/**
 * config.json's quantization_config; null when there is none or it is fp8's (fp8.ts). Throws ModelError for
 * what is not read.
 */
export function readAwqConfig(config: JsonObject, where: string): AwqConfig | null {
  const raw = config.quantization_config;
  if (raw == null) return null;
  if (!isObject(raw))
    throw new ModelError(`${where}: quantization_config is ${shown(raw)}, expected an object`);
  const fields = new Fields(raw, `${where}: quantization_config`);
  const method = fields.text('quant_method', '');
  if (method === 'fp8') return null;
  if (method !== 'awq') fields.fail('quant_method', '"awq", "fp8"');
  fields.integer('bits', 4, 4);
  const groupSize = fields.integer('group_size', -1, 1 << 20);
  if (!groupSizes.includes(groupSize)) fields.fail('group_size', groupSizes.join(', '));
  if (!fields.boolean('zero_point', true)) fields.fail('zero_point', 'true');
  const version = fields.text('version', 'gemm').toLowerCase();
  if (version !== 'gemm') fields.fail('version', '"gemm"');
  return { groupSize };
}

/** Names of the three tensors of a 4-bit matrix; null for any other name. */
export function awqPartOf(name: string): { matrix: string; part: 'qweight' | 'qzeros' | 'scales' } | null {
  const match = /^(.+)\.(qweight|qzeros|scales)$/.exec(name);
  return match === null ? null : { matrix: match[1], part: match[2] as 'qweight' };
}

/** The source of a 4-bit matrix of shape [out, in], its three tensors checked. */
export function awqSource(
  place: Pick<TensorSource, 'slot' | 'layer' | 'expert'>,
  matrix: string,
  [rows, cols]: readonly number[],
  { groupSize }: AwqConfig,
  checkpoint: Checkpoint,
  folder: string,
): TensorSource {
  if (rows % perWord !== 0 || cols % groupSize !== 0) {
    throw new ModelError(
      `${folder}: ${matrix} of shape ${shown([rows, cols])} cannot be 4-bit in groups of ${groupSize}`,
    );
  }
  const groups = cols / groupSize;
  const expect = (part: string, dtype: string, shape: readonly number[]): TensorEntry => {
    const entry = checkpoint.tensors.get(`${matrix}.${part}`);
    if (entry === undefined) throw new ModelError(`${folder}: tensor ${matrix}.${part} is missing`);
    const bytes = shape[0] * shape[1] * (dtype === 'F16' ? 2 : 4);
    if (entry.fileDtype !== dtype || shown(entry.shape) !== shown(shape) || entry.bytes !== bytes) {
      throw new ModelError(
        `${folder}: tensor ${entry.name} is ${entry.fileDtype} ${shown(entry.shape)}, expected ${dtype} ${shown(shape)}`,
      );
    }
    return entry;
  };
  const partOf = ({ file, offset, bytes }: TensorEntry) => ({ file, offset, bytes });
  return {
    ...place,
    dtype: 'w4',
    shape: [rows, cols],
    ...partOf(expect('qweight', 'I32', [cols, rows / perWord])),
    awq: {
      group: groupSize,
      qzeros: partOf(expect('qzeros', 'I32', [groups, rows / perWord])),
      scales: partOf(expect('scales', 'F16', [groups, rows])),
    },
  };
}
