// config.json -> ModelConfig. A model family is a row of a table: how its config names things and what it
// defaults to.

import { readAwqConfig } from './awq.ts';
import { readFp8Config } from './fp8.ts';
import { Fields, type JsonObject, shown } from './json-fields.ts';
import type { ModelConfig, WeightDtype } from './model-config.ts';
import { ModelError } from './model-error.ts';
import { inverseFrequencies, readRope } from './rope.ts';

interface Family {
  qkNorm: boolean;
  /** Norms of 1 + weight, and embeddings times the root of their size. */
  isGemma: boolean;
  /** Norms behind attention and MLP, capped scores and logits. */
  isGemma2: boolean;
  /** Experts in every layer. */
  hasExperts: boolean;
  /** Of a head when config.json is silent; null divides the hidden size. */
  headSize: number | null;
  /** transformers' defaults where config.json is silent. */
  tieWordEmbeddings: boolean;
  normEps: number;
  maxPositionEmbeddings: number;
  /** Window of each layer, 0 for none. */
  slidingWindows(fields: Fields, numLayers: number): Int32Array;
}

const noWindows = (_fields: Fields, numLayers: number) => new Int32Array(numLayers);

/** Mistral: one window for all layers, or null. */
function uniformWindow(fields: Fields, numLayers: number): Int32Array {
  const window =
    fields.get('sliding_window') === undefined ? 0 : fields.integer('sliding_window', 1, 2 ** 30);
  return new Int32Array(numLayers).fill(window);
}

/**
 * Qwen: layers from max_window_layers on have the window, when use_sliding_window is set; or layer_types
 * says.
 */
function qwenWindows(fields: Fields, numLayers: number): Int32Array {
  const windows = new Int32Array(numLayers);
  if (!fields.boolean('use_sliding_window', false)) return windows;
  const window = fields.integer('sliding_window', 1, 2 ** 30, 4096);
  const types = fields.get('layer_types');
  if (Array.isArray(types)) {
    if (types.length !== numLayers) fields.fail('layer_types', `one entry for each of ${numLayers} layers`);
    return windows.map((_, layer) => (types[layer] === 'sliding_attention' ? window : 0));
  }
  return windows.fill(window, fields.integer('max_window_layers', 0, 10_000, 28));
}

/** Gemma 2: every other layer from the first on, unless layer_types says. */
function gemma2Windows(fields: Fields, numLayers: number): Int32Array {
  const window = fields.integer('sliding_window', 1, 2 ** 30, 4096);
  const types = fields.get('layer_types') ?? null;
  if (types !== null && (!Array.isArray(types) || types.length !== numLayers))
    fields.fail('layer_types', `one entry for each of ${numLayers} layers`);
  const slides = (layer: number) =>
    Array.isArray(types) ? types[layer] === 'sliding_attention' : layer % 2 === 0;
  return new Int32Array(numLayers).map((_, layer) => (slides(layer) ? window : 0));
}

const llama: Family = {
  qkNorm: false,
  isGemma: false,
  isGemma2: false,
  hasExperts: false,
  headSize: null,
  tieWordEmbeddings: false,
  normEps: 1e-6,
  maxPositionEmbeddings: 2048,
  slidingWindows: noWindows,
};
const qwen2: Family = { ...llama, maxPositionEmbeddings: 32_768, slidingWindows: qwenWindows };
const gemma: Family = {
  ...llama,
  isGemma: true,
  headSize: 256,
  tieWordEmbeddings: true,
  maxPositionEmbeddings: 8192,
};

const families: Record<string, Family> = {
  LlamaForCausalLM: llama,
  MistralForCausalLM: { ...llama, maxPositionEmbeddings: 131_072, slidingWindows: uniformWindow },
  MixtralForCausalLM: {
    ...llama,
    hasExperts: true,
    normEps: 1e-5,
    maxPositionEmbeddings: 131_072,
    slidingWindows: uniformWindow,
  },
  Qwen2ForCausalLM: qwen2,
  Qwen3ForCausalLM: { ...qwen2, qkNorm: true },
  Qwen3MoeForCausalLM: { ...qwen2, qkNorm: true, hasExperts: true },
  GemmaForCausalLM: gemma,
  Gemma2ForCausalLM: { ...gemma, isGemma2: true, slidingWindows: gemma2Windows },
};

const activations: Record<string, ModelConfig['activation']> = {
  silu: 'silu',
  swish: 'silu',
  gelu_pytorch_tanh: 'gelu_tanh',
  gelu_new: 'gelu_tanh',
};

const weightDtypes: Record<string, WeightDtype> = { float32: 'f32', float16: 'f16', bfloat16: 'bf16' };

/** null in config.json is none; where it is silent the default holds. */
function softCap(fields: Fields, name: string, otherwise: number): number {
  return fields.get(name) === null ? 0 : fields.number(name, 1e-3, 1e6, otherwise);
}

