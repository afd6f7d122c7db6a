// Ids to text: equal to the tokenizers library as a whole, and equal to the whole when it comes in pieces.

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Detokenizer, type DetokenizerOptions } from '../../engine/detokenizer.ts';
import { TokenBytes } from '../../engine/token-bytes.ts';

interface Golden {
  tokenizer: Record<string, unknown>;
  cases: Array<{ text: string; tokenIds: number[]; decoded: string; decodedWithSpecial: string }>;
}

const kinds = ['byte-level', 'byte-fallback', 'metaspace', 'wordpiece'] as const;
const plain: DetokenizerOptions = {
  stop: [],
  includeStopStrInOutput: false,
  skipSpecialTokens: true,
  keptSpecialTokens: [],
  minTokens: 0,
};

const goldens = new Map(
  kinds.map((kind) => {
    const url = new URL(`../golden/tokenizers/${kind}.json`, import.meta.url);
    const golden: Golden = JSON.parse(readFileSync(url, 'utf8'));
    return [kind, { ...golden, tokens: TokenBytes.fromJson(golden.tokenizer, kind) }];
  }),
);
const goldenOf = (kind: (typeof kinds)[number]) => goldens.get(kind) as Golden & { tokens: TokenBytes };

const vocabularySize = 400;
const someIds = fc.array(fc.integer({ min: 0, max: vocabularySize - 1 }), { maxLength: 60 });

/** Pushes the ids in runs of the given lengths, the rest as one. */
function inPieces(detokenizer: Detokenizer, ids: readonly number[], lengths: readonly number[]): string[] {
  const pieces: string[] = [];
  let at = 0;
  for (const length of [...lengths, ids.length]) {
    pieces.push(detokenizer.push(ids.slice(at, at + length)));
    at += length;
  }
  return [...pieces, detokenizer.finish()];
}

describe.each(kinds)('%s', (kind) => {
  const { tokens, cases } = goldenOf(kind);

  it.each(cases)('decodes $text', ({ tokenIds, decoded, decodedWithSpecial }) => {
    expect(tokens.decode(tokenIds, true)).toBe(decoded);
    expect(tokens.decode(tokenIds, false)).toBe(decodedWithSpecial);
    const oneByOne = (skipSpecialTokens: boolean) =>
      inPieces(
        new Detokenizer(tokens, [], { ...plain, skipSpecialTokens }),
        tokenIds,
        tokenIds.map(() => 1),
      );
    expect(oneByOne(true).join('')).toBe(decoded);
    expect(oneByOne(false).join('')).toBe(decodedWithSpecial);
  });

  it('gives the same text in any pieces', () => {
    const lengths = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 60 });
    fc.assert(
      fc.property(someIds, lengths, fc.boolean(), (ids, runs, skipSpecialTokens) => {
        const pieces = inPieces(new Detokenizer(tokens, [], { ...plain, skipSpecialTokens }), ids, runs);
        expect(pieces.join('')).toBe(tokens.decode(ids, skipSpecialTokens));
      }),
      { numRuns: 500 },
    );
  });

  it('continues a prompt as the whole continues it', () => {
    for (const { tokenIds, decoded } of cases.filter((one) => one.tokenIds.length > 3)) {
      for (let split = 2; split < tokenIds.length; split++) {
        const prompt = tokenIds.slice(0, split);
        const before = tokens.decode(prompt, true);
        // A prompt that ends inside a character has no text of its own to continue.
        if (before === '' || !decoded.startsWith(before)) continue;
        const detokenizer = new Detokenizer(tokens, prompt, plain);
        expect(before + detokenizer.push(tokenIds.slice(split)) + detokenizer.finish()).toBe(decoded);
      }
    }
  });

  it('stops where the whole text first has a stop string, in any pieces', () => {
    const stops = fc.array(fc.string({ minLength: 1, maxLength: 3, unit: fc.constantFrom(...'e t.ano') }), {
      minLength: 1,
      maxLength: 3,
    });
    fc.assert(
      fc.property(someIds, stops, fc.boolean(), (ids, stop, include) => {
        const detokenizer = new Detokenizer(tokens, [], { ...plain, stop, includeStopStrInOutput: include });
        const emitted = inPieces(
          detokenizer,
          ids,
          ids.map(() => 1),
        ).join('');
        const whole = tokens.decode(ids, true);
        const ends = stop
          .map((one) => whole.indexOf(one) + one.length)
          .filter((end, i) => end >= stop[i].length);
        if (ends.length === 0) {
          expect(detokenizer.stopped).toBeNull();
          expect(emitted).toBe(whole);
          return;
        }
        const found = detokenizer.stopped;
        expect(found).not.toBeNull();
        const { stopString, numTokens } = found as NonNullable<typeof found>;
        const start = whole.indexOf(stopString);
        expect(emitted).toBe(whole.slice(0, start + (include ? stopString.length : 0)));
        // Complete at that token, and at none before it.
        expect(tokens.decode(ids.slice(0, numTokens), true)).toContain(stopString);
        const before = tokens.decode(ids.slice(0, numTokens - 1), true);
        for (const one of stop) expect(before.replace(/\ufffd+$/, '')).not.toContain(one);
      }),
      { numRuns: 500 },
    );
  });
});

