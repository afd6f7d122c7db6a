// A tokenizer.json's merges are more than half of it, hundreds of thousands of them: text that would be
// parsed for nothing where only the vocabulary is needed, and where they are needed may have a slow form.

import { emptied, type Replacement, replaceInsides } from './json-bytes.ts';

const [quote, backslash, opens, closes, comma, space] = Buffer.from('"\\[], ');

/** The JSON text with empty lists in their place. What is no JSON stays none. */
export function withoutMerges(json: Buffer): string {
  return cutMerges(json).rest;
}

/** `merges` is what stood inside each of the lists, part of `json`. */
export function cutMerges(json: Buffer): { rest: string; merges: Buffer[] } {
  const merges: Buffer[] = [];
  const rest = replaceInsides(json, 'merges', '[', (_, start) => {
    const cut = emptied(json, start);
    if (cut !== null) merges.push(json.subarray(start, cut.end));
    return cut;
  });
  return { rest, merges };
}

/** The JSON text with an empty object in place of the vocabulary of BPE: what is left is short. */
export function withoutVocabulary(json: string): string {
  return replaceInsides(Buffer.from(json), 'vocab', '{', emptied);
}

/**
 * The JSON text with merges `["a", "b"]` in the older form "a b", which is a third of the text and takes the
 * tokenizer half the time to read. As they are where that form does not say the same.
 */
export function withJoinedMerges(json: Buffer): string {
  return replaceInsides(json, 'merges', '[', joined);
}

/**
 * Null for anything but pairs, and for pairs that would be others when joined: a space in a token would
 * divide it, and the tokenizer passes over what begins with "#version", the first line of a merges.txt.
 */
function joined(json: Buffer, start: number): Replacement | null {
  // Each pair loses at least its brackets and quotes.
  const out = Buffer.allocUnsafe(json.length - start);
  let length = 0;
  let at = start;
  const take = (expected: number) => {
    while (json[at] <= space) at++;
    if (json[at] !== expected) return false;
    at++;
    return true;
  };
  const copyString = () => {
    if (!take(quote)) return false;
    for (; at < json.length && json[at] !== space; at++) {
      if (json[at] === quote) return take(quote);
      out[length++] = json[at];
      if (json[at] === backslash) out[length++] = json[++at];
    }
    return false;
  };
  for (;;) {
    out[length++] = quote;
    if (!take(opens) || !copyString() || !take(comma)) return null;
    out[length++] = space;
    if (!copyString() || !take(closes)) return null;
    out[length++] = quote;
    if (take(closes)) break;
    if (!take(comma)) return null;
    out[length++] = comma;
  }
  const pairs = out.subarray(0, length);
  if (pairs.includes('\\u0020') || pairs.includes('"#version')) return null;
  return { text: pairs.toString('utf8'), end: at - 1 };
}
