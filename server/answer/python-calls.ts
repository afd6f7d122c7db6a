// Calls written as Python: [f(a=1, b='x'), g()]. A call comes out when it is complete, since its arguments
// are
// not JSON before.

import type { EventWriter } from './events.ts';
import type { Reading, TextInput } from './text-input.ts';

const isNameCharacter = (character: string) => /[\w.]/.test(character);

/**
 * Reads the calls after the opening bracket. False when the first is none. `isMarked`: a mark says that these
 * are calls; without one they must name tools.
 */
export function* pythonCalls(input: TextInput, out: EventWriter, isMarked: boolean): Reading<boolean> {
  for (let isFirst = true; ; isFirst = false) {
    yield* input.skipSpace();
    if (yield* input.take(']')) return !isFirst;
    const start = input.numRead;
    if (!isFirst) input.keepFrom(start);
    const name = yield* input.takeWhile(isNameCharacter);
    const isCall = name !== '' && (isMarked || out.isTool(name)) && (yield* input.peek()) === '(';
    const inBrackets = isCall ? yield* input.valueText('"\'') : null;
    const given = inBrackets === null ? null : keywordArguments(inBrackets);
    if (given === null) {
      if (!isFirst) out.content(input.since(start));
      return !isFirst;
    }
    input.release();
    out.wholeCall(name, given);
    yield* input.skipSpace();
    yield* input.take(',');
  }
}

/** `(a=1, b='x')` as a JSON object; null when it is anything but keywords with literals. */
function keywordArguments(text: string): string | null {
  const literal = new PythonLiteral(text);
  const fields = literal.keywords();
  return fields === null
    ? null
    : `{${fields.map(([name, value]) => `${JSON.stringify(name)}: ${value}`).join(', ')}}`;
}

/** A Python literal as JSON text; null when the text is none. */
export function pythonToJson(text: string): string | null {
  return new PythonLiteral(text).whole();
}

const words: Record<string, string> = {
  True: 'true',
  False: 'false',
  None: 'null',
  true: 'true',
  false: 'false',
  null: 'null',
};
const escapes: Record<string, string> = {
  n: '\n',
  t: '\t',
  r: '\r',
  b: '\b',
  f: '\f',
  v: '\v',
  a: '\x07',
  '\n': '',
};
const maxDepth = 100;

/** Reads literals of one text. Each method returns null where the text is not what it reads. */
class PythonLiteral {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  whole(): string | null {
    const value = this.#value(0);
    return value === null || this.#match(/\s*$/y) === null ? null : value;
  }

  keywords(): Array<[name: string, value: string]> | null {
    const fields: Array<[string, string]> = [];
    this.#match(/\s*\(\s*/y);
    for (;;) {
      if (this.#match(/\s*\)\s*$/y) !== null) return fields;
      const name = this.#match(/\s*([A-Za-z_]\w*)\s*=\s*/y);
      const value = name === null ? null : this.#value(0);
      if (name === null || value === null) return null;
      fields.push([name[1], value]);
      if (this.#match(/\s*,/y) === null && this.#match(/\s*(?=\))/y) === null) return null;
    }
  }

  #value(depth: number): string | null {
    this.#match(/\s*/y);
    const character = this.#text[this.#at];
    if (depth > maxDepth || character === undefined) return null;
    if (character === '"' || character === "'") return this.#string();
    if (character === '[' || character === '(') return this.#list(depth);
    if (character === '{') return this.#dictionary(depth);
    const number = this.#match(/[+-]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?(?![\w.])/y);
    if (number !== null) {
      const value = Number(number[0].replaceAll('_', ''));
      return Number.isFinite(value) ? jsonNumber(number[0].replaceAll('_', ''), value) : null;
    }
    const word = this.#match(/[A-Za-z]+(?!\w)/y);
    return word === null ? null : (words[word[0]] ?? null);
  }

  /** One string, or several side by side. */
  #string(): string | null {
    let value = '';
    for (;;) {
      const literal = this.#match(/(["'])((?:[^\\]|\\[\s\S])*?)\1\s*/y);
      if (literal === null) return JSON.stringify(value);
      const text = unescaped(literal[2]);
      if (text === null) return null;
      value += text;
      if (!/["']/.test(this.#text[this.#at] ?? '')) return JSON.stringify(value);
    }
  }

  #list(depth: number): string | null {
    const close = this.#text[this.#at++] === '[' ? ']' : ')';
    const items: string[] = [];
    for (;;) {
      if (this.#takes(close)) return `[${items.join(', ')}]`;
      const item = this.#value(depth + 1);
      if (item === null) return null;
      items.push(item);
      if (!this.#takes(',') && !this.#stands(close)) return null;
    }
  }

  #dictionary(depth: number): string | null {
    this.#at++;
    const fields: string[] = [];
    for (;;) {
      if (this.#takes('}')) return `{${fields.join(', ')}}`;
      const key = this.#value(depth + 1);
      if (key === null || !this.#takes(':')) return null;
      const value = this.#value(depth + 1);
      if (value === null) return null;
      fields.push(`${key.startsWith('"') ? key : JSON.stringify(key)}: ${value}`);
      if (!this.#takes(',') && !this.#stands('}')) return null;
    }
  }

  #stands(character: string): boolean {
    this.#match(/\s*/y);
    return this.#text[this.#at] === character;
  }

  #takes(character: string): boolean {
    if (!this.#stands(character)) return false;
    this.#at++;
    return true;
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match !== null) this.#at = pattern.lastIndex;
    return match;
  }
}

/** The number as it was written where JSON has that form too, so that long ones keep their digits. */
function jsonNumber(text: string, value: number): string {
  return /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(text) ? text : String(value);
}

/** Null for an escape that does not exist in full. */
function unescaped(text: string): string | null {
  let isWhole = true;
  const value = text.replace(
    /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([\s\S]))/g,
    (all, ...found) => {
      const code = found[0] ?? found[1] ?? found[2];
      if (code !== undefined) {
        const point = Number.parseInt(code, 16);
        if (point <= 0x10ffff) return String.fromCodePoint(point);
        isWhole = false;
        return all;
      }
      const character: string = found[3];
      if ('xuU'.includes(character)) isWhole = false;
      return escapes[character] ?? ('\\\'"'.includes(character) ? character : all);
    },
  );
  return isWhole ? value : null;
}
