// Seeded simulation: thousands of random steps with a fake model that sees every slot. After each step the
// pool's invariants hold; in the end every request has exactly the tokens it gets alone, and nothing is held.
// Half of the loops drive a device that is a step behind, half draft tokens that are wrong now and then, and
// a third of the requests have a grammar.

import { describe, expect, it } from 'vitest';
import type { EngineLoop } from '../../engine/engine-loop.ts';
import type { EngineRequest } from '../../engine/messages.ts';
import { FakeMatchers, fakeGrammar } from './fake-matchers.ts';
import { GuessingDrafter } from './guessing-drafter.ts';
import { randomInts } from './random.ts';
import { checkedLoop, engineRequest, Outputs, runToEnd, testVocabSize } from './requests.ts';

const numSteps = 10_000;
const seed = Number(process.env.QUIRE_TEST_SEED ?? 20_260_101);

function drawRequest(
  handle: number,
  int: (low: number, high: number) => number,
  stems: number[][],
): EngineRequest {
  const stem = stems[int(0, stems.length - 1)];
  const drawTokens = (length: number) => Array.from({ length }, () => int(0, testVocabSize - 1));
  const own = drawTokens(int(0, 30));
  const promptTokenIds = [...stem.slice(0, int(1, stem.length)), ...own];
  const place = {
    priority: int(0, 2) === 0 ? int(-2, 2) : 0,
    cacheSalt: int(0, 3) === 0 ? 'other' : '',
  };
  if (int(0, 7) === 0)
    return engineRequest(handle, promptTokenIds, { ...place, wantsHiddenState: true, maxTokens: 1 });
  return engineRequest(handle, promptTokenIds, {
    ...place,
    maxTokens: int(1, 40),
    minTokens: int(0, 4) === 0 ? int(0, 5) : 0,
    eosTokenIds: int(0, 1) === 0 ? [int(0, testVocabSize - 1)] : [],
    stopTokenIds: int(0, 3) === 0 ? [int(0, testVocabSize - 1)] : [],
    seed: [int(0, 3), 0],
    numPromptLogprobs: int(0, 5) === 0 ? 0 : -1,
    repetitionPenalty: int(0, 3) === 0 ? 1.5 : 1,
    logitBias: int(0, 5) === 0 ? [[int(0, testVocabSize - 1), 2]] : [],
    badWords: int(0, 3) === 0 ? drawWords(int) : [],
    reasoning:
      int(0, 2) === 0
        ? {
            maxTokens: int(0, 3) === 0 ? null : int(0, 12),
            isInside: int(0, 1) === 0,
            isRequired: int(0, 2) === 0,
            startTokenIds: drawTokens(int(1, 2)),
            endTokenIds: drawTokens(1),
            leadTokenIds: drawTokens(int(0, 2)),
            callTokenIds: [],
          }
        : null,
    grammar: int(0, 2) === 0 ? fakeGrammar(`grammar ${int(0, 3)}`, testVocabSize) : null,
  });
}

/** Enough of them that some are completed. */
function drawWords(int: (low: number, high: number) => number): number[][] {
  return Array.from({ length: 20 }, () => Array.from({ length: int(1, 3) }, () => int(0, testVocabSize - 1)));
}

/** Stops the loop now and then, with the cache or without, and soon lets it go on. */
class Operator {
  isHolding = false;
  readonly #int: (low: number, high: number) => number;

  constructor(int: (low: number, high: number) => number) {
    this.#int = int;
  }

