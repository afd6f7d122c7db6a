// Opens what drafts, on the engine thread.

import type { EngineThreadOptions } from '../messages.ts';
import { openNativeModel } from '../native.ts';
import { NullModel } from '../null-model.ts';
import { DraftModel } from './draft-model.ts';
import type { Drafter } from './drafter.ts';
import { PromptLookup } from './prompt-lookup.ts';

/** Null when nothing drafts. Throws when the model cannot be opened. */
export function openDrafter({
  speculation,
  model,
  draftModel,
  vocabSize,
  blockSize,
  maxModelLen,
}: EngineThreadOptions): Drafter | null {
  if (speculation === null) return null;
  if (speculation.method === 'ngram') return new PromptLookup(speculation);
  if (draftModel === null) throw new Error('a draft model is wanted and none was loaded');
  const { config, files, options } = draftModel;
  const layout = {
    blockSize,
    maxBlocksPerSeq: Math.ceil(maxModelLen / blockSize),
    vocabSize: config.vocabSize,
  };
  const opened =
    model === null ? new NullModel({ ...options, ...layout }, 0) : openNativeModel(config, files, options);
  return new DraftModel(opened, {
    maxTokens: speculation.numSpeculativeTokens,
    maxModelLen: Math.min(maxModelLen, speculation.maxModelLen ?? config.maxPositionEmbeddings),
    maxNumBatchedTokens: options.maxNumBatchedTokens,
    layout,
    vocabSize,
  });
}
