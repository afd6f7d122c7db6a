// Read from the text or from its JSON, a vocabulary is the same.

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { takeVocabulary, vocabularyOf } from '../../engine/vocabulary.ts';

const token = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom('"', '\\', '{', '}', ':', ',', ' ', 'Ġ', '𝄞', '\n', '"vocab": {', '0') }),
);

it.each([0, 2])('is taken from the text, indented by %i', (indent) => {
  fc.assert(
    fc.property(fc.uniqueArray(token, { minLength: 1 }), token, (tokens, other) => {
      const vocab = Object.fromEntries(tokens.map((name, i) => [name, 3 * i]));
      const tokenizer = { added_tokens: [other], model: { type: 'BPE', vocab, merges: [] }, [other]: 1 };
      const text = JSON.stringify(tokenizer, null, indent);
      const read = JSON.parse(text);
      const escaped = text.replaceAll(
        /[^\0-~]/g,
        (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
      );
      for (const json of [text, escaped]) {
        const taken = takeVocabulary(json);
        if (other === 'model') return expect(taken).toBeNull();
        expect(taken?.tokens).toEqual(vocabularyOf(read.model, 'here'));
        expect(taken?.rest).toEqual({ ...read, model: { ...read.model, vocab: {} } });
      }
    }),
    { seed: 5, numRuns: 500 },
  );
});

it.each([
  '',
  'x',
  '{"model": {"vocab": {}}}',
  '{"model": {"vocab": {"a": 1}}',
  '{"model": {"vocab": {"a": 1.5}}}',
  '{"model": {"vocab": {"a": 1e9}}}',
  '{"model": {"vocab": {"a": 99999999}}}',
  '{"model": {"vocab": {"a": -1}}}',
  '{"model": {"vocab": {"a": "b"}}}',
  '{"model": {"vocab": {"a": {}}}}',
  '{"model": {"vocab": {"a": 1,}}}',
  '{"model": {"vocab": {"a',
  '{"model": {"vocab": {"\\x": 1}}}',
  '{"model": {"vocab": [["a", 1]]}}',
  '{"other": {"vocab": {"a": 1}}}',
  '{"model": {"vocab": {"a": 1}}, "other": {"vocab": {"a": 1}}}',
])('is left to JSON where the text is not as expected: %s', (text) => {
  expect(takeVocabulary(text)).toBeNull();
});

it('is taken from the tokenizer that ships', () => {
  const text = readFileSync(new URL('../../models/quire-demo/tokenizer.json', import.meta.url), 'utf8');
  const { model } = JSON.parse(text);
  expect(takeVocabulary(text)?.tokens).toEqual(vocabularyOf(model, 'here'));
});
