// What turns text into tokens and back, made ready from a model's tokenizer.

import { resolve } from 'node:path';
import type { EngineOptions } from './engine-options.ts';
import type { LoadedModel } from './model-files.ts';
import { PromptPool } from './prompt-pool.ts';
import { TokenBytes } from './token-bytes.ts';
import { findTokenizer, hasTokenizer, readVocabulary, type TokenizerFile } from './tokenizer-file.ts';

/**
 * Resolves before `prompts.ready`. The workers begin before the model is read, since they take longest.
 * Throws ModelError when the model has no vocabulary that can be used, and what `reading` throws.
 */
export async function openText(
  options: EngineOptions,
  reading: Promise<LoadedModel>,
): Promise<{ tokens: TokenBytes; prompts: PromptPool }> {
  const modelPath = resolve(options.model);
  const tokenizer = hasTokenizer(modelPath)
    ? findTokenizer(modelPath, null)
    : await madeTokenizer(options, reading);
  // The workers read the file themselves, beside what is made of it here: after the headers, which the engine
  // thread waits for.
  const [prompts, tokens] = await Promise.allSettled([
    PromptPool.start({ modelPath, tokenizer, chatTemplate: options.chatTemplate ?? null }),
    reading
      .then(() => readVocabulary(tokenizer))
      .then(({ json, vocabulary }) => TokenBytes.fromJson(json, tokenizer.path, vocabulary)),
  ]);
  if (tokens.status === 'fulfilled' && prompts.status === 'fulfilled')
    return { tokens: tokens.value, prompts: prompts.value };
  if (prompts.status === 'fulfilled') await prompts.value.close();
  throw [tokens, prompts].find((part) => part.status === 'rejected')?.reason;
}

async function madeTokenizer(
  { loadFormat }: EngineOptions,
  reading: Promise<LoadedModel>,
): Promise<TokenizerFile> {
  const { modelPath, config } = await reading;
  return findTokenizer(modelPath, loadFormat === 'dummy' ? config.vocabSize : null);
}
