// Opens what drafts, on the engine thread.

import type { BatchLayout } from '../batch.ts';
import type { EngineThreadOptions, OpenableModel } from '../messages.ts';
import { type NativeModel, openNativeModel } from '../native.ts';
import { NullModel } from '../null-model.ts';
import { DraftModel } from './draft-model.ts';
import type { Drafter } from './drafter.ts';
import { PromptLookup } from './prompt-lookup.ts';

/** Null when no model drafts. Throws when it cannot be opened. */
export function openDraftModel({
  model,
  draftModel,
  blockSize,
  maxModelLen,
}: EngineThreadOptions): NativeModel | null {
  if (draftModel === null) return null;
  if (model !== null) return openNamed(draftModel);
  return new NullModel({ ...draftModel.options, ...layoutOf(draftModel, blockSize, maxModelLen) }, 0);
}

function layoutOf({ config }: OpenableModel, blockSize: number, maxModelLen: number): BatchLayout {
  return {
    blockSize,
    maxBlocksPerSeq: Math.ceil(maxModelLen / blockSize),
    vocabSize: config.vocabSize,
  };
}

/** `opened` is what openDraftModel gave. Null when nothing drafts. */
export function makeDrafter(
  { speculation, draftModel, vocabSize, blockSize, maxModelLen }: EngineThreadOptions,
  opened: NativeModel | null,
): Drafter | null {
  if (speculation === null) return null;
  if (speculation.method === 'ngram') return new PromptLookup(speculation);
  if (draftModel === null || opened === null) throw new Error('a draft model is wanted and none was loaded');
  const { config, options } = draftModel;
  return new DraftModel(opened, {
    maxTokens: speculation.numSpeculativeTokens,
    maxModelLen: Math.min(maxModelLen, speculation.maxModelLen ?? config.maxPositionEmbeddings),
    maxNumBatchedTokens: options.maxNumBatchedTokens,
    layout: layoutOf(draftModel, blockSize, maxModelLen),
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
