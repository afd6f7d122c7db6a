// A prompt's tokens, from a tokenizer that reads its merges only when a prompt needs them, where it can.
//
// A BPE model with `ignore_merges`, as Llama 3's, looks each word up before it merges anything: a word of the
// vocabulary is one token, whatever the merges are. Without merges the other words come out as what merging
// starts from: their characters, or the bytes or the unknown token that stand for a character, or no token
// where a character has none of these. Of one such piece, or none, merges could make nothing else. So an
// encoding in which no word has two tokens is what the whole tokenizer gives: it has the same normalizer,
// pre-tokenizer, added tokens and post-processor, and none of them sees the merges.
//
// Not so with dropout, which takes no words from the vocabulary and is random, and with truncation, which may
// leave one token of many: then the merges are read.

import { type Encoding, Tokenizer } from 'tokenizers';
import { isObject, type JsonObject, parseJsonObject } from './json-fields.ts';
import { withJoinedMerges, withoutMerges, withoutVocabulary } from './merges.ts';
import type { Truncation } from './prompt.ts';
import { readTokenizerSync, type TokenizerFile } from './tokenizer-file.ts';

/** The merges are not what `tokenizers` can use. No other prompt can be encoded any more. */
export class BrokenMergesError extends Error {
  override name = 'BrokenMergesError';
}

export class PromptTokenizer {
  /** Until the merges are read. */
  #json: Buffer | null;
  #tokenizer: Tokenizer;

  /** Throws what `tokenizers` has against the file, as far as it is read. */
  constructor(file: TokenizerFile) {
    const json = readTokenizerSync(file);
    const bare = withoutMerges(json);
    const isLazy = takesWholeWords(bare, file.path);
    this.#json = isLazy ? json : null;
    this.#tokenizer = Tokenizer.fromString(isLazy ? bare : withJoinedMerges(json));
  }

  /** Takes about a second for a tokenizer as heavy as Llama 3's. Throws BrokenMergesError. */
  readMerges(): void {
    if (this.#json === null) return;
    try {
      this.#tokenizer = Tokenizer.fromString(withJoinedMerges(this.#json));
    } catch (error) {
      throw new BrokenMergesError((error as Error).message);
    }
    this.#json = null;
  }

  get hasMerges(): boolean {
    return this.#json === null;
  }

  /** Throws BrokenMergesError when they are needed. */
  async encode(text: string, addSpecialTokens: boolean, truncation?: Truncation): Promise<number[]> {
    if (truncation !== undefined) this.readMerges();
    // Nothing is cut unasked, whatever tokenizer.json says.
    if (truncation === undefined) this.#tokenizer.disableTruncation();
    else this.#tokenizer.setTruncation(truncation.maxTokens, { direction: truncation.side });
    const encoding = await this.#tokenizer.encode(text, null, { addSpecialTokens });
    if (this.hasMerges || hasWholeWords(encoding)) return encoding.getIds();
    this.readMerges();
    return this.encode(text, addSpecialTokens);
  }
}

/** Of a tokenizer.json without its merges: a word of the vocabulary is always one token. */
function takesWholeWords(json: string, path: string): boolean {
  const model = modelBeforeVocabulary(json) ?? parseJsonObject(withoutVocabulary(json), path).model;
  return (
    isObject(model) && model.type === 'BPE' && model.ignore_merges === true && (model.dropout ?? 0) === 0
  );
}

/**
 * What the model has before its vocabulary, which is all that is asked of it here in files that `tokenizers`
 * wrote: no need to go through the vocabulary. Null in other files.
 */
function modelBeforeVocabulary(json: string): JsonObject | null {
  try {
    const { model } = JSON.parse(`${json.slice(0, json.indexOf('"vocab"'))}"": 0}}`);
    return isObject(model) && 'ignore_merges' in model && 'dropout' in model ? model : null;
  } catch {
    return null;
  }
}

/** No word has two tokens. Those of a word stand together; what a template adds belongs to none. */
function hasWholeWords(encoding: Encoding): boolean {
  const words = encoding.getWordIds();
  return words.every((word, i) => word == null || word !== words[i - 1]);
}
