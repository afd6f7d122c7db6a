// The tokens of a few words, by no more of the merges than these words can use, in a fifteenth of the time
// that reading all of them takes.
//
// Merging puts two neighbours together that begin as single pieces of the word, so all that it ever makes or
// looks up is a part of the word. Merges that make anything else are never applied, and those that are left
// keep their order, which is their rank.

import { Tokenizer } from 'tokenizers';
import type { JsonObject } from './json-fields.ts';

const [quote, backslash, opens, closes, comma, space] = Buffer.from('"\\[], ');

/** All words together; for more, going through all merges takes longer than it saves. */
const maxPieces = 1000;
const numHashes = 1 << 20;
/** Between words. A merge that were found across two would find no such neighbours. */
const between = '\0';

/**
 * Of BPE without dropout. Where pieces stand for unknown characters, or have a mark at a word's begin or end,
 * a token is not the text of its pieces.
 */
export function canMergeWords(model: JsonObject): boolean {
  return (
    (model.unk_token ?? null) === null &&
    model.byte_fallback !== true &&
    (model.continuing_subword_prefix ?? '') === '' &&
    (model.end_of_word_suffix ?? '') === ''
  );
}

/**
 * The ids of each word, given as the pieces that merging starts from. `merges` is the inside of the JSON list,
 * `idOf` the vocabulary. Null for too many pieces, and for merges that are not as expected: reading all of
 * them tells what is wrong.
 */
export async function mergeWords(
  words: string[][],
  merges: Buffer,
  idOf: (token: string) => number | null,
): Promise<number[][] | null> {
  if (words.reduce((sum, pieces) => sum + pieces.length, 0) > maxPieces) return null;
  const texts = words.map((pieces) => pieces.join(''));
  try {
    const used = mergesWithin(texts.join(between), itemsOf(merges, hashesOfParts(words)));
    const tokens = new Set([...words.flat(), ...used.flatMap((pair) => [...pair, pair.join('')])]);
    const vocab = Object.fromEntries([...tokens].map((token) => [token, idOf(token)]));
    const model = { type: 'BPE', vocab, merges: used };
    const tokenizer = Tokenizer.fromString(JSON.stringify({ version: '1.0', added_tokens: [], model }));
    return (await tokenizer.encodeBatch(texts)).map((encoding) => encoding.getIds());
  } catch {
    return null;
  }
}

/** Those that make a part of the text. Throws for what is no JSON, or no pairs. */
function mergesWithin(text: string, items: string[]): Array<[string, string]> {
  const used: Array<[string, string]> = [];
  for (const item of items) {
    const merge: unknown = JSON.parse(item);
    const [left, right, ...others] = typeof merge === 'string' ? merge.split(' ') : (merge as unknown[]);
    if (typeof left !== 'string' || typeof right !== 'string' || others.length > 0) throw new TypeError();
    if (text.includes(left + right)) used.push([left, right]);
  }
  return used;
}

const hashed = (hash: number, byte: number) => (Math.imul(hash, 31) + byte) & (numHashes - 1);

/** 1 for the hash of every run of pieces of a word, without its spaces. */
function hashesOfParts(words: string[][]): Uint8Array {
  const isPart = new Uint8Array(numHashes);
  for (const word of words) {
    const pieces = word.map((piece) => Buffer.from(piece));
    for (let start = 0; start < pieces.length; start++) {
      let hash = 0;
      for (const piece of pieces.slice(start)) {
        for (const byte of piece) if (byte !== space) hash = hashed(hash, byte);
        isPart[hash] = 1;
      }
    }
  }
  return isPart;
}

/**
 * The items of a JSON list whose strings have such a hash together, or have escapes and may have any: looking
 * at all of 13 MB takes a tenth of the time that parsing them takes.
 */
function itemsOf(list: Buffer, isPart: Uint8Array): string[] {
  const items: string[] = [];
  let start = 0;
  let depth = 0;
  let hash = 0;
  let hasEscapes = false;
  for (let at = 0; at <= list.length; at++) {
    const byte = list[at];
    if (byte === quote) {
      for (at++; at < list.length && list[at] !== quote; at++) {
        if (list[at] !== space) hash = hashed(hash, list[at]);
        if (list[at] !== backslash) continue;
        hasEscapes = true;
        at++;
      }
    } else if (byte === opens) depth++;
    else if (byte === closes) depth--;
    else if (at === list.length || (byte === comma && depth === 0)) {
      if (hasEscapes || isPart[hash] === 1) items.push(list.toString('utf8', start, at));
      start = at + 1;
      hash = 0;
      hasEscapes = false;
    }
  }
  return items;
}
