// Drafts by a model, on checked models: the draft model sees its own slots, so a block that holds something
// else than the draft cache believes throws, or shows as a draft that is rejected.

import { describe, expect, it } from 'vitest';
import type { EngineLoop, EngineLoopOptions } from '../../engine/engine-loop.ts';
import type { EngineRequest } from '../../engine/messages.ts';
import { DraftModel, type DraftModelOptions } from '../../engine/speculation/draft-model.ts';
import { CheckedModel } from './checked-model.ts';
import { FakeMatchers, fakeGrammar } from './fake-matchers.ts';
import { randomInts } from './random.ts';
import { checkedLoop, engineRequest, type Generated, Outputs, runToEnd, testVocabSize } from './requests.ts';

const seed = Number(process.env.QUIRE_TEST_SEED ?? 20_260_101);
const maxModelLen = 160;
type Int = ReturnType<typeof randomInts>;

/** The draft model: counts what it computes, and samples something else now and then. */
class OtherModel extends CheckedModel {
  numTokens = 0;
  longestStep = 0;
  isFull = false;
  #numRows = 0;
  readonly #isWrong: () => boolean;

  constructor(
    sizes: ConstructorParameters<typeof CheckedModel>[0],
    blockSize: number,
    isWrong: () => boolean,
  ) {
    super(sizes, blockSize, true);
    this.#isWrong = isWrong;
  }

  override allocateKvCache(numBlocks: number): void {
    if (this.isFull && numBlocks > 0) throw new Error('no memory');
    super.allocateKvCache(numBlocks);
  }

  override launch(numTokens: number, numSeqs: number, numRows: number): void {
    this.numTokens += numTokens;
    this.longestStep = Math.max(this.longestStep, numTokens);
    this.#numRows = numRows;
    super.launch(numTokens, numSeqs, numRows);
  }

