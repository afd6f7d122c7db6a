// withoutMerges: the same JSON but for its merges, whatever is in the strings around them.

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { withoutMerges } from '../../engine/merges.ts';

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
