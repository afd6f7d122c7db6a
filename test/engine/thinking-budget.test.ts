// The end of reasoning, token by token, and what requests may not say, through the model that ships.

import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultSamplingParams, Engine, type SamplingParams } from '../../dist/engine/engine.js';
import { ThinkingBudget, type ThinkingLimit } from '../../engine/thinking-budget.ts';

const limit: ThinkingLimit = {
  maxTokens: 3,
  isInside: true,
  startTokenIds: [90, 91],
  endTokenIds: [99],
  forcedTokenIds: [98, 99],
};

/** What each token must be, null where it is free, when the model would say these. */
function decided(given: Partial<ThinkingLimit>, said: readonly number[]): Array<number | null> {
  const budget = new ThinkingBudget({ ...limit, ...given });
  return said.map((tokenId) => {
    const forced = budget.forcedTokenId;
    budget.append(forced ?? tokenId);
    return forced;
  });
}

const free = (count: number) => Array.from({ length: count }, () => null);

describe('a thinking budget', () => {
  it.each([
    ['forces the end when it is spent', {}, [1, 2, 3, 4, 5, 6], [null, null, null, 98, 99, null]],
    ['leaves what ends in time', {}, [1, 2, 99, 4, 5, 6], [null, null, null, null, null, null]],
    ['leaves what ends with the last token', {}, [1, 99, 2, 3, 4], [null, null, null, null, null]],
    ['forces at once when it is 0', { maxTokens: 0 }, [1, 2, 3], [98, 99, null]],
    ['counts from the start', { isInside: false }, [7, 90, 91, 1, 2, 3, 4, 5], [...free(6), 98, 99]],
    ['ends right after the start', { isInside: false, maxTokens: 0 }, [90, 91, 1, 2, 3], [null, null, 98, 99, null]],
    ['leaves what never starts', { isInside: false, maxTokens: 0 }, [1, 2, 3, 4, 90, 91, 5], free(7)],
  ] as const)('%s', (_name, given, said, expected) => {
    expect(decided(given, said)).toEqual(expected);
  }); // biome-ignore format: one case a row

  it('waits for tokens under way only where they decide', () => {
    const budget = new ThinkingBudget(limit);
    expect([budget.dependsOn(0), budget.dependsOn(1), budget.dependsOn(3)]).toEqual([false, false, true]);
    budget.append(1);
    budget.append(2);
    expect(budget.dependsOn(1)).toBe(true);
    budget.append(99);
    expect(budget.dependsOn(5)).toBe(false);
  });
});

const model = fileURLToPath(new URL('../../models/quire-demo', import.meta.url));

describe.each(['cpu', 'emulated'] as const)('tokens that requests decide, on %s', (backend) => {
  let engine: Engine;
  let promptTokenIds: Int32Array;
  beforeAll(async () => {
    engine = await Engine.open({
      model,
      backend,
      kvCacheDtype: 'auto',
      maxNumBatchedTokens: 256,
      maxModelLen: 256,
    });
    const messages = [{ role: 'user', content: 'Who are you?' }];
    const prompt = {
      messages,
      addGenerationPrompt: true,
      continueFinalMessage: false,
      addSpecialTokens: false,
    };
    promptTokenIds = (await engine.encodeChat(prompt)).tokenIds;
  });
  afterAll(() => engine.close());

  async function say(given: Partial<SamplingParams>): Promise<number[]> {
    const sampling = { ...defaultSamplingParams, temperature: 0, maxTokens: 12, ...given };
    const tokenIds: number[] = [];
    for await (const delta of engine.generate({ requestId: 'test', promptTokenIds, sampling })) {
      tokenIds.push(...delta.tokenIds);
    }
    return tokenIds;
  }

  it('ends the reasoning', async () => {
    const free = await say({});
    const thinkingLimit = { ...limit, maxTokens: 4, endTokenIds: [70], forcedTokenIds: [71, 72] };
    const forced = await say({ thinkingLimit });
    expect(forced.slice(0, 6)).toEqual([...free.slice(0, 4), 71, 72]);
    const inTime = await say({ thinkingLimit: { ...thinkingLimit, endTokenIds: [free[2]] } });
    expect(inTime).toEqual(free);
    // Sampled ones too, whatever else shapes the distribution.
    const sampled = await say({
      thinkingLimit,
      temperature: 1.5,
      topK: 5,
      seed: 3n,
      logitBias: [[71, -100]],
    });
    expect(sampled.slice(4, 6)).toEqual([71, 72]);
  });

  it('never completes a bad word', async () => {
    const free = await say({});
    const one = await say({ badWords: [[free[1]]] });
    expect(one).not.toContain(free[1]);
    const [, b, c, d] = free;
    const long = await say({
      badWords: [
        [b, c, d],
        [999, 1],
      ],
    });
    expect(long.slice(0, 3)).toEqual(free.slice(0, 3));
    expect(long[3]).not.toBe(d);
    // The words of the prompt do not count.
    const acrossPrompt = await say({ badWords: [[promptTokenIds[promptTokenIds.length - 1], free[0]]] });
    expect(acrossPrompt).toEqual(free);
  });

  it('says allowed tokens alone', async () => {
    const allowedTokenIds = [40, 41, 42, 500];
    const [one, two] = await Promise.all([
      say({ allowedTokenIds, temperature: 2, seed: 1n }),
      say({ allowedTokenIds: [43, 44], temperature: 2, seed: 1n }),
    ]);
    expect(one).toHaveLength(12);
    for (const tokenId of one) expect(allowedTokenIds).toContain(tokenId);
    for (const tokenId of two) expect([43, 44]).toContain(tokenId);
  });

  it('refuses tokens that do not exist', async () => {
    for (const given of [{ allowedTokenIds: [1e6] }, { badWords: [[5, 1e6]] }]) {
      await expect(say(given)).rejects.toThrow('token id 1000000 is not in the vocabulary');
    }
  });
});