  act(loop: EngineLoop): void {
    if (this.isHolding) {
      if (this.#int(0, 3) === 0) this.letGo(loop);
    } else if (this.#int(0, 59) === 0) {
      const action = (['pause', 'sleep', 'resetPrefixCache'] as const)[this.#int(0, 2)];
      this.isHolding = action !== 'resetPrefixCache';
      loop.handle({ type: 'control', id: 1, action });
    }
  }

  letGo(loop: EngineLoop): void {
    this.isHolding = false;
    loop.handle({ type: 'control', id: 1, action: 'resume' });
    loop.handle({ type: 'control', id: 2, action: 'wakeUp' });
  }
}

/** What the request gets with the engine to itself, and no cache. */
function alone(request: EngineRequest) {
  const loop = checkedLoop({
    enablePrefixCaching: false,
    maxModelLen: 160,
    numBlocks: 200,
    maxNumBatchedTokens: 512,
  });
  loop.handle({ type: 'add', request: { ...request } });
  return runToEnd(loop).of(request.handle);
}

describe('10,000 random steps', () => {
  it.each([8, 16, 32])('keep every invariant with blocks of %i tokens', (blockSize) => {
    const int = randomInts(seed + blockSize);
    const stems = Array.from({ length: 5 }, () =>
      Array.from({ length: int(5, 70) }, () => int(0, testVocabSize - 1)),
    );
    let remaining = numSteps;
    let handle = 1;
    let numPreemptions = 0;
    let numHits = 0;
    let numHiddenStates = 0;
    let numWaits = 0;
    let numLate = 0;
    let numDrafted = 0;
    let numAccepted = 0;
    let numFollowed = 0;
    while (remaining > 0) {
      const matchers = new FakeMatchers(testVocabSize, () => (int(0, 3) === 0 ? int(1, 9) : 0));
      const requests = new Map<number, EngineRequest>();
      const answers = new Map<number, ReturnType<typeof alone>>();
      const wantedOf = (id: number) => {
        const known = answers.get(id) ?? alone(requests.get(id) as EngineRequest);
        answers.set(id, known);
        return known;
      };
      const guesses = new GuessingDrafter(int(1, 9), (id) => wantedOf(id).tokenIds, int);
      const loop = checkedLoop(
        {
          blockSize,
          maxModelLen: 160,
          // From "one sequence barely fits" to "no pressure".
          numBlocks: Math.ceil(160 / blockSize) + 1 + int(0, Math.ceil(400 / blockSize)),
          // Where few wait, drafts under a grammar have masks.
          maxNumSeqs: int(0, 3) === 0 ? 100 : int(1, 8),
          maxNumBatchedTokens: int(8, 128),
          longPrefillTokenThreshold: int(0, 1) * int(1, 40),
          enablePrefixCaching: int(0, 4) > 0,
        },
        int(0, 1) === 1,
        matchers,
        int(0, 1) === 1 ? guesses : null,
      );
      const outputs = new Outputs();
      const operator = new Operator(int);
      const aborted = new Set<number>();
      for (let step = 0; step < 500 && remaining > 0; step++, remaining--) {
        for (let adds = int(0, 3) === 0 ? int(1, 4) : 0; adds > 0 && requests.size < 80; adds--) {
          const request = drawRequest(handle++, int, stems);
          requests.set(request.handle, request);
          loop.handle({ type: 'add', request });
        }
        if (int(0, 19) === 0 && handle > 1) {
          const victims = [int(1, handle - 1), int(1, handle - 1)];
          for (const victim of victims) if (outputs.byHandle.get(victim)?.finish == null) aborted.add(victim);
          loop.handle({ type: 'abort', handles: victims });
        }
        operator.act(loop);
        const output = loop.step();
        outputs.add(output);
        if (operator.isHolding)
          expect(output?.controls.length === 0 && output.tokenIds.length > 0).toBe(false);
        numPreemptions += output?.stats.numPreemptions ?? 0;
        numHits += output?.stats.prefixCacheHits ?? 0;
        numDrafted += output?.stats.numDraftTokens ?? 0;
        numAccepted += output?.stats.numAcceptedByPosition.reduce((sum, count) => sum + count, 0) ?? 0;
        if (output === null) numWaits++;
        checkPool(loop.pool);
      }
      operator.letGo(loop);
      runToEnd(loop, outputs);
      expect(loop.pool.numFree).toBe(loop.pool.numUsable);
      expect(matchers.numOpen).toBe(0);
      numFollowed += matchers.numFollowed;
      numLate += matchers.numLate;
      for (const id of requests.keys()) {
        const generated = outputs.of(id);
        expect(generated.finish, `seed ${seed}, request ${id}`).not.toBeNull();
        const wanted = wantedOf(id);
        if (generated.finish === 'abort') {
          expect(aborted.has(id)).toBe(true);
          expect(generated.tokenIds).toEqual(wanted.tokenIds.slice(0, generated.tokenIds.length));
        } else {
          expect(generated.tokenIds, `seed ${seed}, request ${id}`).toEqual(wanted.tokenIds);
          expect(generated.finish).toBe(wanted.finish);
          expect(generated.promptLogprobs).toEqual(wanted.promptLogprobs);
          expect(generated.hiddenState).toEqual(wanted.hiddenState);
          if (wanted.hiddenState !== null) numHiddenStates++;
        }
      }
    }
    // The draw must reach what it is meant to reach.
    expect(numPreemptions).toBeGreaterThan(20);
    expect(numHits).toBeGreaterThan(500);
    expect(numHiddenStates).toBeGreaterThan(50);
    expect(numWaits).toBeGreaterThan(20);
    expect(numLate).toBeGreaterThan(500);
    expect(numAccepted).toBeGreaterThan(500);
    expect(numFollowed).toBeGreaterThan(50);
    expect(numDrafted - numAccepted).toBeGreaterThan(500);
  });
});

/**
 * Held and free blocks and the null block are all there are; a block is free exactly when nobody holds it.
 */
function checkPool(pool: import('../../engine/block-pool.ts').BlockPool): void {
  const free = new Set(pool.freeList());
  expect(free.size).toBe(pool.numFree);
  expect(free.has(0)).toBe(false);
  for (let block = 1; block < pool.numBlocks; block++) {
    if (pool.refCount(block) < 0 || free.has(block) !== pool.isFree(block)) {
      throw new Error(
        `block ${block} has ${pool.refCount(block)} holders and is ${free.has(block) ? '' : 'not '}free`,
      );
    }
  }
}
