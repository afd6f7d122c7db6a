// What turns text into tokens and back, made ready from a model's tokenizer.

import type { EngineOptions } from './engine-options.ts';
import type { LoadedModel } from './model-files.ts';
import { PromptPool } from './prompt-pool.ts';
import { TokenBytes } from './token-bytes.ts';
import { readTokenizer } from './tokenizer-file.ts';

/** Throws ModelError when the model has no tokenizer that can be used. */
export async function openText(
  options: EngineOptions,
  model: LoadedModel,
): Promise<{ tokens: TokenBytes; prompts: PromptPool }> {
  const tokenizer = await readTokenizer(model.modelPath, {
    bytesInstead: options.loadFormat === 'dummy',
    vocabSize: model.config.vocabSize,
  });
  const tokens = TokenBytes.fromJson(tokenizer.json, tokenizer.path);
  const prompts = await PromptPool.create({
    modelPath: model.modelPath,
    tokenizer,
    chatTemplate: options.chatTemplate ?? null,
  });
  return { tokens, prompts };
}