  override collect(): void {
    super.collect();
    const { sampledTokenIds } = this.batch;
    for (let row = 0; row < this.#numRows; row++) {
      if (this.#isWrong()) sampledTokenIds[row] = (sampledTokenIds[row] + 1) % testVocabSize;
    }
  }
}

interface Drafting extends Partial<DraftModelOptions> {
  /** Of the draft model. */
  draftVocabSize?: number;
  isWrong?: () => boolean;
}

function draftedLoop(
  options: Partial<EngineLoopOptions>,
  drafting: Drafting = {},
  isAsync = false,
  matchers = new FakeMatchers(testVocabSize),
) {
  const all = { maxModelLen, blockSize: 8, maxNumSeqs: 8, numBlocks: 200, ...options };
  const layout = {
    blockSize: all.blockSize,
    maxBlocksPerSeq: Math.ceil(maxModelLen / all.blockSize),
    vocabSize: drafting.draftVocabSize ?? testVocabSize,
  };
  const maxNumBatchedTokens = drafting.maxNumBatchedTokens ?? 64;
  const sizes = { ...all, ...layout, maxNumBatchedTokens, maxLogprobs: 0 };
  const model = new OtherModel(sizes, all.blockSize, drafting.isWrong ?? (() => false));
  const drafter = new DraftModel(model, {
    maxTokens: 4,
    maxModelLen,
    vocabSize: testVocabSize,
    ...drafting,
    maxNumBatchedTokens,
    layout,
  });
  drafter.allocateKvCache(all.numBlocks);
  return { loop: checkedLoop(all, isAsync, matchers, drafter), model };
}

function drawRequest(handle: number, int: Int, stems: number[][], grammarRate = 0): EngineRequest {
  const stem = stems[int(0, stems.length - 1)];
  const own = Array.from({ length: int(0, 20) }, () => int(0, testVocabSize - 1));
  const anyToken = () => int(0, testVocabSize - 1);
  return engineRequest(handle, [...stem.slice(0, int(1, stem.length)), ...own], {
    priority: int(0, 9) === 0 ? int(-2, 2) : 0,
    cacheSalt: int(0, 3) === 0 ? 'other' : '',
    maxTokens: int(1, 40),
    minTokens: int(0, 3) === 0 ? int(0, 9) : 0,
    eosTokenIds: int(0, 1) === 0 ? [anyToken()] : [],
    stopTokenIds: int(0, 3) === 0 ? [anyToken()] : [],
    temperature: int(0, 1),
    seed: [int(0, 3), 0],
    repetitionPenalty: int(0, 2) === 0 ? 1.5 : 1,
    logitBias: int(0, 3) === 0 ? [[anyToken(), 2]] : [],
    badWords: int(0, 3) === 0 ? Array.from({ length: 9 }, () => [anyToken(), anyToken()]) : [],
    allowedTokenIds: int(0, 3) === 0 ? Array.from({ length: 30 }, anyToken) : null,
    numPromptLogprobs: int(0, 5) === 0 ? 0 : -1,
    grammar: int(1, 100) <= grammarRate ? fakeGrammar(`grammar ${int(0, 3)}`, testVocabSize) : null,
  });
}

/** What the request gets with the engine to itself, no cache and no drafts. */
function alone(request: EngineRequest): Generated {
  const loop = checkedLoop({
    enablePrefixCaching: false,
    maxModelLen,
    numBlocks: 200,
    maxNumBatchedTokens: 512,
  });
  loop.handle({ type: 'add', request: { ...request } });
  return runToEnd(loop).of(request.handle);
}

/** Leaves and operators, at random. */
function disturb(loop: EngineLoop, int: Int, numRequests: number, outputs: Outputs): void {
  if (int(0, 14) === 0 && numRequests > 0) loop.handle({ type: 'abort', handles: [int(1, numRequests)] });
  if (int(0, 29) > 0) return;
  const action = (['pause', 'sleep', 'resetPrefixCache'] as const)[int(0, 2)];
  loop.handle({ type: 'control', id: 1, action });
  outputs.add(loop.step());
  loop.handle({ type: 'control', id: 2, action: 'resume' });
  loop.handle({ type: 'control', id: 3, action: 'wakeUp' });
}

const acceptedIn = ({ steps }: Outputs) =>
  steps.reduce((sum, { stats }) => sum + stats.numAcceptedByPosition.reduce((a, b) => a + b, 0), 0);
const draftedIn = ({ steps }: Outputs) => steps.reduce((sum, { stats }) => sum + stats.numDraftTokens, 0);

function simulate(int: Int, errorRate: number, grammarRate: number) {
  const blockSize = [8, 16, 32][int(0, 2)];
  const stems = Array.from({ length: 4 }, () =>
    Array.from({ length: int(5, 70) }, () => int(0, testVocabSize - 1)),
  );
  const options = {
    blockSize,
    numBlocks: Math.ceil(maxModelLen / blockSize) + 1 + int(0, Math.ceil(400 / blockSize)),
    maxNumSeqs: int(1, 8),
    maxNumBatchedTokens: int(8, 128),
    longPrefillTokenThreshold: int(0, 2) === 0 ? int(1, 20) : 0,
    enablePrefixCaching: int(0, 3) > 0,
    maxDraftedRequests: int(0, 3) === 0 ? int(1, 4) : Number.POSITIVE_INFINITY,
  };
  const drafting = {
    maxTokens: int(1, 6),
    maxNumBatchedTokens: int(4, 80),
    maxModelLen: int(0, 3) === 0 ? int(20, maxModelLen) : maxModelLen,
    isWrong: () => int(1, 100) <= errorRate,
  };
  const matchers = new FakeMatchers(testVocabSize, () => (int(0, 3) === 0 ? int(1, 4) : 0));
  const { loop } = draftedLoop(options, drafting, int(0, 1) === 0, matchers);
  const requests: EngineRequest[] = [];
  const outputs = new Outputs();
  for (let step = 0; step < 200; step++) {
    for (let adds = int(0, 4) === 0 ? int(1, 4) : 0; adds > 0; adds--) {
      const request = drawRequest(requests.length + 1, int, stems, grammarRate);
      requests.push(request);
      loop.handle({ type: 'add', request });
    }
    disturb(loop, int, requests.length, outputs);
    outputs.add(loop.step());
  }
  runToEnd(loop, outputs);
  return { requests, outputs, pool: loop.pool };
}

describe('a draft model in 2,400 random steps', () => {
  // It guesses without masks, so it can only be right always where there are no grammars.
  it.each([
    [0, 0],
    [20, 30],
  ])('changes no token when it is wrong in %i of 100, with grammars in %i', (errorRate, grammarRate) => {
    const int = randomInts(seed + errorRate);
    const sums = { preempted: 0, hits: 0, drafted: 0, accepted: 0 };
    for (let run = 0; run < 6; run++) {
      const { requests, outputs, pool } = simulate(int, errorRate, grammarRate);
      expect(pool.numFree).toBe(pool.numUsable);
      for (const request of requests) {
        const found = outputs.of(request.handle);
        const wanted = alone(request);
        const about = `seed ${seed}, run ${run}, request ${request.handle}`;
        if (found.finish !== 'abort') expect(found, about).toMatchObject({ finish: wanted.finish });
        const count = found.finish === 'abort' ? found.tokenIds.length : wanted.tokenIds.length;
        expect(found.tokenIds, about).toEqual(wanted.tokenIds.slice(0, count));
      }
      for (const { stats } of outputs.steps) {
        sums.preempted += stats.numPreemptions;
        sums.hits += stats.prefixCacheHits;
      }
      sums.drafted += draftedIn(outputs);
      sums.accepted += acceptedIn(outputs);
    }
    // The draw must reach what it is meant to reach.
    expect(sums.preempted).toBeGreaterThan(10);
    expect(sums.hits).toBeGreaterThan(300);
    expect(sums.accepted).toBeGreaterThan(1000);
    // Who sees what the model sees, and samples as it does, is never wrong.
    if (errorRate === 0) expect(sums.accepted).toBe(sums.drafted);
    else expect(sums.drafted - sums.accepted).toBeGreaterThan(300);
  });
});

describe('a draft model', () => {
  const prompt = (length: number, first = 0) => Array.from({ length }, (_, i) => (first + i) % 37);

  it('computes a prefix that two requests share once', () => {
    const costOf = (enablePrefixCaching: boolean) => {
      const { loop, model } = draftedLoop({ enablePrefixCaching });
      loop.handle({ type: 'add', request: engineRequest(1, prompt(60), { maxTokens: 10 }) });
      runToEnd(loop);
      const before = model.numTokens;
      loop.handle({ type: 'add', request: engineRequest(2, prompt(60), { maxTokens: 10 }) });
      runToEnd(loop);
      return model.numTokens - before;
    };
    // 56 tokens fill whole blocks.
    expect(costOf(false) - costOf(true)).toBe(56);
  });

  it('guesses nothing while too many requests run, and goes on when they are few again', () => {
    const { loop } = draftedLoop({ maxDraftedRequests: 2 });
    const outputs = new Outputs();
    const requests = [30, 6, 50].map((maxTokens, i) => engineRequest(i + 1, prompt(9, i), { maxTokens }));
    for (const request of requests) loop.handle({ type: 'add', request: { ...request } });
    while (outputs.of(2).finish === null) outputs.add(loop.step());
    expect(draftedIn(outputs)).toBe(0);
    runToEnd(loop, outputs);
    expect(draftedIn(outputs)).toBeGreaterThan(40);
    expect(acceptedIn(outputs)).toBe(draftedIn(outputs));
    for (const request of requests) {
      expect(outputs.of(request.handle).tokenIds).toEqual(alone(request).tokenIds);
    }
  });

  it('goes on where it was when a request was preempted, and drafts for what has slept', () => {
    const { loop, model } = draftedLoop({});
    const outputs = new Outputs();
    loop.handle({ type: 'add', request: engineRequest(1, prompt(60), { maxTokens: 30 }) });
    for (let i = 0; i < 3; i++) outputs.add(loop.step());
    loop.handle({ type: 'control', id: 1, action: 'sleep' });
    outputs.add(loop.step());
    const before = model.numTokens;
    loop.handle({ type: 'control', id: 2, action: 'wakeUp' });
    runToEnd(loop, outputs);
    expect(outputs.of(1).tokenIds).toEqual(alone(engineRequest(1, prompt(60), { maxTokens: 30 })).tokenIds);
    // All again: what it held went with the cache.
    expect(model.numTokens - before).toBeGreaterThan(60);
    expect(acceptedIn(outputs)).toBe(draftedIn(outputs));
  });

  it('is asleep with the model when its memory cannot be had again', () => {
    const { loop, model } = draftedLoop({});
    const outputs = new Outputs();
    loop.handle({ type: 'add', request: engineRequest(1, prompt(20), { maxTokens: 30 }) });
    const ask = (action: 'sleep' | 'wakeUp') => {
      loop.handle({ type: 'control', id: 1, action });
      const output = loop.step();
      outputs.add(output);
      return output?.controls[0].problem;
    };
    outputs.add(loop.step());
    expect(ask('sleep')).toBeNull();
    model.isFull = true;
    expect(ask('wakeUp')).toBe('no memory');
    expect(loop.hasWork).toBe(false);
    model.isFull = false;
    expect(ask('wakeUp')).toBeNull();
    runToEnd(loop, outputs);
    expect(outputs.of(1).tokenIds.length).toBe(30);
  });

  it('drafts for others while it catches up with a long prompt', () => {
    const { loop, model } = draftedLoop({ maxNumBatchedTokens: 256 }, { maxNumBatchedTokens: 16 });
    const outputs = new Outputs();
    loop.handle({ type: 'add', request: engineRequest(1, prompt(5), { maxTokens: 150 }) });
    for (let i = 0; i < 2; i++) outputs.add(loop.step());
    loop.handle({ type: 'add', request: engineRequest(2, prompt(120, 7), { maxTokens: 30 }) });
    const tokensPerStep: number[][] = [];
    for (let i = 0; i < 24; i++) {
      const output = loop.step();
      outputs.add(output);
      const handles = [...(output?.handles ?? [])];
      tokensPerStep.push([1, 2].map((handle) => handles.filter((one) => one === handle).length));
    }
    expect(model.longestStep).toBeLessThanOrEqual(16);
    // The first gets four drafts accepted in every step, the second waits for no draft.
    expect(tokensPerStep.slice(0, 8).map(([first]) => first)).toEqual(Array(8).fill(5));
    expect(tokensPerStep.slice(1, 8).map(([, second]) => second)).toEqual(Array(7).fill(1));
    expect(tokensPerStep.some(([, second]) => second === 5)).toBe(true);
  });

  it('takes no block that another running request may need', () => {
    const never = { maxTokens: 16, isWrong: () => true };
    const { loop } = draftedLoop({ numBlocks: 7 }, never);
    loop.handle({ type: 'add', request: engineRequest(1, prompt(8), { maxTokens: 40 }) });
    loop.handle({ type: 'add', request: engineRequest(2, prompt(8, 9), { maxTokens: 12 }) });
    const outputs = runToEnd(loop);
    // Six blocks: three and three until the second request ends, then all for the first.
    expect(outputs.steps.reduce((sum, { stats }) => sum + stats.numPreemptions, 0)).toBe(0);
    expect(outputs.of(1).tokenIds.length).toBe(40);
    expect(draftedIn(outputs)).toBeGreaterThan(40);
    expect(acceptedIn(outputs)).toBe(0);
  });

  it('has no drafts beyond its own length', () => {
    const { loop } = draftedLoop({}, { maxModelLen: 40 });
    loop.handle({ type: 'add', request: engineRequest(1, prompt(20), { maxTokens: 100 }) });
    const outputs = runToEnd(loop);
    expect(outputs.of(1).tokenIds.length).toBe(100);
    const numDrafted = draftedIn(outputs);
    expect(numDrafted).toBeGreaterThan(10);
    expect(numDrafted).toBeLessThan(20);
  });

  it.each([40, 49, 60])('may have %i tokens where the model has 50', (draftVocabSize) => {
    const int = randomInts(seed + draftVocabSize);
    const { loop, model } = draftedLoop({}, { draftVocabSize });
    const stems = [prompt(40), Array.from({ length: 30 }, () => int(0, testVocabSize - 1))];
    const requests = Array.from({ length: 60 }, (_, i) => drawRequest(i + 1, int, stems));
    for (const request of requests) loop.handle({ type: 'add', request });
    const outputs = runToEnd(loop);
    for (const request of requests) {
      expect(outputs.of(request.handle).tokenIds).toEqual(alone(request).tokenIds);
    }
    expect(draftedIn(outputs)).toBeGreaterThan(20);
    expect(model.numTokens).toBeGreaterThan(100);
  });
});
