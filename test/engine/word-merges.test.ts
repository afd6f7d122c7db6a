// The merges that a few words can use give them the tokens that all merges give.

import fc from 'fast-check';
import { Tokenizer } from 'tokenizers';
import { describe, expect, it } from 'vitest';
import { canMergeWords, mergeWords } from '../../engine/word-merges.ts';

const letters = ['a', 'b', 'c', 'é', '"', '\\', '日'];

/** Each merge takes any two tokens that are there before it, so that many compete for a word. */
const merges = fc.array(fc.tuple(fc.nat(), fc.nat()), { minLength: 1, maxLength: 60 }).map((choices) => {
  const tokens = [...letters];
  const pairs: Array<[string, string]> = [];
  for (const [i, j] of choices) {
    const pair: [string, string] = [tokens[i % tokens.length], tokens[j % tokens.length]];
    pairs.push(pair);
    if (!tokens.includes(pair.join(''))) tokens.push(pair.join(''));
  }
  return { pairs, vocab: Object.fromEntries(tokens.map((token, id) => [token, id])) };
});
const words = fc.array(fc.array(fc.constantFrom(...letters), { minLength: 1, maxLength: 30 }), {
  maxLength: 6,
});

const inside = (list: unknown[]) => Buffer.from(JSON.stringify(list).slice(1, -1));
const vocab = { a: 0, b: 1, ab: 2 };
const idOf = (token: string) => (vocab as Record<string, number>)[token] ?? null;

describe('merging words alone', () => {
  it.each([
    ['pairs', (pairs: Array<[string, string]>) => pairs],
    ['lines', (pairs: Array<[string, string]>) => pairs.map((pair) => pair.join(' '))],
  ])('gives the tokens of the whole tokenizer, whose merges are %s', async (_, form) => {
    let numMerged = 0;
    await fc.assert(
      fc.asyncProperty(merges, words, async ({ pairs, vocab }, pieces) => {
        const model = { type: 'BPE', vocab, merges: form(pairs) };
        const whole = Tokenizer.fromString(JSON.stringify({ version: '1.0', added_tokens: [], model }));
        const expected = await whole.encodeBatch(pieces.map((word) => word.join('')));
        const found = await mergeWords(pieces, inside(form(pairs)), (token) => vocab[token] ?? null);
        expect(found).toEqual(expected.map((encoding) => encoding.getIds()));
        if (found?.some((ids, i) => ids.length < pieces[i].length)) numMerged++;
      }),
      { seed: 5, numRuns: 400 },
    );
    expect(numMerged).toBeGreaterThan(100);
  });

  it('finds no merge across two words', async () => {
    expect(await mergeWords([['a'], ['b'], ['a', 'b']], inside(['a b']), idOf)).toEqual([[0], [1], [2]]);
  });

  it.each([
    ['three tokens in a line', inside(['a b a'])],
    ['three tokens in a list', inside([['a', 'b', 'a']])],
    ['a number beside a token', inside([['aba', 2]])],
    ['a token that is not in the vocabulary', inside(['b a'])],
    ['what is no JSON', Buffer.from('"a b", ["a", ')],
  ])('leaves %s to whoever reads all merges', async (_, broken) => {
    expect(await mergeWords([['a', 'b', 'a']], broken, idOf)).toBeNull();
  });

  it('leaves more than a thousand pieces to all merges', async () => {
    const word = (length: number) => Array.from({ length }, () => 'a');
    expect(await mergeWords([word(500), word(500)], inside(['a b']), idOf)).toHaveLength(2);
    expect(await mergeWords([word(500), word(501)], inside(['a b']), idOf)).toBeNull();
  });

  it.each([
    [{}, true],
    [
      { unk_token: null, byte_fallback: false, continuing_subword_prefix: '', end_of_word_suffix: null },
      true,
    ],
    [{ unk_token: '<unk>' }, false],
    [{ byte_fallback: true }, false],
    [{ continuing_subword_prefix: '##' }, false],
    [{ end_of_word_suffix: '</w>' }, false],
  ])('can be done with %j: %s', (model, expected) => {
    expect(canMergeWords(model)).toBe(expected);
  });
});
