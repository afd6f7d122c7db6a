// The checkpoint's tensor names -> canonical slots, with every shape checked against the config.

import { awqPartOf, awqSource } from './awq.ts';
import { fp8FileDtype, fp8Source, isFp8Scale } from './fp8.ts';
import { isObject, shown } from './json-fields.ts';
import type { GlobalSlot, LayerSlot, ModelConfig, ModelFiles, TensorSource } from './model-config.ts';
import { ModelError } from './model-error.ts';
import { type Checkpoint, weightDtypeOf } from './safetensors.ts';

const globalNames: Record<string, GlobalSlot> = {
  'model.embed_tokens.weight': 'embed_tokens',
  'model.norm.weight': 'final_norm',
  'lm_head.weight': 'lm_head',
};

/** Names below `model.layers.N.` of what every layer has. */
const attentionNames: Record<string, LayerSlot> = {
  'input_layernorm.weight': 'input_norm',
  'self_attn.q_proj.weight': 'q_proj',
  'self_attn.k_proj.weight': 'k_proj',
  'self_attn.v_proj.weight': 'v_proj',
  'self_attn.o_proj.weight': 'o_proj',
  'self_attn.q_proj.bias': 'q_bias',
  'self_attn.k_proj.bias': 'k_bias',
  'self_attn.v_proj.bias': 'v_bias',
  'self_attn.o_proj.bias': 'o_bias',
  'self_attn.q_norm.weight': 'q_norm',
  'self_attn.k_norm.weight': 'k_norm',
  'post_attention_layernorm.weight': 'post_attention_norm',
};

const layerNames: Record<string, LayerSlot> = {
  ...attentionNames,
  'mlp.gate_proj.weight': 'gate_proj',
  'mlp.up_proj.weight': 'up_proj',
  'mlp.down_proj.weight': 'down_proj',
  'mlp.gate_proj.bias': 'gate_bias',
  'mlp.up_proj.bias': 'up_bias',
  'mlp.down_proj.bias': 'down_bias',
};

/** Gemma 2 has a norm behind attention and MLP too, and calls that one post-attention. */
const outNormNames: Record<string, LayerSlot> = {
  ...layerNames,
  'post_attention_layernorm.weight': 'attention_out_norm',
  'pre_feedforward_layernorm.weight': 'post_attention_norm',
  'post_feedforward_layernorm.weight': 'mlp_out_norm',
};

/** Mixtral's block, and what it calls an expert's matrices; the others say it plainly. */
const mixtralExperts = {
  block: 'block_sparse_moe',
  matrices: { w1: 'gate_proj', w3: 'up_proj', w2: 'down_proj' },
} as const;
const plainExperts = {
  block: 'mlp',
  matrices: { gate_proj: 'gate_proj', up_proj: 'up_proj', down_proj: 'down_proj' },
} as const;

function expertsOf({ architecture }: ModelConfig): { block: string; matrices: Record<string, LayerSlot> } {
  return architecture === 'MixtralForCausalLM' ? mixtralExperts : plainExperts;
}

function namesOf(config: ModelConfig): Record<string, LayerSlot> {
  if (config.outNorms) return outNormNames;
  if (config.numExperts === 0) return layerNames;
  return { ...attentionNames, [`${expertsOf(config).block}.gate.weight`]: 'router' };
}

/** Names of one layer's experts, below `model.layers.N.`. */
function expertNames(config: ModelConfig): string[] {
  const { block, matrices } = expertsOf(config);
  return Array.from({ length: config.numExperts }, (_, expert) =>
    Object.keys(matrices).map((matrix) => `${block}.experts.${expert}.${matrix}.weight`),
  ).flat();
}

/** Buffers that old checkpoints carry and nobody reads. */
const ignoredNames = /(^|\.)rotary_emb\.inv_freq$/;

