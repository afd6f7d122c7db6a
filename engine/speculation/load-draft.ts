// The draft model's folder, read and checked against the model that it guesses for.

import type { EngineOptions } from '../engine-options.ts';
import { parseJsonObject } from '../json-fields.ts';
import { ModelError } from '../model-error.ts';
import { type LoadedModel, loadModel } from '../model-files.ts';
import { TokenBytes } from '../token-bytes.ts';
import { findTokenizer, tokenizerText } from '../tokenizer-file.ts';

/** Null where no model drafts. Throws ModelError. */
export async function loadDraftModel(
  { speculation, loadFormat = 'auto' }: EngineOptions,
  model: LoadedModel,
): Promise<LoadedModel | null> {
  if (speculation?.method !== 'draft_model') return null;
  try {
    const draft = await loadModel(speculation.model, { loadFormat });
    checkLength(speculation.maxModelLen, draft);
    await checkTokens(model, draft, loadFormat === 'dummy');
    return draft;
  } catch (error) {
    if (error instanceof ModelError) throw new ModelError(`--speculative-config: ${error.message}`);
    throw error;
  }
}

function checkLength(asked: number | null, { config }: LoadedModel): void {
  const own = config.maxPositionEmbeddings;
  if (asked === null || asked <= own) return;
  throw new ModelError(`max_model_len: found ${asked}, the draft model was made for at most ${own}`);
}

/**
 * A guess is a token id, which must mean the same to both. One may have ids that the other lacks: models of a
 * family often differ in how far their vocabulary is padded.
 */
async function checkTokens(model: LoadedModel, draft: LoadedModel, bytesInstead: boolean): Promise<void> {
  const files = [model, draft].map(({ modelPath, config }) =>
    findTokenizer(modelPath, bytesInstead ? config.vocabSize : null),
  );
  const texts = await Promise.all(files.map(tokenizerText));
  if (texts[0] === texts[1]) return;
  const [ownTokens, otherTokens] = files.map(({ path }, i) =>
    TokenBytes.fromJson(parseJsonObject(texts[i], path), path),
  );
  const id = ownTokens.firstDifference(otherTokens);
  if (id === null) return;
  const [ownText, otherText] = [ownTokens, otherTokens].map((tokens) =>
    JSON.stringify(tokens.tokenText(id).text),
  );
  throw new ModelError(
    `the tokens of ${draft.modelPath} are not those of ${model.modelPath}: token ${id} is ${otherText} there and ${ownText} here`,
  );
}
