// A regular expression (ECMAScript's) -> EBNF of the texts it matches from the first character to the last.
// What no context-free grammar can say is refused by name.

import { type AST, RegExpParser, RegExpSyntaxError } from '@eslint-community/regexpp';
import {
  type CodePoints,
  characterClass,
  complement,
  EbnfRules,
  intersection,
  listOf,
  literal,
  merged,
  repeated,
  sizeOf,
} from './ebnf.ts';
import { GrammarError, shown } from './grammar-error.ts';

/** Copies of one element that nested repetitions may come to. */
const maxRepetitions = 10_000;
const maxDepth = 100;

/** Characters that stand in a JSON string as they are. */
const rawInJson = complement([
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
]);
/** Beyond so many code points a class is one that means "anything", and needs no escapes. */
const maxListedCodePoints = 64;

const digits: CodePoints = [[0x30, 0x39]];
const wordCharacters: CodePoints = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
/** Of ASCII alone: a class that leaves out single characters beyond ASCII is none that xgrammar can read. */
const spaces: CodePoints = [
  [0x09, 0x0d],
  [0x20, 0x20],
];
const lineEnds: CodePoints = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
];

/**
 * The EBNF of a whole text, or of the content of a JSON string, with what rules it needs. Throws
 * GrammarError naming what cannot be.
 */
export function regexToEbnf(pattern: string, form: 'text' | 'json string', rules: EbnfRules): string {
  const writer = new RegexWriter(form === 'json string', rules);
  return rules.choice(parse(pattern).alternatives.map((one) => writer.alternative(one, 'whole', 1, 0)));
}

/** The grammar of the texts that match from the first character to the last. */
export function regexGrammar(pattern: string): string {
  const rules = new EbnfRules();
  return rules.text(regexToEbnf(pattern, 'text', rules));
}

function parse(pattern: string): AST.Pattern {
  const parser = new RegExpParser();
  const read = (unicode: boolean) => parser.parsePattern(pattern, 0, pattern.length, { unicode });
  try {
    // As JSON Schema wants it; patterns with needless escapes are only valid without.
    try {
      return read(true);
    } catch {
      return read(false);
    }
  } catch (error) {
    if (!(error instanceof RegExpSyntaxError)) throw error;
    throw new GrammarError(`the regular expression ${shown(pattern)} is not valid: ${reason(error)}`);
  }
}

/** "Invalid regular expression: /(/u: Unterminated group" -> "Unterminated group" */
function reason({ message }: Error): string {
  return message.slice(message.lastIndexOf(': ') + 2);
}

function refuse(what: string, { raw }: AST.Node): never {
  throw new GrammarError(`the regular expression has ${what}, ${shown(raw)}, which is not supported`);
}

class RegexWriter {
  readonly #inJson: boolean;
  readonly #rules: EbnfRules;

  constructor(inJson: boolean, rules: EbnfRules) {
    this.#inJson = inJson;
    this.#rules = rules;
  }

  /** `place`: ^ and $ may only stand at the ends of a whole alternative. `copies`: repetitions around it. */
  alternative({ elements }: AST.Alternative, place: 'whole' | 'part', copies: number, depth: number): string {
    if (depth > maxDepth)
      throw new GrammarError(`the regular expression is nested more than ${maxDepth} deep`);
    const parts = elements.flatMap((element, i) => {
      if (element.type === 'Assertion') {
        const isAtStart = element.kind === 'start' && i === 0;
        const isAtEnd = element.kind === 'end' && i === elements.length - 1;
        if (place === 'whole' && (isAtStart || isAtEnd)) return [];
        return refuse(nameOfAssertion(element), element);
      }
      return [this.#element(element, copies, depth)];
    });
    return parts.length === 0 ? '""' : parts.join(' ');
  }

  #element(element: Exclude<AST.Element, AST.Assertion>, copies: number, depth: number): string {
    switch (element.type) {
      case 'Group':
      case 'CapturingGroup': {
        const inner = element.alternatives.map((one) => this.alternative(one, 'part', copies, depth + 1));
        return `(${this.#rules.choice(inner)})`;
      }
      case 'Quantifier':
        return this.#quantifier(element, copies, depth);
      case 'Character':
        return this.#set([[element.value, element.value]]);
      case 'CharacterSet':
        return this.#set(codePointsOf(element));
      case 'CharacterClass':
        return this.#set(codePointsOf(element));
      case 'Backreference':
        return refuse('a back-reference', element);
      default:
        return refuse('a class of sets', element);
    }
  }

  #quantifier({ element, min, max, raw }: AST.Quantifier, copies: number, depth: number): string {
    const bound = max === Number.POSITIVE_INFINITY ? Math.max(min, 1) : max;
    const total = copies * Math.max(bound, 1);
    if (total > maxRepetitions) {
      throw new GrammarError(
        `the repetitions of ${shown(raw)} come to ${total}, at most ${maxRepetitions} are allowed`,
      );
    }
    if (element.type === 'Assertion') return refuse(nameOfAssertion(element), element);
    if (max === 0) return '""';
    return repeated(this.#element(element, total, depth + 1), min, max);
  }

  /** In a JSON string, characters that cannot stand there raw are written as escapes. */
  #set(ranges: CodePoints): string {
    if (ranges.length === 0)
      throw new GrammarError('the regular expression has a class that matches nothing');
    if (!this.#inJson) return characterClass(ranges);
    const raw = intersection(ranges, rawInJson);
    const size = sizeOf(ranges);
    const escapes = size > maxListedCodePoints ? [] : listOf(ranges).filter((one) => !isIn(rawInJson, one));
    const alternatives = [
      ...(raw.length > 0 ? [characterClass(raw)] : []),
      ...escapes.map((one) => literal(JSON.stringify(String.fromCodePoint(one)).slice(1, -1))),
    ];
    if (alternatives.length === 0) throw new GrammarError('the pattern matches what no JSON string can have');
    return this.#rules.choice(alternatives);
  }
}

function isIn(ranges: CodePoints, codePoint: number): boolean {
  return ranges.some(([low, high]) => low <= codePoint && codePoint <= high);
}

function nameOfAssertion({ kind }: AST.Assertion): string {
  switch (kind) {
    case 'start':
    case 'end':
      return 'an anchor inside';
    case 'word':
      return 'a word boundary';
    default:
      return `a ${kind}`;
  }
}

function codePointsOf(
  node: AST.ClassRangesCharacterClassElement | AST.CharacterSet | AST.CharacterClass,
): CodePoints {
  switch (node.type) {
    case 'Character':
      return [[node.value, node.value]];
    case 'CharacterClassRange':
      return [[node.min.value, node.max.value]];
    case 'CharacterClass': {
      const parts = (node.elements as AST.ClassRangesCharacterClassElement[]).flatMap(codePointsOf);
      return node.negate ? complement(parts) : merged(parts);
    }
    case 'CharacterSet':
      return codePointsOfSet(node);
    default:
      return refuse('a class of sets', node);
  }
}

function codePointsOfSet(node: AST.CharacterSet): CodePoints {
  switch (node.kind) {
    case 'any':
      return complement(lineEnds);
    case 'digit':
      return node.negate ? complement(digits) : digits;
    case 'space':
      return node.negate ? complement(spaces) : spaces;
    case 'word':
      return node.negate ? complement(wordCharacters) : wordCharacters;
    default:
      return refuse('a Unicode property', node);
  }
}