/** Gemma's first checkpoints say gelu and mean the approximation, as transformers knows. */
function activationOf(fields: Fields, { isGemma }: Family): ModelConfig['activation'] {
  const field = isGemma && fields.get('hidden_activation') != null ? 'hidden_activation' : 'hidden_act';
  const name = fields.text(field, isGemma ? 'gelu' : 'silu');
  if (isGemma && name === 'gelu') return 'gelu_tanh';
  if (!Object.hasOwn(activations, name)) fields.fail(field, Object.keys(activations).join(', '));
  return activations[name];
}

type Mlp = Pick<ModelConfig, 'intermediateSize' | 'numExperts' | 'expertsPerToken' | 'renormalisesExperts'>;

/** The MLPs: one a layer, or experts in every layer. */
function mlpOf(fields: Fields, { hasExperts }: Family, architecture: string): Mlp {
  if (!hasExperts) {
    const intermediateSize = fields.integer('intermediate_size', 1, 1 << 22);
    return { intermediateSize, numExperts: 0, expertsPerToken: 0, renormalisesExperts: false };
  }
  const isMixtral = architecture === 'MixtralForCausalLM';
  if (!isMixtral) {
    if (fields.integer('decoder_sparse_step', 0, 1 << 20, 1) !== 1) fields.fail('decoder_sparse_step', '1');
    const dense = fields.get('mlp_only_layers') ?? [];
    if (!Array.isArray(dense) || dense.length > 0) fields.fail('mlp_only_layers', 'no layer');
  }
  const countField = fields.get('num_local_experts') === undefined ? 'num_experts' : 'num_local_experts';
  const numExperts = fields.integer(countField, 1, 512);
  return {
    intermediateSize: fields.integer(isMixtral ? 'intermediate_size' : 'moe_intermediate_size', 1, 1 << 22),
    numExperts,
    expertsPerToken: fields.integer('num_experts_per_tok', 1, Math.min(32, numExperts)),
    renormalisesExperts: isMixtral || fields.boolean('norm_topk_prob', false),
  };
}

/** Throws ModelError for anything this program does not know how to compute. */
export function parseModelConfig(config: JsonObject, where: string): ModelConfig {
  const fields = new Fields(config, where);
  const architectures = config.architectures;
  const architecture = Array.isArray(architectures) ? architectures[0] : undefined;
  if (typeof architecture !== 'string' || !Object.hasOwn(families, architecture)) {
    throw new ModelError(
      `${where}: architecture ${shown(architecture)} is not supported, supported are ${Object.keys(families).join(', ')}`,
    );
  }
  const family = families[architecture];
  const hiddenSize = fields.integer('hidden_size', 1, 1 << 20);
  const numHeads = fields.integer('num_attention_heads', 1, 1 << 16);
  const numKvHeads = fields.integer('num_key_value_heads', 1, numHeads, numHeads);
  if (numHeads % numKvHeads !== 0)
    fields.fail('num_key_value_heads', `a divisor of num_attention_heads, ${numHeads}`);
  if (fields.get('head_dim') === undefined && family.headSize === null && hiddenSize % numHeads !== 0) {
    fields.fail('hidden_size', `a multiple of num_attention_heads, ${numHeads}, or a head_dim`);
  }
  const headSize = fields.integer('head_dim', 2, 256, family.headSize ?? hiddenSize / numHeads);
  if (headSize % 2 !== 0) fields.fail('head_dim', 'an even number up to 256');
  const numLayers = fields.integer('num_hidden_layers', 1, 1000);
  if (fields.get('use_bidirectional_attention') === true)
    fields.fail('use_bidirectional_attention', 'false: attention is causal');
  const dtype = fields.get('dtype') ?? fields.get('torch_dtype') ?? 'float32';
  return {
    architecture,
    vocabSize: fields.integer('vocab_size', 1, 1 << 24),
    hiddenSize,
    numLayers,
    numHeads,
    numKvHeads,
    headSize,
    normEps: fields.number('rms_norm_eps', 0, 1, family.normEps),
    activation: activationOf(fields, family),
    qkNorm: family.qkNorm,
    normOffset: family.isGemma,
    outNorms: family.isGemma2,
    embedScale: family.isGemma ? Math.sqrt(hiddenSize) : 1,
    attentionScale:
      1 / Math.sqrt(family.isGemma2 ? fields.number('query_pre_attn_scalar', 1, 1e6, 256) : headSize),
    attentionSoftCap: family.isGemma2 ? softCap(fields, 'attn_logit_softcapping', 50) : 0,
    logitSoftCap: family.isGemma2 ? softCap(fields, 'final_logit_softcapping', 30) : 0,
    ...mlpOf(fields, family, architecture),
    tieWordEmbeddings: fields.boolean('tie_word_embeddings', family.tieWordEmbeddings),
    maxPositionEmbeddings: fields.integer(
      'max_position_embeddings',
      1,
      2 ** 30,
      family.maxPositionEmbeddings,
    ),
    ropeInvFreq: inverseFrequencies(readRope(config, where), headSize, where),
    slidingWindows: family.slidingWindows(fields, numLayers),
    awq: readAwqConfig(config, where),
    fp8: readFp8Config(config, where),
    // The checkpoint's own tensors decide; this is what config.json claims and what dummy weights get.
    weightDtype: weightDtypes[String(dtype)] ?? 'f32',
  };
}