describe('text leaves only when it is certain', () => {
  const { tokens, cases } = goldenOf('byte-level');
  const idsOf = (text: string) => cases.find((one) => one.text === text)?.tokenIds ?? [];

  it('holds incomplete characters back', () => {
    const detokenizer = new Detokenizer(tokens, [], plain);
    for (const id of idsOf('emoji 🙂 and 👩‍🚀 and 🇫🇷'))
      expect(detokenizer.push([id])).not.toContain('\ufffd');
    expect(detokenizer.finish()).toBe('');
  });

  it('ends an incomplete character as U+FFFD', () => {
    const ids = idsOf('emoji 🙂 and 👩‍🚀 and 🇫🇷');
    const detokenizer = new Detokenizer(tokens, [], plain);
    const text = detokenizer.push(ids.slice(0, -1));
    expect(text).not.toContain('\ufffd');
    expect(detokenizer.finish()).toBe('\ufffd');
  });

  it('says how much text each token adds', () => {
    const ids = idsOf('emoji 🙂 and 👩‍🚀 and 🇫🇷');
    const lengths: number[] = [];
    const text = new Detokenizer(tokens, [], plain).push(ids, lengths);
    expect(lengths).toHaveLength(ids.length);
    expect(lengths.reduce((sum, length) => sum + length)).toBe(text.length);
    expect(lengths).toContain(0);
  });

  it('keeps the special tokens it is told to', () => {
    const special = (
      goldenOf('byte-level').tokenizer.added_tokens as Array<{ id: number; content: string }>
    )[0];
    const textWith = (keptSpecialTokens: string[]) =>
      new Detokenizer(tokens, [], { ...plain, keptSpecialTokens }).push([special.id]);
    expect(textWith([])).toBe('');
    expect(textWith(['no such token'])).toBe('');
    expect(textWith([special.content])).toBe(special.content);
  });

  it('holds back what may become a stop string, and lets go of what does not', () => {
    const ids = idsOf('The quick brown fox');
    const detokenizer = new Detokenizer(tokens, [], { ...plain, stop: ['quick brown f!', 'zzz'] });
    const pieces = ids.map((id) => detokenizer.push([id]));
    const mismatch = pieces.findIndex((piece) => piece.includes('quick'));
    expect(pieces[mismatch]).toMatch(/quick brown f.+/);
    expect(pieces.join('') + detokenizer.finish()).toBe('The quick brown fox');
  });

  it('does not look for stop strings in the first min_tokens tokens', () => {
    const ids = idsOf('The quick brown fox');
    const early = new Detokenizer(tokens, [], { ...plain, stop: ['T'], minTokens: 0 });
    early.push(ids);
    expect(early.stopped).toMatchObject({ stopString: 'T', numTokens: 1 });
    const late = new Detokenizer(tokens, [], { ...plain, stop: ['T'], minTokens: 1 });
    expect(late.push(ids)).toBe('The quick brown fox');
    expect(late.stopped).toBeNull();
  });
});

describe('tokenizer files that cannot be used', () => {
  const { tokenizer } = goldenOf('byte-level');
  it.each([
    ['no decoder', { ...tokenizer, decoder: null }, /decoder null is not supported/],
    ['an unknown decoder', { ...tokenizer, decoder: { type: 'CTC' } }, /decoder .*CTC.* is not supported/],
    ['no vocabulary', { ...tokenizer, model: {} }, /model.vocab is nothing/],
    ['an id that is no number', { ...tokenizer, model: { vocab: { a: 'x' } } }, /token "a" has id "x"/],
    ['a negative id', { ...tokenizer, model: { vocab: { a: -1 } } }, /token "a" has id -1/],
  ])('%s', (_name, json, message) => {
    expect(() => TokenBytes.fromJson(json, 'tokenizer.json')).toThrow(message);
  });
});
