// The tokens of a vocabulary by their ids. One of 128,000 tokens is read from the text, in half the time that
// an object of as many names takes.

import { isObject, type JsonObject, shown } from './json-fields.ts';
import { ModelError } from './model-error.ts';

export type Vocabulary = Array<string | undefined>;

const maxId = 1 << 24;
const quote = 0x22;
const comma = 0x2c;
const digit0 = 0x30;
const colon = 0x3a;
const backslash = 0x5c;
const closes = 0x7d;

/** Of BPE and WordPiece (an object) or Unigram (a list). `path` is for errors. */
export function vocabularyOf(model: unknown, path: string): Vocabulary {
  const vocab = isObject(model) ? model.vocab : undefined;
  if (Array.isArray(vocab)) return vocab.map((entry) => String(Array.isArray(entry) ? entry[0] : entry));
  if (!isObject(vocab))
    throw new ModelError(`${path}: model.vocab is ${shown(vocab)}, expected an object or a list`);
  const tokens: Vocabulary = [];
  // Four times as fast as Object.entries for 100,000 of them.
  for (const token in vocab) {
    const id = vocab[token];
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) > maxId) {
      throw new ModelError(`${path}: token ${shown(token)} has id ${shown(id)}`);
    }
    tokens[id as number] = token;
  }
  return tokens;
}

/**
 * The tokens of a tokenizer.json, and the rest of it with an empty vocabulary. Null when the text is not as
 * expected, an object of tokens and their ids and no other vocabulary: whoever parses all of it can say why.
 */
export function takeVocabulary(json: string): { tokens: Vocabulary; rest: JsonObject } | null {
  const [key, another] = json.matchAll(/(?<!\\)"vocab"\s*:\s*\{/g);
  if (key === undefined || another !== undefined) return null;
  const start = key.index + key[0].length;
  try {
    const { tokens, end } = readEntries(json, start);
    const rest: unknown = JSON.parse(json.slice(0, start) + json.slice(end));
    return isObject(rest) && isObject(rest.model) && isObject(rest.model.vocab) ? { tokens, rest } : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/** From the first entry to the closing brace. Throws SyntaxError. */
function readEntries(json: string, start: number): { tokens: Vocabulary; end: number } {
  const tokens: Vocabulary = [];
  let at = start;
  const next = (): number => {
    while (json.charCodeAt(at) <= 0x20) at++;
    return json.charCodeAt(at++);
  };
  const expect = (isExpected: boolean) => {
    if (!isExpected) throw new SyntaxError(`at ${at}`);
  };
  for (;;) {
    expect(next() === quote);
    const first = at;
    at = endOfString(json, at);
    const token = stringOf(json, first, at++);
    expect(next() === colon);
    let id = next() - digit0;
    expect(id >= 0 && id <= 9);
    for (let digit = 0; ; at++) {
      digit = json.charCodeAt(at) - digit0;
      if (!(digit >= 0 && digit <= 9)) break;
      id = 10 * id + digit;
    }
    expect(id <= maxId);
    tokens[id] = token;
    const after = next();
    if (after === closes) return { tokens, end: at - 1 };
    expect(after === comma);
  }
}

function endOfString(json: string, start: number): number {
  let at = start;
  for (let code = json.charCodeAt(at); code !== quote; code = json.charCodeAt(at)) {
    if (Number.isNaN(code)) throw new SyntaxError('no end of a string');
    at += code === backslash ? 2 : 1;
  }
  return at;
}

/** Between its quotes. */
function stringOf(json: string, start: number, end: number): string {
  const text = json.slice(start, end);
  return text.includes('\\') ? JSON.parse(`"${text}"`) : text;
}
