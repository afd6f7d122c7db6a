// Masks that come before a step's layers are computed, after them, many steps later, or never: the tokens are
// the same, with drafts, aborts and a device that is a step behind.

import { describe, expect, it } from 'vitest';
import type { EngineRequest } from '../../engine/messages.ts';
import { FakeMatchers, fakeGrammar } from './fake-matchers.ts';
import { GuessingDrafter } from './guessing-drafter.ts';
import { randomInts } from './random.ts';
import { checkedLoop, engineRequest, Outputs, runToEnd, testVocabSize } from './requests.ts';

const seed = Number(process.env.QUIRE_TEST_SEED ?? 20_260_101);
type Int = ReturnType<typeof randomInts>;

/** Most are held to a grammar; of two with one prompt and one grammar, as `n` makes them, the seeds differ. */
function drawRequests(int: Int): EngineRequest[] {
  return Array.from({ length: 12 }, (_, i) => {
    const prompt = Array.from({ length: 5 + 4 * (i >> 1) }, (_, at) => (at * 7 + (i >> 1)) % testVocabSize);
    return engineRequest(i + 1, prompt, {
      maxTokens: int(1, 30),
      eosTokenIds: [int(0, testVocabSize - 1)],
      seed: [i, 0],
      numLogprobs: int(0, 1) - 1,
      numPromptLogprobs: int(0, 3) === 0 ? 0 : -1,
      repetitionPenalty: int(0, 2) === 0 ? 1.5 : 1,
      grammar: int(0, 3) > 0 ? fakeGrammar(`grammar ${i >> 2}`, testVocabSize) : null,
    });
  });
}

const delays = {
  'before they are looked for': () => () => 0,
  'after the layers': () => () => 1,
  'some steps later': () => () => 7,
  'at any time': (int: Int) => () => int(0, 9),
} satisfies Record<string, (int: Int) => () => number>;

const loops = {
  'a model that computes at once': { isAsync: false, drafts: false },
  'a device that is a step behind': { isAsync: true, drafts: false },
  'a drafter': { isAsync: false, drafts: true },
  'a drafter and a device': { isAsync: true, drafts: true },
};

/** Few blocks, so that some are preempted. */
const limits = { numBlocks: 30, maxModelLen: 96 };

/** What the requests get when no mask is ever waited for. */
function wantedOf(requests: readonly EngineRequest[]): Outputs {
  const loop = checkedLoop({ ...limits, numBlocks: 200 });
  for (const request of requests) loop.handle({ type: 'add', request: { ...request } });
  return runToEnd(loop);
}

describe.each(Object.keys(loops) as Array<keyof typeof loops>)('with %s, masks that come', (kind) => {
  const { isAsync, drafts } = loops[kind];

  it.each(Object.keys(delays) as Array<keyof typeof delays>)('%s change no token', (when) => {
    const int = randomInts(seed);
    const requests = drawRequests(int);
    const wanted = wantedOf(requests);
    const matchers = new FakeMatchers(testVocabSize, delays[when](int));
    const drafter = drafts ? new GuessingDrafter(4, (id) => wanted.of(id).tokenIds, int) : null;
    const loop = checkedLoop(limits, isAsync, matchers, drafter);
    for (const request of requests) loop.handle({ type: 'add', request });
    const found = runToEnd(loop);
    for (const { handle } of requests) {
      expect(found.of(handle), `seed ${seed}, request ${handle}`).toEqual({
        ...wanted.of(handle),
        numCachedTokens: found.of(handle).numCachedTokens,
      });
    }
    if (when === 'before they are looked for') expect(matchers.numLate).toBe(0);
    if (when === 'some steps later') expect(matchers.numLate).toBeGreaterThan(0);
    expect(matchers.numOpen).toBe(0);
    expect(loop.pool.numFree).toBe(loop.pool.numUsable);
  });

  it('after their client has left are heard by nobody', () => {
    const int = randomInts(seed + 1);
    const requests = drawRequests(int);
    const wanted = wantedOf(requests);
    const matchers = new FakeMatchers(testVocabSize, () => int(0, 5));
    const drafter = drafts ? new GuessingDrafter(4, (id) => wanted.of(id).tokenIds, int) : null;
    const loop = checkedLoop(limits, isAsync, matchers, drafter);
    for (const request of requests) loop.handle({ type: 'add', request });
    const found = new Outputs();
    for (let handle = 1; handle <= 12; handle += 2) {
      for (let steps = int(1, 4); steps > 0; steps--) found.add(loop.step());
      loop.handle({ type: 'abort', handles: [handle] });
    }
    runToEnd(loop, found);
    for (const { handle } of requests) {
      const { tokenIds, finish } = found.of(handle);
      const all = wanted.of(handle).tokenIds;
      expect(tokenIds).toEqual(finish === 'abort' ? all.slice(0, tokenIds.length) : all);
    }
    expect(matchers.numOpen).toBe(0);
    expect(loop.pool.numFree).toBe(loop.pool.numUsable);
  });

  it('never end their request, and no other', () => {
    const int = randomInts(seed + 2);
    const requests = drawRequests(int).map((request) => ({ ...request, maxTokens: 20, eosTokenIds: [] }));
    const wanted = wantedOf(requests);
    const matchers = new FakeMatchers(testVocabSize, () => int(0, 5));
    const held = requests.filter(({ grammar }) => grammar !== null);
    for (const { handle } of held.slice(0, 3)) matchers.lost.add(handle);
    const loop = checkedLoop({ ...limits, numBlocks: 200 }, isAsync, matchers);
    for (const request of requests) loop.handle({ type: 'add', request });
    const found = runToEnd(loop);
    for (const { handle } of requests) {
      const { tokenIds, finish } = found.of(handle);
      if (matchers.lost.has(handle)) expect([finish, tokenIds.length]).toEqual(['abort', 1]);
      else expect(tokenIds).toEqual(wanted.of(handle).tokenIds);
    }
    const reasons = found.steps.flatMap(({ finished }) => finished.map(({ stopReason }) => stopReason));
    expect(reasons.filter((reason) => reason === 'grammar_timeout')).toHaveLength(3);
  });
});
