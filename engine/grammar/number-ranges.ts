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
    alternatives.push(`"-" ${digitsOf(naturals(least, most, ''))}`);
  }
  if (high === null || high >= 0n) {
    alternatives.push(digitsOf(naturals(low !== null && low > 0n ? low : 0n, high, '')));
  }
  return choice(alternatives);
}

/**
 * Strings of digits and what follows them: all of one length from low to high, or all of some length and
 * more.
 */
type Digits = { low: string; high: string; tail: string } | { atLeast: number; tail: string };

/** Natural numbers from low to high, without leading zeros. */
function naturals(low: bigint, high: bigint | null, tail: string): Digits[] {
  const from = low.toString();
  const to = high?.toString() ?? '9'.repeat(from.length);
  const out: Digits[] = [];
  for (let length = from.length; length <= to.length; length++) {
    out.push({
      low: length === from.length ? from : `1${'0'.repeat(length - 1)}`,
      high: length === to.length ? to : '9'.repeat(length),
      tail,
    });
  }
  return high === null ? [...out, { atLeast: from.length + 1, tail }] : out;
}

/**
 * The strings of any of these, decided digit by digit: no two alternatives begin alike. No two of them may
 * hold the same string.
 */
function digitsOf(sets: readonly Digits[], isFirst = true): string {
  if (sets.every((one) => 'low' in one) && sets.length === 1 && sets[0].low === sets[0].high) {
    return [sets[0].low === '' ? '' : literal(sets[0].low), sets[0].tail].join(' ').trim() || '""';
  }
  const alternatives: string[] = [];
  const ended = sets.find((one) => ('low' in one ? one.low === '' : one.atLeast === 0));
  let from = 0;
  let group: Digits[] = [];
  const close = (to: number) => {
    if (group.length > 0) alternatives.push(`${digit(from, to)} ${digitsOf(group, false)}`);
  };
  for (let first = 0; first <= 9; first++) {
    const next = sets.flatMap((one) => after(one, String(first), isFirst));
    if (first > 0 && JSON.stringify(next) === JSON.stringify(group)) continue;
    if (first > 0) close(first - 1);
    from = first;
    group = next;
  }
  if (from === 0 && isFree(sets)) return freeDigits(sets);
  close(9);
  if (ended !== undefined) alternatives.push(ended.tail === '' ? '""' : ended.tail);
  return choice(alternatives);
}

/** What may follow the digit. */
function after(set: Digits, first: string, isFirst: boolean): Digits[] {
  if (!('low' in set)) {
    // A number of several digits does not begin with 0.
    return isFirst && first === '0' ? [] : [{ ...set, atLeast: Math.max(0, set.atLeast - 1) }];
  }
  const { low, high, tail } = set;
  if (low === '' || first < low[0] || first > high[0]) return [];
  return [
    {
      low: first === low[0] ? low.slice(1) : '0'.repeat(low.length - 1),
      high: first === high[0] ? high.slice(1) : '9'.repeat(low.length - 1),
      tail,
    },
  ];
}

/** One set of digits of any kind, which needs no deciding. */
function isFree(sets: readonly Digits[]): boolean {
  const [set] = sets;
  if (sets.length !== 1) return false;
  return 'low' in set ? /^0*$/.test(set.low) && /^9*$/.test(set.high) : true;
}

function freeDigits([set]: readonly Digits[]): string {
  const [min, max] =
    'low' in set ? [set.low.length, set.low.length] : [set.atLeast, Number.POSITIVE_INFINITY];
  return `${repeated('[0-9]', min, max)} ${set.tail}`.trim();
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
  const sets: Digits[] = [];
  const add = (whole: string, fraction: string | null) => {
    if (fraction !== null) sets.push({ low: whole, high: whole, tail: fraction });
  };
  if (high !== null && to !== null && to.whole === from.whole) {
    add(from.whole, fractionBetween(from.fraction, to.fraction, low.isExclusive, high.isExclusive));
  } else {
    add(from.whole, fractionAbove(from.fraction, low.isExclusive));
    const next = BigInt(from.whole) + 1n;
    const last = to === null ? null : BigInt(to.whole) - 1n;
    const anyFraction = `("." ${repeated('[0-9]', 1, maxFraction)})?`;
    if (last === null || next <= last) sets.push(...naturals(next, last, anyFraction));
    if (high !== null && to !== null) add(to.whole, fractionBelow(to.fraction, high.isExclusive));
  }
  return sets.length === 0 ? null : digitsOf(sets);
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
  // The low end itself, where it has no more digits.
  const tails: string[] = low !== '' && low.length <= same && !noLow ? ['""'] : [];
  if (lowRest === '' && !noLow) tails.push(`"${first}" ${repeated('[0-9]', 0, maxFraction)}`);
  else tails.push(`"${first}" ${digitsAbove(lowRest, noLow)}`);
  if (first + 1 < last) tails.push(`${digit(first + 1, last - 1)} ${repeated('[0-9]', 0, maxFraction)}`);
  if (highRest !== '') tails.push(`"${last}" ${digitsBelow(highRest, noHigh, 0)}`);
  else if (!noHigh) tails.push(`"${last}" ${repeated('"0"', 0, maxFraction)}`);
  const withDigits = `"." ${prefix}${choice(tails)}`;
  // Without digits it is the low end itself, when that is a whole number.
  return low === '' && !noLow ? `(${withDigits})?` : withDigits;
}