/** Shapes of every slot the config can have. Matrices are [out, in]. */
export function shapesOf(config: ModelConfig): Record<GlobalSlot | LayerSlot, number[]> {
  const q = config.numHeads * config.headSize;
  const kv = config.numKvHeads * config.headSize;
  const { hiddenSize: hidden, intermediateSize: inner, vocabSize: vocab, headSize } = config;
  return {
    embed_tokens: [vocab, hidden],
    final_norm: [hidden],
    lm_head: [vocab, hidden],
    input_norm: [hidden],
    q_proj: [q, hidden],
    k_proj: [kv, hidden],
    v_proj: [kv, hidden],
    o_proj: [hidden, q],
    q_bias: [q],
    k_bias: [kv],
    v_bias: [kv],
    o_bias: [hidden],
    q_norm: [headSize],
    k_norm: [headSize],
    attention_out_norm: [hidden],
    post_attention_norm: [hidden],
    mlp_out_norm: [hidden],
    gate_proj: [inner, hidden],
    up_proj: [inner, hidden],
    down_proj: [hidden, inner],
    router: [config.numExperts, hidden],
    gate_bias: [inner],
    up_bias: [inner],
    down_bias: [hidden],
  };
}

const optionalSlots: ReadonlySet<string> = new Set([
  'q_bias',
  'k_bias',
  'v_bias',
  'o_bias',
  'gate_bias',
  'up_bias',
  'down_bias',
]);

function requiredNames(config: ModelConfig): string[] {
  const perLayer = Object.entries(namesOf(config)).filter(
    ([, slot]) => !optionalSlots.has(slot) && (config.qkNorm || (slot !== 'q_norm' && slot !== 'k_norm')),
  );
  const names = [...perLayer.map(([name]) => name), ...expertNames(config)];
  const layers = Array.from({ length: config.numLayers }, (_, layer) =>
    names.map((name) => `model.layers.${layer}.${name}`),
  ).flat();
  const globals = Object.keys(globalNames).filter(
    (name) => name !== 'lm_head.weight' || !config.tieWordEmbeddings,
  );
  return [...globals, ...layers];
}

type Place = Pick<TensorSource, 'slot' | 'layer' | 'expert'>;

function placeOf(name: string, config: ModelConfig): Place | null {
  const globalSlot = globalNames[name];
  if (globalSlot !== undefined) return { slot: globalSlot, layer: -1, expert: -1 };
  const place = layerSlotOf(name, config);
  return place === null ? expertPlaceOf(name, config) : { ...place, expert: -1 };
}

function expertPlaceOf(name: string, config: ModelConfig): Place | null {
  const match = /^model\.layers\.(\d+)\.(\w+)\.experts\.(\d+)\.(\w+)\.weight$/.exec(name);
  if (match === null) return null;
  const [layer, expert] = [Number(match[1]), Number(match[3])];
  const { block, matrices } = expertsOf(config);
  const isThere = match[2] === block && Object.hasOwn(matrices, match[4]);
  if (!isThere || layer >= config.numLayers || expert >= config.numExperts) return null;
  return { slot: matrices[match[4]], layer, expert };
}

/** The place of a tensor of a layer; null for any other. */
export function layerSlotOf(name: string, config: ModelConfig): { slot: LayerSlot; layer: number } | null {
  const match = /^model\.layers\.(\d+)\.(.+)$/.exec(name);
  const layerSlot = match === null ? undefined : namesOf(config)[match[2]];
  if (match === null || layerSlot === undefined || Number(match[1]) >= config.numLayers) return null;
  if (!config.qkNorm && (layerSlot === 'q_norm' || layerSlot === 'k_norm')) return null;
  return { slot: layerSlot, layer: Number(match[1]) };
}

