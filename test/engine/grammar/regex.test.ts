// Regular expressions as grammars: what they match is what JavaScript's own match from end to end.

import { describe, expect, it } from 'vitest';
import { EbnfRules } from '../../../engine/grammar/ebnf.ts';
import { GrammarError } from '../../../engine/grammar/grammar-error.ts';
import { regexGrammar, regexToEbnf } from '../../../engine/grammar/regex.ts';
import { randomInts } from '../random.ts';
import { acceptor } from './acceptor.ts';

const patterns = [
  '[a-z]+',
  '^\\d{3}-\\d{4}$',
  '(foo|ba[rz])?',
  'a{2,3}b*',
  '\\w+@\\w+\\.(com|org)',
  '[^a-c]',
  '.',
  '\\S\\s\\S',
  '[\\]\\-^]+',
  'x|y|',
  '(?:ab)+?c',
  '\\u0041[\\x42-\\x44]',
  'é|ß{2}',
  '[àâä]',
  '\\$\\(\\[',
  '(a|b(c|d){2}){1,2}',
  '1\\d{3}|[1-9]\\d{4}|[1-9]\\d{5}',
  '(日本|日曜日|月|月曜日)',
  '[A-Fa-f0-9]{2}(:[A-Fa-f0-9]{2}){1,2}',
  '"[^"]*"',
  '\\\\n',
  '(?<year>\\d{4})',
  '\\.\\*\\+\\?',
  '[\\w.-]+',
  '\\/\\n',
];

const pieces = [
  'a',
  'b',
  'c',
  'd',
  'z',
  'A',
  'B',
  '0',
  '9',
  '-',
  '.',
  '@',
  'é',
  'ß',
  'â',
  '"',
  '\\',
  '\n',
  ' ',
  '日',
  'foo',
  'bar',
  'com',
  '123',
  '^',
  ']',
  '$([',
  '.*+?',
  ':',
  '/',
  '',
];

describe('a regular expression of a text', () => {
  it.each(patterns)('%s', async (pattern) => {
    const int = randomInts(pattern.length);
    const { accepts } = await acceptor(regexGrammar(pattern));
    const own = new RegExp(`^(?:${pattern})$`);
    let matches = 0;
    for (let i = 0; i < 400; i++) {
      const text = Array.from({ length: int(0, 6) }, () => pieces[int(0, pieces.length - 1)]).join('');
      // The end of the text is where ours ends; JavaScript's $ is the same without the flag m.
      const isMatch = own.test(text);
      expect(await accepts(text), JSON.stringify(text)).toBe(isMatch);
      if (isMatch) matches++;
    }
    for (const text of samplesOf[pattern] ?? []) {
      expect(own.test(text)).toBe(true);
      expect(await accepts(text), text).toBe(true);
      matches++;
    }
    expect(matches).toBeGreaterThan(0);
  });
});

const samplesOf: Record<string, string[]> = {
  '^\\d{3}-\\d{4}$': ['123-4567'],
  '\\w+@\\w+\\.(com|org)': ['me@here.org'],
  'a{2,3}b*': ['aabbb'],
  '\\S\\s\\S': ['a b'],
  '(?:ab)+?c': ['ababc'],
  '\\u0041[\\x42-\\x44]': ['AC'],
  '(a|b(c|d){2}){1,2}': ['bcda'],
  '[A-Fa-f0-9]{2}(:[A-Fa-f0-9]{2}){1,2}': ['a0:B1:cc'],
  '(?<year>\\d{4})': ['2026'],
  '\\\\n': ['\\n'],
  '\\/\\n': ['/\n'],
  '\\$\\(\\[': ['$(['],
  '1\\d{3}|[1-9]\\d{4}|[1-9]\\d{5}': ['1234', '123456'],
  '(日本|日曜日|月|月曜日)': ['日曜日'],
  '"[^"]*"': ['"a"'],
  '\\.\\*\\+\\?': ['.*+?'],
};

describe('a regular expression of a JSON string', () => {
  it.each([
    ['.*', 'a b é'],
    ['[^a]+', 'xyz'],
    ['"\\w+"', '"abc"'],
    ['\\\\d', '\\d'],
    ['a\\nb', 'a\nb'],
    ['[\\t"]x', '\tx'],
    ['\\S+', 'ab/c'],
  ])('%s matches %j', async (pattern, value) => {
    const rules = new EbnfRules();
    const content = regexToEbnf(pattern, 'json string', rules);
    const { accepts } = await acceptor(rules.text(`"\\u0022" ${content} "\\u0022"`));
    expect(await accepts(JSON.stringify(value))).toBe(true);
    // What JSON does not allow inside a string stays outside, whatever the pattern says.
    for (const raw of ['"""', '"\n"', '"\\"', '"a"b"', '"\u0001"']) expect(await accepts(raw)).toBe(false);
  });
});

describe('refused by name', () => {
  it.each([
    ['(?=a)b', 'a lookahead, "(?=a)"'],
    ['(?<!a)b', 'a lookbehind, "(?<!a)"'],
    ['(a)\\1', 'a back-reference, "\\\\1"'],
    ['a\\b', 'a word boundary, "\\\\b"'],
    ['a^b', 'an anchor inside, "^"'],
    ['(^a)', 'an anchor inside, "^"'],
    ['\\p{L}', 'a Unicode property, "\\\\p{L}"'],
    ['(', 'is not valid: Unterminated group'],
    ['a{3,2}', 'is not valid: numbers out of order in {} quantifier'],
    ['[z-a]', 'is not valid: Range out of order in character class'],
    ['[]', 'a class that matches nothing'],
    ['(((a{0,50}){0,50}){0,50})c', 'come to 125000, at most 10000'],
    ['a{100000}', 'come to 100000, at most 10000'],
    ['[^é]', 'characters beyond ASCII; supported: all of them, or at most 500'],
    [`${'('.repeat(200)}a${')'.repeat(200)}`, 'nested more than 100 deep'],
  ])('%s', (pattern, reason) => {
    expect(() => regexGrammar(pattern)).toThrow(GrammarError);
    expect(() => regexGrammar(pattern)).toThrow(reason);
  });
});
