// Bounds of numbers as grammars over their digits.

import { choice, literal, repeated } from './ebnf.ts';

/** A decimal number without exponent. `fraction` has no zeros at its end. */
interface Decimal {
  isNegative: boolean;
  /** Without leading zeros; "0" for none. */
  whole: string;
  fraction: string;
}

export interface Bound {
  value: number;
  /** The bound itself is not allowed. */
  isExclusive: boolean;
}

/** Any number of JSON's. */
export const anyInteger = '("0" | "-"? [1-9] [0-9]*)';
export const anyNumber = '"-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [+-]? [0-9]+)?';

/** Digits after the point at most, where a number has bounds. */
const maxFraction = 15;

function toDecimal(value: number): Decimal {
  // Numbers of 21 digits and more, and very small ones, would be written with an exponent.
  const text = Math.abs(value) >= 1e21 ? BigInt(Math.abs(value)).toString() : plain(Math.abs(value));
  const [whole, fraction = ''] = text.split('.');
  return { isNegative: value < 0, whole, fraction: fraction.replace(/0+$/, '') };
}

function plain(value: number): string {
  const text = String(value);
  const match = /^(\d)(?:\.(\d+))?e-(\d+)$/.exec(text);
  if (match === null) return text;
  return `0.${'0'.repeat(Number(match[3]) - 1)}${match[1]}${match[2] ?? ''}`;
}

/** Whole numbers from low to high; null is no bound. low <= high. */
export function integerRange(low: bigint | null, high: bigint | null): string {
  const alternatives: string[] = [];
  if (low === null || low < 0n) {
    const least = high !== null && high < 0n ? -high : 1n;
    const most = low === null ? null : -low;
    alternatives.push(`"-" ${naturals(least, most)}`);
  }
  if (high === null || high >= 0n) alternatives.push(naturals(low !== null && low > 0n ? low : 0n, high));
  return choice(alternatives);
}

/** Natural numbers from low to high without leading zeros. */
function naturals(low: bigint, high: bigint | null): string {
  const from = low.toString();
  if (high === null) {
    const longer = `[1-9] ${repeated('[0-9]', from.length, Number.POSITIVE_INFINITY)}`;
    return choice([sameLength(from, '9'.repeat(from.length)), longer]);
  }
  const to = high.toString();
  if (from.length === to.length) return sameLength(from, to);
  const alternatives = [sameLength(from, '9'.repeat(from.length))];
  const shortest = from.length;
  const longest = to.length - 2;
  if (shortest <= longest) alternatives.push(`[1-9] ${repeated('[0-9]', shortest, longest)}`);
  alternatives.push(sameLength(`1${'0'.repeat(to.length - 1)}`, to));
  return choice(alternatives);
}

/** Strings of digits, all of one length, from low to high. */
function sameLength(low: string, high: string): string {
  if (low === '') return '""';
  if (/^0*$/.test(low) && /^9*$/.test(high)) return repeated('[0-9]', low.length, low.length);
  const [first, last] = [Number(low[0]), Number(high[0])];
  const rest = low.length - 1;
  if (first === last)
    return rest === 0 ? literal(low) : `${literal(low[0])} ${sameLength(low.slice(1), high.slice(1))}`;
  const alternatives: string[] = [];
  const between = { first, last };
  if (!/^0*$/.test(low.slice(1))) {
    alternatives.push(`${literal(low[0])} ${sameLength(low.slice(1), '9'.repeat(rest))}`);
    between.first++;
  }
  if (!/^9*$/.test(high.slice(1))) {
    alternatives.push(`${literal(high[0])} ${sameLength('0'.repeat(rest), high.slice(1))}`);
    between.last--;
  }
  if (between.first <= between.last) {
    const tail = rest === 0 ? '' : ` ${repeated('[0-9]', rest, rest)}`;
    alternatives.push(`${digit(between.first, between.last)}${tail}`);
  }
  return choice(alternatives);
}

function digit(from: number, to: number): string {
  return from === to ? `"${from}"` : `[${from}-${to}]`;
}

/** Decimal numbers between the bounds, without exponents; null when there are none. */
export function numberRange(low: Bound | null, high: Bound | null): string | null {
  const alternatives: string[] = [];
  const isBelowZero = (bound: Bound) => bound.value < 0 || (bound.value === 0 && bound.isExclusive);
  if (low === null || low.value < 0) {
    // Zero stays with the numbers that are not negative: the mirrored lower bound excludes it.
    const least = high !== null && isBelowZero(high) ? mirrored(high) : { value: 0, isExclusive: true };
    const negative = magnitudes(least, low === null ? null : mirrored(low));
    if (negative !== null) alternatives.push(`"-" ${negative}`);
  }
  if (high === null || !isBelowZero(high)) {
    const least = low === null || low.value < 0 ? { value: 0, isExclusive: false } : low;
    const positive = magnitudes(least, high);
    if (positive !== null) alternatives.push(positive);
  }
  return alternatives.length === 0 ? null : choice(alternatives);
}

function mirrored({ value, isExclusive }: Bound): Bound {
  return { value: -value, isExclusive };
}

