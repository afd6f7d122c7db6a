// The same JSON but for its merges, whatever is in the strings around them, and the same tokenizer when they
// are joined.

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { Tokenizer } from 'tokenizers';
import { expect, it } from 'vitest';
import { withJoinedMerges, withoutMerges } from '../../engine/merges.ts';

const tricky = fc.oneof(
  fc.string({ unit: fc.constantFrom('"', '\\', '[', ']', ':', ' ', ',', '"merges"', 'Ġ', '𝄞', 'a') }),
  fc.constantFrom('merges', '"merges": [', ']', '\\"merges":['),
);
const merges = fc.oneof(fc.array(tricky), fc.array(fc.tuple(tricky, tricky)));

it.each([0, 2])('leaves all but the merges, indented by %i', (indent) => {
  fc.assert(
    fc.property(
      fc.dictionary(tricky, fc.nat()),
      merges,
      fc.array(tricky),
      fc.boolean(),
      (vocab, list, rest, isLast) => {
        const model = isLast ? { vocab, merges: list } : { merges: list, vocab };
        const tokenizer = { before: rest, model, after: rest };
        const text = withoutMerges(Buffer.from(JSON.stringify(tokenizer, null, indent)));
        expect(JSON.parse(text)).toEqual({ ...tokenizer, model: { ...model, merges: [] } });
      },
    ),
    { seed: 7, numRuns: 500 },
  );
});

it.each(['', '{"merges": [', '{"merges": ["a]', '{"merges"', '"merges": [1]]', '{"merges": 5}'])(
  'leaves what has no list of them: %s',
  (text) => {
    const same = text === '"merges": [1]]' ? '"merges": []]' : text;
    expect(withoutMerges(Buffer.from(text))).toBe(same);
  },
);

it('takes them out of the tokenizer that ships', () => {
  const file = new URL('../../models/quire-demo/tokenizer.json', import.meta.url);
  const { model, ...rest } = JSON.parse(readFileSync(file, 'utf8'));
  expect(model.merges.length).toBeGreaterThan(1000);
  expect(JSON.parse(withoutMerges(readFileSync(file)))).toEqual({ ...rest, model: { ...model, merges: [] } });
});

it.each([0, 2])('joins pairs, indented by %i, where no token has a space', (indent) => {
  fc.assert(
    fc.property(fc.array(fc.tuple(tricky, tricky), { minLength: 1 }), tricky, (pairs, before) => {
      const json = Buffer.from(JSON.stringify({ before, merges: pairs, after: before }, null, indent));
      const canJoin = !pairs.flat().some((token) => token.includes(' '));
      const merges = canJoin ? pairs.map((pair) => pair.join(' ')) : pairs;
      expect(JSON.parse(withJoinedMerges(json))).toEqual({ before, merges, after: before });
    }),
    { seed: 7, numRuns: 500 },
  );
});

it.each([
  '[["a", "\\u0020b"]]',
  '[["#version", "s"]]',
  '["a b"]',
  '[]',
  '[["a"]]',
  '[["a", "b", "c"]]',
  '[["a", "b"], "a b"]',
  '[["a", 1]]',
  '[["a", "b"]',
  '[["a", "b\\',
])('leaves the merges %s as they are', (merges) => {
  const text = `{"merges": ${merges}}`;
  expect(withJoinedMerges(Buffer.from(text))).toBe(text);
});

it('makes the same tokenizer of joined merges', () => {
  const file = new URL('../../models/quire-demo/tokenizer.json', import.meta.url);
  const json = JSON.parse(readFileSync(file, 'utf8'));
  const asWritten = Tokenizer.fromString(JSON.stringify(json)).toString();
  const merges = json.model.merges.map((merge: string | string[]) =>
    typeof merge === 'string' ? merge.split(' ') : merge,
  );
  const pairs = Buffer.from(JSON.stringify({ ...json, model: { ...json.model, merges } }, null, 2));
  const text = withJoinedMerges(pairs);
  expect(JSON.parse(text).model.merges).toEqual(merges.map((pair: string[]) => pair.join(' ')));
  expect(Tokenizer.fromString(text).toString()).toBe(asWritten);
});
