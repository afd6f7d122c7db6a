// Numbers and strings of a JSON schema -> EBNF.

import { type CodePoints, characterClass, complement, type EbnfRules, repeated } from './ebnf.ts';
import { GrammarError, shown, within } from './grammar-error.ts';
import { anyInteger, type Bound, integerRange, numberRange } from './number-ranges.ts';
import { regexToEbnf } from './regex.ts';
import type { SchemaObject } from './schema-pointers.ts';
import { stringFormats } from './string-formats.ts';

/** Control characters, " and \, which stand in a JSON string only as escapes. */
export const escapedCharacters: CodePoints = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
];
/** One character that stands in a JSON string as it is. */
export const rawCharacter = characterClass(complement(escapedCharacters));

export function count(schema: SchemaObject, keyword: string, path: string): number | null {
  const value = schema[keyword];
  if (value === undefined) return null;
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw new GrammarError(`${path}.${keyword}: found ${shown(value)}, allowed: a whole number from 0`);
}

export function numberOf(type: 'integer' | 'number', schema: SchemaObject, path: string): string {
  const [low, high] = [boundOf(schema, 'inimum', path), boundOf(schema, 'aximum', path)];
  if (low === null && high === null) return type === 'integer' ? anyInteger : 'number';
  const range = type === 'integer' ? wholeRange(low, high) : numberRange(low, high);
  const isEmpty = low !== null && high !== null && (low.value > high.value || range === null);
  if (isEmpty || range === null) throw new GrammarError(`${path}: no ${type} lies between the bounds`);
  return range;
}

/** The tighter of the bound and the exclusive one, which draft 4 writes as a flag. */
function boundOf(schema: SchemaObject, ending: 'inimum' | 'aximum', path: string): Bound | null {
  const isLow = ending === 'inimum';
  const bounds: Bound[] = [];
  for (const keyword of [`m${ending}`, `exclusiveM${ending}`]) {
    const value = schema[keyword];
    if (value === undefined || typeof value === 'boolean') continue;
    if (typeof value !== 'number' || !Number.isFinite(value)) {
      throw new GrammarError(`${path}.${keyword}: found ${shown(value)}, allowed: a number`);
    }
    const isExclusive = keyword.startsWith('exclusive') || schema[`exclusiveM${ending}`] === true;
    bounds.push({ value, isExclusive });
  }
  bounds.sort(
    (a, b) =>
      (isLow ? b.value - a.value : a.value - b.value) || Number(b.isExclusive) - Number(a.isExclusive),
  );
  return bounds[0] ?? null;
}

function wholeRange(low: Bound | null, high: Bound | null): string | null {
  const up = low && BigInt(Math.ceil(low.value)) + (low.isExclusive && Number.isInteger(low.value) ? 1n : 0n);
  const down =
    high && BigInt(Math.floor(high.value)) - (high.isExclusive && Number.isInteger(high.value) ? 1n : 0n);
  return up !== null && down !== null && up > down ? null : integerRange(up, down);
}

export function stringOf(schema: SchemaObject, path: string, rules: EbnfRules): string {
  const { pattern, format } = schema;
  const min = count(schema, 'minLength', path) ?? 0;
  const max = count(schema, 'maxLength', path) ?? Number.POSITIVE_INFINITY;
  const others = ['minLength', 'maxLength', 'format'].filter((keyword) => schema[keyword] !== undefined);
  const shape = pattern !== undefined ? 'pattern' : format !== undefined ? 'format' : null;
  const other = others.find((keyword) => keyword !== shape);
  if (shape !== null && other !== undefined) {
    throw new GrammarError(`${path}: the keyword ${other} is not supported beside ${shape}`);
  }
  if (pattern !== undefined) {
    if (typeof pattern !== 'string') {
      throw new GrammarError(`${path}.pattern: found ${shown(pattern)}, allowed: a regular expression`);
    }
    return `"\\u0022" ${within(`${path}.pattern`, () => regexToEbnf(pattern, 'json string', rules))} "\\u0022"`;
  }
  if (format !== undefined) {
    if (typeof format !== 'string' || !Object.hasOwn(stringFormats, format)) {
      const supported = Object.keys(stringFormats).join(', ');
      throw new GrammarError(`${path}.format: found ${shown(format)}, supported: ${supported}`);
    }
    return `"\\u0022" ${regexToEbnf(stringFormats[format], 'json string', rules)} "\\u0022"`;
  }
  if (min > max) throw new GrammarError(`${path}: minLength is ${min} and maxLength ${max}`);
  if (max !== Number.POSITIVE_INFINITY) return `"\\u0022" ${repeated(rawCharacter, min, max)} "\\u0022"`;
  return min === 0 ? 'string' : `"\\u0022" ${repeated(rawCharacter, min, min)} characters`;
}
