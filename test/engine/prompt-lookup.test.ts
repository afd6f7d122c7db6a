// What is drafted from a text: the continuation of the longest, newest earlier place that ends like the text.

import { describe, expect, it } from 'vitest';
import { lookUp } from '../../engine/speculation/prompt-lookup.ts';
import { randomInts } from './random.ts';

/** The same by comparing every place in turn. */
function plainLookUp(tokens: number[], count: number, minNgram: number, maxNgram: number): number[] {
  for (let n = maxNgram; n >= minNgram; n--) {
    const end = tokens.slice(-n).join();
    for (let start = tokens.length - n - 1; start >= 0 && tokens.length > n; start--) {
      if (tokens.slice(start, start + n).join() !== end) continue;
      const copy = [...tokens];
      for (let i = 0; i < count; i++) copy.push(copy[start + n + i]);
      return copy.slice(tokens.length);
    }
  }
  return [];
}

describe('a draft from the text', () => {
  const cases: Array<[name: string, text: number[], draft: number[]]> = [
    ['follows the longest match', [1, 2, 3, 9, 8, 2, 3, 7, 7, 1, 2, 3], [9, 8, 2]],
    ['follows the newest of equal ones', [1, 2, 5, 5, 1, 2, 6, 6, 1, 2], [6, 6, 1]],
    ['goes on with a loop', [4, 5, 4, 5, 4, 5], [4, 5, 4]],
    ['is empty without a match of two', [1, 2, 3, 4, 9, 4], []],
    ['is empty for a single token', [1], []],
  ];
  it.each(cases)('%s', (_name, text, draft) => {
    expect(lookUp(Int32Array.from(text), 3, 2, 4)).toEqual(draft);
  });

  it('is what a plain search finds', () => {
    const int = randomInts(7);
    let numFound = 0;
    for (let i = 0; i < 2000; i++) {
      const text = Array.from({ length: int(1, 40) }, () => int(0, 3));
      const minNgram = int(1, 3);
      const maxNgram = minNgram + int(0, 3);
      const draft = lookUp(Int32Array.from(text), 5, minNgram, maxNgram);
      expect(draft, `${text} ${minNgram} ${maxNgram}`).toEqual(plainLookUp(text, 5, minNgram, maxNgram));
      if (draft.length > 0) numFound++;
    }
    expect(numFound).toBeGreaterThan(500);
  });
});
