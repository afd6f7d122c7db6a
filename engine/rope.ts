// Inverse frequencies of rotary embeddings, scaled as the model asks. Native code sees only the table.

import { Fields, isObject, type JsonObject } from './json-fields.ts';

export interface RopeConfig {
  theta: number;
  /** rope_scaling, or rope_parameters of transformers 5; empty for plain RoPE. */
  scaling: JsonObject;
}

/** Both spellings: rope_theta + rope_scaling (transformers 4) and rope_parameters (transformers 5). */
export function readRope(config: JsonObject, where: string): RopeConfig {
  const parameters = config.rope_parameters ?? config.rope_scaling ?? {};
  if (!isObject(parameters)) new Fields(config, where).fail('rope_scaling', 'an object or null');
  const scaling = parameters as JsonObject;
  const thetaSource = scaling.rope_theta !== undefined ? scaling : config;
  return { theta: new Fields(thetaSource, where).number('rope_theta', 1, 1e12, 10_000), scaling };
}

/**
 * [headSize / 2] inverse frequencies. Linear scaling: arXiv 2306.15595; llama3: Llama 3.1's own, as
 * transformers has it.
 */
export function inverseFrequencies(
  { theta, scaling }: RopeConfig,
  headSize: number,
  where: string,
): Float32Array {
  const fields = new Fields(scaling, `${where}, RoPE scaling`);
  const kindField = scaling.rope_type !== undefined ? 'rope_type' : 'type';
  const kind = fields.text(kindField, 'default');
  const plain = Float32Array.from({ length: headSize / 2 }, (_, i) => 1 / theta ** ((2 * i) / headSize));
  switch (kind) {
    case 'default':
      return plain;
    case 'linear': {
      const factor = fields.number('factor', 1, 1e6);
      return plain.map((frequency) => frequency / factor);
    }
    case 'llama3':
      return scaleLlama3(plain, fields);
    default:
      return fields.fail(kindField, 'default, linear, llama3');
  }
}

function scaleLlama3(plain: Float32Array, fields: Fields): Float32Array {
  const factor = fields.number('factor', 1, 1e6);
  const lowFactor = fields.number('low_freq_factor', 1e-6, 1e6);
  const highFactor = fields.number('high_freq_factor', 1e-6, 1e6);
  const original = fields.integer('original_max_position_embeddings', 1, 2 ** 30);
  if (highFactor <= lowFactor)
    fields.fail('high_freq_factor', `a number above low_freq_factor, ${lowFactor}`);
  return plain.map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < original / highFactor) return frequency;
    if (wavelength > original / lowFactor) return frequency / factor;
    const smooth = (original / wavelength - lowFactor) / (highFactor - lowFactor);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
}
