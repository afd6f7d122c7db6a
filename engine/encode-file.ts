// The beginning of a text in a model's tokens, without an engine: for calibration.

import { Tokenizer } from 'tokenizers';
import { ModelError } from './model-error.ts';
import { loadModel } from './model-files.ts';
import { findTokenizer } from './tokenizer-file.ts';

const minTokens = 16;

/** At most maxTokens, and what the model takes in. Throws ModelError when the text is too short. */
export async function encodeFile(folder: string, text: string, maxTokens: number): Promise<Int32Array> {
  const { config, modelPath } = await loadModel(folder, { loadFormat: 'auto' });
  const { path } = findTokenizer(modelPath, null);
  const encoding = await Tokenizer.fromFile(path).encode(text, null, { addSpecialTokens: true });
  const ids = encoding.getIds().slice(0, Math.min(maxTokens, config.maxPositionEmbeddings));
  if (ids.length < minTokens) {
    throw new ModelError(`the calibration text has ${ids.length} tokens, at least ${minTokens} are needed`);
  }
  return Int32Array.from(ids);
}
