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
// leave one token of many: then the merges are read. Other words do with what they can use of them
// (word-merges.ts), so that a server that has just started answers soon. In a crowd of such texts the last
// would wait for what all the others take: for the fifth, all merges are read.

import { type Encoding, Tokenizer } from 'tokenizers';
import { isObject, type JsonObject, parseJsonObject } from './json-fields.ts';
import { cutMerges, withJoinedMerges, withoutVocabulary } from './merges.ts';
import type { Truncation } from './prompt.ts';
import { readTokenizerSync, type TokenizerFile } from './tokenizer-file.ts';
import { canMergeWords, mergeWords } from './word-merges.ts';

/** The merges are not what `tokenizers` can use. No other prompt can be encoded any more. */
export class BrokenMergesError extends Error {
  override name = 'BrokenMergesError';
}

interface Unread {
  json: Buffer;
  /** Part of it, for the words of a text. Null where nothing less than all will do. */
  merges: Buffer | null;
  /** Texts whose words may still be merged so. */
  textsLeft: number;
}

const maxTexts = 4;

/** A word's first token in an encoding, and the one behind its last. */
type Span = [start: number, end: number];

export class PromptTokenizer {
  /** Until the merges are read. */
  #unread: Unread | null = null;
  #tokenizer: Tokenizer;

  /** Throws what `tokenizers` has against the file, as far as it is read. */
  constructor(file: TokenizerFile) {
    const json = readTokenizerSync(file);
    const { rest, merges } = cutMerges(json);
    const model = modelBeforeVocabulary(rest) ?? parseJsonObject(withoutVocabulary(rest), file.path).model;
    const isLazy = isObject(model) && takesWholeWords(model);
    if (isLazy) {
      const one = merges.length === 1 && canMergeWords(model) ? merges[0] : null;
      this.#unread = { json, merges: one, textsLeft: maxTexts };
    }
    this.#tokenizer = Tokenizer.fromString(isLazy ? rest : withJoinedMerges(json));
  }

  /** Takes about a second for a tokenizer as heavy as Llama 3's. Throws BrokenMergesError. */
  readMerges(): void {
    if (this.#unread === null) return;
    try {
      this.#tokenizer = Tokenizer.fromString(withJoinedMerges(this.#unread.json));
    } catch (error) {
      throw new BrokenMergesError((error as Error).message);
    }
    this.#unread = null;
  }

  get hasMerges(): boolean {
    return this.#unread === null;
  }

  /** Throws BrokenMergesError when they are needed. */
  async encode(text: string, addSpecialTokens: boolean, truncation?: Truncation): Promise<number[]> {
    if (truncation !== undefined) this.readMerges();
    // Nothing is cut or padded unasked, whatever tokenizer.json says.
    this.#tokenizer.disablePadding();
    if (truncation === undefined) this.#tokenizer.disableTruncation();
    else this.#tokenizer.setTruncation(truncation.maxTokens, { direction: truncation.side });
    const encoding = await this.#tokenizer.encode(text, null, { addSpecialTokens });
    if (this.#unread === null) return encoding.getIds();
    const ids = await this.#merged(encoding, this.#unread);
    if (ids !== null) return ids;
    this.readMerges();
    return this.encode(text, addSpecialTokens);
  }

  /** Of an encoding without merges. Null when all of them are needed. */
  async #merged(encoding: Encoding, unread: Unread): Promise<number[] | null> {
    const spans = dividedWords(encoding.getWordIds());
    const ids = encoding.getIds();
    if (spans.length === 0) return ids;
    if (unread.merges === null || unread.textsLeft-- === 0) return null;
    const tokens = encoding.getTokens();
    const pieces = spans.map(([start, end]) => tokens.slice(start, end));
    const words = await mergeWords(pieces, unread.merges, (token) => this.#tokenizer.tokenToId(token));
    if (words === null) return null;
    const ends = [0, ...spans.map(([, end]) => end)];
    const parts = spans.map(([start], i) => [...ids.slice(ends[i], start), ...words[i]]);
    return [...parts.flat(), ...ids.slice(ends[spans.length])];
  }
}

/** A word of the vocabulary is always one token. */
function takesWholeWords(model: JsonObject): boolean {
  return model.type === 'BPE' && model.ignore_merges === true && (model.dropout ?? 0) === 0;
}

const askedFields = [
  'dropout',
  'unk_token',
  'continuing_subword_prefix',
  'end_of_word_suffix',
  'byte_fallback',
  'ignore_merges',
];

/**
 * What the model has before its vocabulary, which is all that is asked of it here in files that `tokenizers`
 * wrote: no need to go through the vocabulary. Null in other files.
 */
function modelBeforeVocabulary(json: string): JsonObject | null {
  try {
    const { model } = JSON.parse(`${json.slice(0, json.indexOf('"vocab"'))}"": 0}}`);
    return isObject(model) && askedFields.every((field) => field in model) ? model : null;
  } catch {
    return null;
  }
}

/** Words of two tokens or more. Those of a word stand together; what a template adds belongs to none. */
function dividedWords(words: Array<number | null | undefined>): Span[] {
  const spans: Span[] = [];
  for (let start = 0, end = 1; start < words.length; start = end++) {
    while (words[end] != null && words[end] === words[start]) end++;
    if (end - start > 1) spans.push([start, end]);
  }
  return spans;
}
