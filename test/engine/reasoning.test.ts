// The end of reasoning, token by token, and what requests may not say, through the model that ships.

import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultSamplingParams, Engine, type SamplingParams } from '../../dist/engine/engine.js';
import { Reasoning, type ReasoningParams } from '../../engine/reasoning.ts';

const think: ReasoningParams = {
  maxTokens: 3,
  isInside: true,
  isRequired: false,
  startTokenIds: [90, 91],
  endTokenIds: [98],
  leadTokenIds: [99],
  callTokenIds: [97],
};

/** What each token must be, null where it is free, when the model would say these. */
function decided(given: Partial<ReasoningParams>, said: readonly number[]): Array<number | null> {
  const reasoning = new Reasoning({ ...think, ...given }, false);
  return said.map((tokenId) => {
    const forced = reasoning.forcedTokenId;
    reasoning.append(forced ?? tokenId);
    return forced;
  });
}

const free = (count: number) => Array.from({ length: count }, () => null);

describe('a thinking budget', () => {
  it.each([
    ['forces the end when it is spent', {}, [1, 2, 3, 4, 5, 6], [null, null, null, 98, 99, null]],
    ['leaves what ends in time', {}, [1, 2, 98, 4, 5, 6], [null, null, null, null, null, null]],
    ['leaves what ends with the last token', {}, [1, 98, 2, 3, 4], [null, null, null, null, null]],
    ['forces at once when it is 0', { maxTokens: 0 }, [1, 2, 3], [98, 99, null]],
    ['counts from the start', { isInside: false }, [7, 90, 91, 1, 2, 3, 4, 5], [...free(6), 98, 99]],
    ['ends right after the start', { isInside: false, maxTokens: 0 }, [90, 91, 1, 2, 3], [null, null, 98, 99, null]],
    ['ends with a call', {}, [1, 97, 2, 3, 4], free(5)],
    ['counts for ever without a limit', { maxTokens: null }, [1, 2, 3, 4, 5], free(5)],
    ['leaves what never starts', { isInside: false, maxTokens: 0 }, [1, 2, 3, 4, 90, 91, 5], free(7)],
  ] as const)('%s', (_name, given, said, expected) => {
    expect(decided(given, said)).toEqual(expected);
  }); // biome-ignore format: one case a row

  it('waits for tokens under way only where they decide', () => {
    const budget = new Reasoning(think, false);
    expect([budget.dependsOn(0), budget.dependsOn(1), budget.dependsOn(3)]).toEqual([false, false, true]);
    budget.append(1);
    budget.append(2);
    expect(budget.dependsOn(1)).toBe(true);
    budget.append(98);
    expect(budget.dependsOn(5)).toBe(false);
  });
});

describe('an answer that a grammar holds', () => {
  const held = { ...think, maxTokens: null, startTokenIds: [90] };
  const outside = { isInside: false, startTokenIds: [90, 91] };

  /** Decided tokens, and where the answer begins, when the model would say these. */
  function answerOf(given: Partial<ReasoningParams>, said: readonly number[]) {
    const reasoning = new Reasoning({ ...held, ...given }, true);
    const forced: number[] = [];
    for (const tokenId of said) {
      const next = reasoning.forcedTokenId;
      if (next !== null) forced.push(next);
      reasoning.append(next ?? tokenId);
    }
    return { forced, answerStart: reasoning.answerStart };
  }

  it.each([
    ['begins after the end and what leads on', {}, [1, 98, 2, 3, 4], { forced: [99], answerStart: 3 }],
    ['begins right after the end', { leadTokenIds: [] }, [1, 98, 2, 3], { forced: [], answerStart: 2 }],
    ['does not begin before', {}, [1, 2, 3, 4, 5], { forced: [], answerStart: null }],
    ['does not begin between', {}, [1, 98], { forced: [], answerStart: null }],
    ['begins after a budget', { maxTokens: 2 }, [1, 2, 3, 4, 5], { forced: [98, 99], answerStart: 4 }],
    ['begins with a call', {}, [1, 97, 2], { forced: [], answerStart: 1 }],
    ['begins at once without a start', { isInside: false }, [1, 90, 98], { forced: [], answerStart: 0 }],
    ['comes after a start', { isInside: false }, [90, 1, 98, 2, 3], { forced: [99], answerStart: 4 }],
    ['comes after a start of two', outside, [90, 1, 98, 2], { forced: [91, 99], answerStart: 4 }],
    ['comes after required reasoning', { ...outside, isRequired: true }, [1, 2, 3, 98, 4, 5], { forced: [90, 91, 99], answerStart: 5 }],
    ['has no reasoning without marks', { isInside: false, startTokenIds: [] }, [1], { forced: [], answerStart: 0 }],
  ] as const)('%s', (_name, given, said, expected) => {
    expect(answerOf(given, said)).toEqual(expected);
  }); // biome-ignore format: one case a row

  it('lets reasoning begin with its first token alone', () => {
    const reasoning = new Reasoning({ ...held, isInside: false }, true);
    expect(reasoning.startTokenId).toBe(90);
    reasoning.append(90);
    expect(reasoning.startTokenId).toBeNull();
    expect(new Reasoning(held, true).startTokenId).toBeNull();
  });

  it('waits for every token under way until it begins', () => {
    const reasoning = new Reasoning(held, true);
    expect([reasoning.dependsOn(0), reasoning.dependsOn(1)]).toEqual([false, true]);
    for (const tokenId of [98, 99]) reasoning.append(tokenId);
    expect(reasoning.dependsOn(1)).toBe(false);
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
    const reasoning = { ...think, maxTokens: 4, endTokenIds: [71], leadTokenIds: [72] };
    const forced = await say({ reasoning });
    expect(forced.slice(0, 6)).toEqual([...free.slice(0, 4), 71, 72]);
    const inTime = await say({ reasoning: { ...reasoning, endTokenIds: [free[2]] } });
    expect(inTime).toEqual(free);
    // Sampled ones too, whatever else shapes the distribution.
    const sampled = await say({
      reasoning,
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
    const reasoning = { ...think, leadTokenIds: [1e6] };
    for (const given of [{ allowedTokenIds: [1e6] }, { badWords: [[5, 1e6]] }, { reasoning }]) {
      await expect(say(given)).rejects.toThrow('token id 1000000 is not in the vocabulary');
    }
  });
});