/** Numbers from low to high, neither of them negative. */
function magnitudes(low: Bound, high: Bound | null): string | null {
  const from = toDecimal(low.value);
  const to = high === null ? null : toDecimal(high.value);
  const above = fractionAbove(from.fraction, low.isExclusive);
  const alternatives: string[] = [];
  const add = (whole: string, fraction: string | null) => {
    if (fraction !== null) alternatives.push(`${whole} ${fraction}`);
  };
  const anyFraction = `("." ${repeated('[0-9]', 1, maxFraction)})?`;
  if (to !== null && to.whole === from.whole) {
    add(
      literal(from.whole),
      fractionBetween(from.fraction, to.fraction, low.isExclusive, (high as Bound).isExclusive),
    );
    return alternatives.length === 0 ? null : choice(alternatives);
  }
  add(literal(from.whole), above);
  const next = BigInt(from.whole) + 1n;
  const last = to === null ? null : BigInt(to.whole) - 1n;
  if (last === null || next <= last) add(naturals(next, last), anyFraction);
  if (to !== null) add(literal(to.whole), fractionBelow(to.fraction, (high as Bound).isExclusive));
  return choice(alternatives);
}

/** "." and digits, or nothing, that make at least 0.fraction. */
function fractionAbove(fraction: string, isExclusive: boolean): string | null {
  const digits = digitsAbove(fraction, isExclusive);
  const canBeNone = fraction === '' && !isExclusive;
  return canBeNone ? `("." ${digits})?` : `"." ${digits}`;
}

/** One digit or more from 0.fraction up. */
function digitsAbove(fraction: string, isExclusive: boolean): string {
  if (fraction === '') {
    return isExclusive
      ? `"0"{0,${maxFraction}} [1-9] [0-9]{0,${maxFraction}}`
      : repeated('[0-9]', 1, maxFraction);
  }
  const first = Number(fraction[0]);
  const rest = fraction.slice(1);
  const alternatives: string[] = [];
  if (first < 9) alternatives.push(`${digit(first + 1, 9)} ${repeated('[0-9]', 0, maxFraction)}`);
  if (rest === '' && !isExclusive) alternatives.push(`"${first}" ${repeated('[0-9]', 0, maxFraction)}`);
  else alternatives.push(`"${first}" ${digitsAbove(rest, isExclusive)}`);
  return choice(alternatives);
}

/** "." and digits, or nothing, that make at most 0.fraction; null when nothing does. */
function fractionBelow(fraction: string, isExclusive: boolean): string | null {
  if (fraction === '') return isExclusive ? null : `("." ${repeated('"0"', 1, maxFraction)})?`;
  return `("." ${digitsBelow(fraction, isExclusive, 1)})?`;
}

/** At least `min` digits up to 0.fraction. */
function digitsBelow(fraction: string, isExclusive: boolean, min: 0 | 1): string {
  if (fraction === '') return repeated('"0"', min, maxFraction);
  const first = Number(fraction[0]);
  const rest = fraction.slice(1);
  const alternatives: string[] = min === 0 ? ['""'] : [];
  if (first > 0) alternatives.push(`${digit(0, first - 1)} ${repeated('[0-9]', 0, maxFraction)}`);
  // The bound itself, as 0.5 or 0.500, unless it is left out.
  if (rest !== '') alternatives.push(`"${first}" ${digitsBelow(rest, isExclusive, 0)}`);
  else if (!isExclusive) alternatives.push(`"${first}" ${repeated('"0"', 0, maxFraction)}`);
  return choice(alternatives);
}

/** "." and digits, or nothing, from 0.low to 0.high; null when nothing is. */
function fractionBetween(low: string, high: string, noLow: boolean, noHigh: boolean): string | null {
  const length = Math.max(low.length, high.length);
  const [from, to] = [low.padEnd(length, '0'), high.padEnd(length, '0')];
  if (from === to) {
    if (noLow || noHigh) return null;
    return low === ''
      ? `("." ${repeated('"0"', 1, maxFraction)})?`
      : `"." ${literal(low)} ${repeated('"0"', 0, maxFraction)}`;
  }
  const same = [...from].findIndex((one, i) => one !== to[i]);
  const prefix = same === 0 ? '' : `${literal(from.slice(0, same))} `;
  const [first, last] = [Number(from[same]), Number(to[same])];
  const lowRest = low.slice(same + 1);
  const highRest = high.slice(same + 1);
  const tails: string[] = [];
  if (lowRest === '' && !noLow) tails.push(`"${first}" ${repeated('[0-9]', 0, maxFraction)}`);
  else tails.push(`"${first}" ${digitsAbove(lowRest, noLow)}`);
  if (first + 1 < last) tails.push(`${digit(first + 1, last - 1)} ${repeated('[0-9]', 0, maxFraction)}`);
  if (highRest !== '') tails.push(`"${last}" ${digitsBelow(highRest, noHigh, 0)}`);
  else if (!noHigh) tails.push(`"${last}" ${repeated('"0"', 0, maxFraction)}`);
  const withDigits = `"." ${prefix}${choice(tails)}`;
  // Without digits it is the low end itself, when that is a whole number.
  return low === '' && !noLow ? `(${withDigits})?` : withDigits;
}
