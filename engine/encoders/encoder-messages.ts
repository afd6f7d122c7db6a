// What crosses between the HTTP thread and an encoder's threads.

import type { Pooling } from './sentence-transformer.ts';

export interface TokenizeTask {
  text: string;
  /** The second half of a pair, or null. */
  pair: string | null;
  /** Longer inputs lose tokens, the longer half of a pair first; null keeps all. */
  maxTokens: number | null;
  truncationSide: 'left' | 'right';
  addSpecialTokens: boolean;
}

/** One input, ready for the model. */
export interface EncoderInput {
  tokenIds: Int32Array;
  /** 0 for the first half of a pair, 1 for the second. */
  typeIds: Uint8Array;
}

export interface OnnxOptions {
  onnxPath: string;
  padTokenId: number;
  pooling: Pooling;
  numThreads: number;
}

export type OnnxTask = { type: 'open' } | { type: 'run'; inputs: readonly EncoderInput[] };

export interface OnnxOpened {
  /** A classifier answers with logits, an embedder with pooled hidden states. */
  kind: 'embedder' | 'classifier';
  /** Numbers per input. */
  size: number;
}

/** The outputs of a run, one input after the other. */
export type OnnxOutputs = Float32Array;
