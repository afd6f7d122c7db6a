// Pieces of xgrammar's EBNF: literals and character classes, as code points, so that nothing needs to be
// escaped by hand. https://xgrammar.mlc.ai/docs/tutorials/ebnf_guided_generation.html

import { GrammarError } from './grammar-error.ts';

/** Inclusive ranges of code points. */
export type CodePoints = ReadonlyArray<readonly [low: number, high: number]>;

const maxCodePoint = 0x10ffff;
const ascii: CodePoints = [[0, 0x7f]];
/** Without the surrogates, which no text has. */
const beyondAscii: CodePoints = [
  [0x80, 0xd7ff],
  [0xe000, maxCodePoint],
];

function escaped(codePoint: number): string {
  const hex = codePoint.toString(16);
  return codePoint > 0xffff ? `\\U${hex.padStart(8, '0')}` : `\\u${hex.padStart(4, '0')}`;
}

/** Letters, digits and spaces as they are, for who reads a grammar; the rest as numbers. */
function character(codePoint: number): string {
  const text = String.fromCodePoint(codePoint);
  return /^[A-Za-z0-9_ ,:]$/.test(text) ? text : escaped(codePoint);
}

/** "text" */
export function literal(text: string): string {
  return `"${Array.from(text, (one) => character(one.codePointAt(0) as number)).join('')}"`;
}

/** Characters beyond ASCII that a class may list one by one. */
const maxListed = 500;

/**
 * One character of these. xgrammar reads ranges beyond ASCII wrongly; what it reads rightly is a class of
 * ASCII characters, a class of all but some ASCII characters, and a literal. Throws GrammarError for the
 * rest.
 */
export function characterClass(ranges: CodePoints): string {
  const all = merged(ranges);
  if (all.length === 1 && all[0][0] === all[0][1]) return literal(String.fromCodePoint(all[0][0]));
  const beyond = intersection(all, beyondAscii);
  if (sizeOf(beyond) === sizeOf(beyondAscii)) return `[^${inClass(intersection(complement(all), ascii))}]`;
  if (sizeOf(beyond) > maxListed) {
    throw new GrammarError(
      `a class has ${sizeOf(beyond)} characters beyond ASCII; supported: all of them, or at most ${maxListed}`,
    );
  }
  const within = intersection(all, ascii);
  const listed = listOf(beyond).map((codePoint) => literal(String.fromCodePoint(codePoint)));
  return choice([...(within.length > 0 ? [`[${inClass(within)}]`] : []), ...listed]);
}

function inClass(ranges: CodePoints): string {
  const range = ([low, high]: CodePoints[number]) =>
    low === high ? escaped(low) : `${escaped(low)}-${escaped(high)}`;
  return ranges.map(range).join('');
}

export function sizeOf(ranges: CodePoints): number {
  return ranges.reduce((sum, [low, high]) => sum + high - low + 1, 0);
}

export function listOf(ranges: CodePoints): number[] {
  return ranges.flatMap(([low, high]) => Array.from({ length: high - low + 1 }, (_, i) => low + i));
}

/** Sorted, without overlaps. */
export function merged(ranges: CodePoints): CodePoints {
  const out: Array<[number, number]> = [];
  for (const [low, high] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = out.at(-1);
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else out.push([low, high]);
  }
  return out;
}

/** All code points but these and the surrogates, which no text has. */
export function complement(ranges: CodePoints): CodePoints {
  const out: Array<[number, number]> = [];
  let next = 0;
  for (const [low, high] of merged([...ranges, [0xd800, 0xdfff]])) {
    if (low > next) out.push([next, low - 1]);
    next = high + 1;
  }
  if (next <= maxCodePoint) out.push([next, maxCodePoint]);
  return out;
}

/** What is in both. */
export function intersection(a: CodePoints, b: CodePoints): CodePoints {
  return complement([...complement(a), ...complement(b)]);
}

/** x{min,max}; max is Infinity for none. */
export function repeated(expression: string, min: number, max: number): string {
  if (min === 0 && max === Number.POSITIVE_INFINITY) return `${expression}*`;
  if (min === 1 && max === Number.POSITIVE_INFINITY) return `${expression}+`;
  if (min === 0 && max === 1) return `${expression}?`;
  return min === max ? `${expression}{${min}}` : `${expression}{${min},${max === Infinity ? '' : max}}`;
}

/**
 * (a | b); one alone needs no brackets. For alternatives of which no two begin with the same byte: xgrammar
 * merges the states of one rule's alternatives, and when several begin alike it may merge what it must not.
 */
export function choice(alternatives: readonly string[]): string {
  return alternatives.length === 1 ? alternatives[0] : `(${alternatives.join(' | ')})`;
}

/** The rules of a grammar, as they are made. */
export class EbnfRules {
  readonly #lines: string[] = [];
  #numRules = 0;

  /** A name that no other rule has. */
  newName(): string {
    return `r${this.#numRules++}`;
  }

  add(body: string, name = this.newName()): string {
    this.#lines.push(`${name} ::= ${body}`);
    return name;
  }

  /** Alternatives that may begin alike: each in a rule of its own, which xgrammar does not take apart. */
  choice(alternatives: readonly string[]): string {
    const firsts = new Set(alternatives.map((one) => /^"[A-Za-z0-9]/.exec(one)?.[0]));
    if (alternatives.length === 1 || (firsts.size === alternatives.length && !firsts.has(undefined))) {
      return choice(alternatives);
    }
    // A rule that refers to another is never taken apart.
    return choice(alternatives.map((one) => (/^r\d+$/.test(one) ? one : this.add(`${one} nothing`))));
  }

  /** The whole grammar. */
  text(root: string, shared: readonly string[] = []): string {
    return [`root ::= ${root}`, 'nothing ::= ""', ...shared, ...this.#lines].join('\n');
  }
}
