import { describe, expect, it } from 'vitest';
import { makePrompts, seededRandom } from '../../server/bench/prompts.ts';

describe('random prompts', () => {
  const wanted = { count: 3, prefixLength: 5, length: 4, vocabSize: 1000 };

  it.each([true, false])('share their first tokens and nothing else, as text: %s', (asText) => {
    const prompts = makePrompts({ ...wanted, asText }, seededRandom(1));
    const tokens = prompts.map((prompt) => (typeof prompt === 'string' ? prompt.split(' ') : prompt));
    for (const one of tokens) {
      expect(one).toHaveLength(9);
      expect(one.slice(0, 5)).toEqual(tokens[0].slice(0, 5));
    }
    expect(new Set(tokens.map((one) => one.slice(5).join())).size).toBe(3);
  });

  it('are the same again from a seed, within the vocabulary', () => {
    const [first] = makePrompts({ ...wanted, asText: false }, seededRandom(7)) as number[][];
    expect(makePrompts({ ...wanted, asText: false }, seededRandom(7))[0]).toEqual(first);
    for (const id of first) expect(id >= 10 && id < 1000).toBe(true);
  });
});
