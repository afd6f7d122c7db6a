// What turns text into tokens and back, made ready from a model's tokenizer.

import type { EngineOptions } from './engine-options.ts';
import type { LoadedModel } from './model-files.ts';
import { PromptPool } from './prompt-pool.ts';
import { TokenBytes } from './token-bytes.ts';
import { findTokenizer, readTokenizer } from './tokenizer-file.ts';

/** Throws ModelError when the model has no tokenizer that can be used. */
export async function openText(
  options: EngineOptions,
  model: LoadedModel,
): Promise<{ tokens: TokenBytes; prompts: PromptPool }> {
  const tokenizer = findTokenizer(model.modelPath, {
    bytesInstead: options.loadFormat === 'dummy',
    vocabSize: model.config.vocabSize,
  });
  const { modelPath } = model;
  // The workers read the file themselves, beside what is made of it here.
  const [prompts, tokens] = await Promise.allSettled([
    PromptPool.create({ modelPath, tokenizer, chatTemplate: options.chatTemplate ?? null }),
    readTokenizer(tokenizer).then((json) => TokenBytes.fromJson(json, tokenizer.path)),
  ]);
  if (tokens.status === 'fulfilled' && prompts.status === 'fulfilled')
    return { tokens: tokens.value, prompts: prompts.value };
  if (prompts.status === 'fulfilled') await prompts.value.close();
  throw [tokens, prompts].find((part) => part.status === 'rejected')?.reason;
}
