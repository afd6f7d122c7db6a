// The scheduler through the loop that drives it, with a fake model.

import { describe, expect, it } from 'vitest';
import { checkedLoop, engineRequest, Outputs, runToEnd } from './requests.ts';

const range = (count: number, first = 0) => Array.from({ length: count }, (_, i) => (first + i) % 50);

describe('chunks and budget', () => {
  it('computes a long prompt over several steps while others decode', () => {
    const loop = checkedLoop({ maxNumBatchedTokens: 16 });
    loop.handle({ type: 'add', request: engineRequest(1, [1, 2, 3], { maxTokens: 20 }) });
    const outputs = new Outputs();
    outputs.add(loop.step());
    loop.handle({ type: 'add', request: engineRequest(2, range(60), { maxTokens: 2 }) });
    runToEnd(loop, outputs);
    // 60 tokens beside one decode a step are 15 at a time: four steps, and the decode gets a token in each.
    const perStep = outputs.steps.slice(1, 5).map(({ handles }) => [...handles]);
    expect(perStep).toEqual([[1], [1], [1], [1, 2]]);
  });

  it('holds a long prompt to its threshold', () => {
    const loop = checkedLoop({ longPrefillTokenThreshold: 10 });
    loop.handle({ type: 'add', request: engineRequest(1, range(35), { maxTokens: 1 }) });
    expect(runToEnd(loop).steps).toHaveLength(4);
  });
});

describe('the prefix cache', () => {
  it.each([16, 17, 24])('never covers the whole prompt (%i tokens)', (length) => {
    const loop = checkedLoop();
    loop.handle({ type: 'add', request: engineRequest(1, range(length)) });
    const first = runToEnd(loop).of(1);
    loop.handle({ type: 'add', request: engineRequest(2, range(length)) });
    const second = runToEnd(loop).of(2);
    expect(first.numCachedTokens).toBe(0);
    expect(second.numCachedTokens).toBe(Math.floor((length - 1) / 8) * 8);
    expect(second.tokenIds).toEqual(first.tokenIds);
  });

  it('is shared within one step', () => {
    const loop = checkedLoop();
    loop.handle({ type: 'add', request: engineRequest(1, range(20)) });
    loop.handle({ type: 'add', request: engineRequest(2, range(20)) });
    const outputs = runToEnd(loop);
    expect(outputs.of(2).numCachedTokens).toBe(16);
    expect(outputs.of(2).tokenIds).toEqual(outputs.of(1).tokenIds);
  });

  it('keeps salts apart', () => {
    const loop = checkedLoop();
    loop.handle({ type: 'add', request: engineRequest(1, range(20), { cacheSalt: 'a' }) });
    loop.handle({ type: 'add', request: engineRequest(2, range(20), { cacheSalt: 'b' }) });
    expect(runToEnd(loop).of(2).numCachedTokens).toBe(0);
  });

  it('counts queries and hits once per request, not again after preemption', () => {
    const loop = checkedLoop({ numBlocks: 8, maxModelLen: 56 });
    loop.handle({ type: 'add', request: engineRequest(1, range(20), { maxTokens: 30 }) });
    loop.handle({ type: 'add', request: engineRequest(2, range(20, 7), { maxTokens: 30 }) });
    const { steps } = runToEnd(loop);
    const sum = (of: (stats: (typeof steps)[0]['stats']) => number) =>
      steps.reduce((n, { stats }) => n + of(stats), 0);
    expect(sum(({ numPreemptions }) => numPreemptions)).toBeGreaterThan(0);
    expect(sum(({ prefixCacheQueries }) => prefixCacheQueries)).toBe(40);
    expect(sum(({ numPromptTokens }) => numPromptTokens)).toBe(40);
    expect(sum(({ numGenerationTokens }) => numGenerationTokens)).toBe(60);
  });
});

describe('preemption', () => {
  it('takes the newest of the worst priority; the best always finishes first', () => {
    const loop = checkedLoop({ numBlocks: 8, maxModelLen: 56 });
    loop.handle({ type: 'add', request: engineRequest(1, range(10), { maxTokens: 40, priority: 5 }) });
    loop.handle({ type: 'add', request: engineRequest(2, range(10, 20), { maxTokens: 40 }) });
    const outputs = runToEnd(loop);
    const end = (handle: number) =>
      outputs.steps.findIndex(({ finished }) => finished.some((f) => f.handle === handle));
    expect(end(2)).toBeLessThan(end(1));
    expect(outputs.steps[end(1)].finished[0].numPreemptions).toBeGreaterThan(0);
    expect(outputs.steps[end(2)].finished[0].numPreemptions).toBe(0);
  });
});

describe('the end of a request', () => {
  it('is its end-of-sequence token, its stop token, or its length, in this order', () => {
    const free = runToEnd(withRequest({ maxTokens: 8 })).of(1).tokenIds;
    const eos = runToEnd(withRequest({ maxTokens: 8, eosTokenIds: [free[3]], stopTokenIds: [free[3]] }));
    expect(lastFinish(eos)).toMatchObject({ reason: 'stop', stopReason: null });
    const stop = runToEnd(withRequest({ maxTokens: 8, stopTokenIds: [free[3]] }));
    expect(lastFinish(stop)).toMatchObject({ reason: 'stop', stopReason: free[3] });
    // At the limit it still counts as a stop.
    const both = runToEnd(withRequest({ maxTokens: free.indexOf(free[3]) + 1, stopTokenIds: [free[3]] }));
    expect(lastFinish(both)).toMatchObject({ reason: 'stop' });
    expect(lastFinish(runToEnd(withRequest({ maxTokens: 8 })))).toMatchObject({
      reason: 'length',
      numOutputTokens: 8,
    });
  });

  it('is the model’s length when that comes first', () => {
    const loop = checkedLoop({ maxModelLen: 16 });
    loop.handle({ type: 'add', request: engineRequest(1, range(10), { maxTokens: 100 }) });
    expect(lastFinish(runToEnd(loop))).toMatchObject({ reason: 'length', numOutputTokens: 6 });
  });

  it('comes once when aborted, waiting or running, and twice never', () => {
    const loop = checkedLoop({ maxNumSeqs: 1 });
    loop.handle({ type: 'add', request: engineRequest(1, range(10), { maxTokens: 50 }) });
    loop.handle({ type: 'add', request: engineRequest(2, range(10), { maxTokens: 50 }) });
    const outputs = new Outputs();
    outputs.add(loop.step());
    loop.handle({ type: 'abort', handles: [1, 2, 1, 99] });
    outputs.add(loop.step());
    expect(outputs.of(1).finish).toBe('abort');
    expect(outputs.of(2).finish).toBe('abort');
    expect(loop.hasWork).toBe(false);
    expect(loop.pool.numFree).toBe(loop.pool.numUsable);
  });
});

function withRequest(overrides: Parameters<typeof engineRequest>[2]) {
  const loop = checkedLoop();
  loop.handle({ type: 'add', request: engineRequest(1, range(12), overrides) });
  return loop;
}

function lastFinish(outputs: Outputs) {
  return outputs.steps.at(-1)?.finished[0];
}