/** Places every tensor of the checkpoint. One that is missing, misshapen or unknown is a ModelError. */
export function mapWeights(config: ModelConfig, checkpoint: Checkpoint, folder: string): ModelFiles {
  const shapes = shapesOf(config);
  const isThere = (name: string) =>
    checkpoint.tensors.has(name) ||
    (config.awq !== null && checkpoint.tensors.has(name.replace(/\.weight$/, '.qweight')));
  const missing = requiredNames(config).filter((name) => !isThere(name));
  if (missing.length > 0) {
    const others = missing.length > 1 ? ` and ${missing.length - 1} more` : '';
    throw new ModelError(`${folder}: tensor ${missing[0]}${others} is missing`);
  }
  const tensors: TensorSource[] = [];
  for (const entry of checkpoint.tensors.values()) {
    if (ignoredNames.test(entry.name) || (config.fp8 && isFp8Scale(entry.name))) continue;
    const quantised = config.awq === null ? null : awqPartOf(entry.name);
    const place = placeOf(quantised === null ? entry.name : `${quantised.matrix}.weight`, config);
    if (place === null) {
      throw new ModelError(
        `${folder}: tensor ${entry.name} is not part of ${config.architecture}: it would be ignored`,
      );
    }
    // transformers reads the embedding when the two are tied, whatever the file holds besides.
    if (place.slot === 'lm_head' && config.tieWordEmbeddings) continue;
    const expected = shapes[place.slot];
    if (config.awq !== null && quantised !== null) {
      if (quantised.part !== 'qweight') continue;
      tensors.push(awqSource(place, quantised.matrix, expected, config.awq, checkpoint, folder));
      continue;
    }
    if (entry.shape.length !== expected.length || entry.shape.some((length, i) => length !== expected[i])) {
      throw new ModelError(
        `${folder}: tensor ${entry.name} has shape ${shown(entry.shape)}, expected ${shown(expected)} from config.json`,
      );
    }
    if (config.fp8 && entry.fileDtype === fp8FileDtype) {
      tensors.push(fp8Source(place, entry, checkpoint, folder));
      continue;
    }
    const dtype = weightDtypeOf(entry, checkpoint.paths[entry.file]);
    tensors.push({
      ...place,
      dtype,
      shape: entry.shape,
      file: entry.file,
      offset: entry.offset,
      bytes: entry.bytes,
    });
  }
  return { paths: checkpoint.paths, tensors };
}

function isQuantised(slot: string): boolean {
  return slot.endsWith('_proj');
}

function dummyAwq(place: Place, shape: number[], group: number): TensorSource {
  const nothing = { file: -1, offset: 0, bytes: 0 };
  return { ...place, dtype: 'w4', shape, ...nothing, awq: { group, qzeros: nothing, scales: nothing } };
}

function dummyFp8(place: Place, shape: number[]): TensorSource {
  const nothing = { file: -1, offset: 0, bytes: 0 };
  return {
    ...place,
    dtype: 'f8',
    shape,
    ...nothing,
    f8: { scales: nothing, dtype: 'f32', hasRowScales: false },
  };
}

/** Names of the tensors that a checkpoint of this config has, before any is quantised. */
export function tensorNames(config: ModelConfig, rawConfig: unknown): string[] {
  const raw = isObject(rawConfig) ? rawConfig : {};
  const hasQkvBias = raw.attention_bias === true || config.architecture === 'Qwen2ForCausalLM';
  const names = requiredNames(config);
  for (let layer = 0; layer < config.numLayers && hasQkvBias; layer++) {
    for (const p of ['q', 'k', 'v']) names.push(`model.layers.${layer}.self_attn.${p}_proj.bias`);
  }
  return names;
}

/** The same slots filled with seeded random numbers: a config alone is enough. */
export function dummyWeights(config: ModelConfig, rawConfig: unknown): ModelFiles {
  const shapes = shapesOf(config);
  const tensors = tensorNames(config, rawConfig).map((name): TensorSource => {
    const place = placeOf(name, config) as Place;
    const shape = shapes[place.slot];
    const bytes = shape.reduce((a, b) => a * b, 1) * (config.weightDtype === 'f32' ? 4 : 2);
    if (config.awq !== null && isQuantised(place.slot)) return dummyAwq(place, shape, config.awq.groupSize);
    if (config.fp8 && isQuantised(place.slot)) return dummyFp8(place, shape);
    return { ...place, dtype: config.weightDtype, shape, file: -1, offset: 0, bytes };
  });
  return { paths: [], tensors };
}
