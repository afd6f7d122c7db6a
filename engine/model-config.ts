// One normalised description of a decoder, whatever file it came from. native/model.cc reads nothing else.

/** Bytes are little-endian; these are the forms in which a weight may lie in a file or in memory. */
export type WeightDtype = 'f32' | 'f16' | 'bf16';

/** 4-bit linear layers as AutoAWQ writes them. */
export interface AwqConfig {
  groupSize: number;
}

export interface ModelConfig {
  /** As in config.json's `architectures`, e.g. LlamaForCausalLM. */
  architecture: string;
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numLayers: number;
  numHeads: number;
  /** Divides numHeads. */
  numKvHeads: number;
  headSize: number;
  normEps: number;
  activation: 'silu' | 'gelu_tanh';
  /** q and k are RMS-normalised per head before the rotation (Qwen3). */
  qkNorm: boolean;
  /** A norm's weight is 1 + what the checkpoint has (Gemma). */
  normOffset: boolean;
  /** What attention and MLP give is normalised before it is added to the residual stream (Gemma 2). */
  outNorms: boolean;
  /** Embeddings are multiplied by it. */
  embedScale: number;
  /** Scores are multiplied by it. */
  attentionScale: number;
  /** Scores become cap * tanh(score / cap); 0 is off. */
  attentionSoftCap: number;
  /** The same for logits. */
  logitSoftCap: number;
  tieWordEmbeddings: boolean;
  /** 0: every layer has one MLP. Else intermediateSize is an expert's. */
  numExperts: number;
  expertsPerToken: number;
  /** The weights of the chosen experts add up to 1. */
  renormalisesExperts: boolean;
  /** Context the model was made for, in tokens. */
  maxPositionEmbeddings: number;
  /**
   * Inverse RoPE frequencies after scaling, [rotaryDim / 2]. Rotation is rotate-half over the first rotaryDim
   * entries.
   */
  ropeInvFreq: Float32Array;
  /** Per layer: keys a query may see including itself; 0 is all. [numLayers] */
  slidingWindows: Int32Array;
  /** How the linear layers are quantised; null when they are not. */
  awq: AwqConfig | null;
  /** Whether they are in e4m3, where the file says so. */
  fp8: boolean;
  /** Form of most of the checkpoint's weights; what `--dtype auto` keeps. */
  weightDtype: WeightDtype;
}

/**
 * Canonical weight slots. Per-layer slots repeat numLayers times. Matrices are [out, in], row-major.
 * post_attention_norm is the norm before the MLP, whatever the checkpoint calls it; the out_norms come with
 * ModelConfig.outNorms.
 */
export const globalSlots = ['embed_tokens', 'final_norm', 'lm_head'] as const;
export const layerSlots = [
  'input_norm',
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'q_bias',
  'k_bias',
  'v_bias',
  'o_bias',
  'q_norm',
  'k_norm',
  'attention_out_norm',
  'post_attention_norm',
  'mlp_out_norm',
  'gate_proj',
  'up_proj',
  'down_proj',
  'router',
  'gate_bias',
  'up_bias',
  'down_bias',
] as const;
export type GlobalSlot = (typeof globalSlots)[number];
export type LayerSlot = (typeof layerSlots)[number];

/** Where one weight lies. Offsets are checked against the file's size before this is made. */
export interface TensorSource {
  slot: GlobalSlot | LayerSlot;
  /** 0..numLayers-1 for a layer slot, -1 for a global one. */
  layer: number;
  /** -1 for a tensor of all. An expert's slots are gate_proj, up_proj and down_proj. */
  expert: number;
  /** w4: 4-bit integers in groups, see `awq`. f8: e4m3, see `f8`. */
  dtype: WeightDtype | 'w4' | 'f8';
  /** [out, in] or [size]. */
  shape: number[];
  /** Index into ModelFiles.paths; -1 means "fill with seeded random numbers" (--load-format dummy). */
  file: number;
  /** Bytes from the start of the file. */
  offset: number;
  /** Size in bytes: product of shape times the element size. */
  bytes: number;
  /** With dtype w4: file, offset and bytes are qweight's, these are the others'. */
  awq?: { group: number; qzeros: FilePart; scales: FilePart };
  /** With dtype f8: one scale, or one for each row, and their form. */
  f8?: { scales: FilePart; dtype: WeightDtype; hasRowScales: boolean };
}

export interface FilePart {
  file: number;
  offset: number;
  bytes: number;
}

/**
 * Everything the native model needs to open: absolute paths of safetensors files and what lies where in them.
 */
export interface ModelFiles {
  paths: string[];
  tensors: TensorSource[];
}
