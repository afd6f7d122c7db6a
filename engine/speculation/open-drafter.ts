// Opens what drafts, on the engine thread.

import type { EngineThreadOptions, OpenableModel } from '../messages.ts';
import { type NativeModel, openNativeModel } from '../native.ts';
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
  const { config, options } = draftModel;
  const layout = {
    blockSize,
    maxBlocksPerSeq: Math.ceil(maxModelLen / blockSize),
    vocabSize: config.vocabSize,
  };
  const opened = model === null ? new NullModel({ ...options, ...layout }, 0) : openNamed(draftModel);
  return new DraftModel(opened, {
    maxTokens: speculation.numSpeculativeTokens,
    maxModelLen: Math.min(maxModelLen, speculation.maxModelLen ?? config.maxPositionEmbeddings),
    maxNumBatchedTokens: options.maxNumBatchedTokens,
    layout,
    vocabSize,
  });
}

/** What is wrong says whose fault it is: it may be read as the main model's. */
function openNamed({ config, files, options }: OpenableModel): NativeModel {
  try {
    return openNativeModel(config, files, options);
  } catch (error) {
    throw new Error(`--speculative-config: ${error instanceof Error ? error.message : String(error)}`);
  }
}
