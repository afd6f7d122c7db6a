// Random lives of adapters in few slots: who runs is in a slot of its own, and nobody is forgotten too early.

import { describe, expect, it } from 'vitest';
import { AdapterSlots } from '../../engine/adapter-slots.ts';
import { EngineLoop } from '../../engine/engine-loop.ts';
import type { AdapterTensor } from '../../engine/lora-adapter.ts';
import { CheckedModel } from './checked-model.ts';
import { FakeMatchers } from './fake-matchers.ts';
import { randomInts } from './random.ts';
import { engineRequest, runToEnd, testLimits, testVocabSize } from './requests.ts';

/** Tensors that tell whose they are. */
const tensorsOf = (id: number): AdapterTensor[] => [
  { slot: 'q_proj', layer: 0, rank: id, a: new Float32Array(1), b: new Float32Array(1) },
];

class Slots {
  /** Adapter in each slot. */
  readonly held = new Map<number, number>();
  loadAdapter = (slot: number, tensors: readonly AdapterTensor[]) =>
    void this.held.set(slot, tensors[0].rank);
  unloadAdapter = (slot: number) => void this.held.delete(slot);
}

describe('adapter slots', () => {
  it.each([1, 2, 3, 4, 5])('seed %i', (seed) => {
    const below = randomInts(seed);
    const model = new Slots();
    const numSlots = below(1, 3);
    const slots = new AdapterSlots(model, numSlots);
    const running: Array<{ id: number; slot: number }> = [];
    const known = new Set<number>();
    for (let step = 0; step < 3000; step++) {
      const id = below(1, 6);
      if (!known.has(id)) {
        slots.add(id, tensorsOf(id));
        known.add(id);
      }
      slots.open(id);
      if (slots.canUse(id)) running.push({ id, slot: slots.use(id) });
      else slots.close(id);
      const distinct = new Set(running.map((one) => one.id));
      expect(distinct.size).toBeLessThanOrEqual(numSlots);
      for (const one of running) expect(model.held.get(one.slot)).toBe(one.id);
      while (running.length > 0 && below(0, 2) > 0) {
        const [ended] = running.splice(below(0, running.length - 1), 1);
        slots.release(ended.id);
        slots.close(ended.id);
      }
    }
  });

  it('forgets an unloaded adapter with its last request, and frees the slot', () => {
    const model = new Slots();
    const slots = new AdapterSlots(model, 1);
    slots.add(1, tensorsOf(1));
    slots.open(1);
    slots.use(1);
    slots.remove(1);
    expect(model.held.size).toBe(1);
    slots.release(1);
    slots.close(1);
    expect(model.held.size).toBe(0);
    expect(() => slots.canUse(1)).toThrow('adapter 1 does not exist');
  });
});

describe('the loop with adapters', () => {
  it('serves more adapters than slots to the end, whatever is unloaded or aborted on the way', () => {
    const below = randomInts(9);
    const options = { ...testLimits, maxLoras: 2, numBlocks: 30 };
    const model = new CheckedModel({ ...options, maxBlocksPerSeq: 16 }, options.blockSize, false);
    model.allocateKvCache(options.numBlocks);
    let now = 0;
    const loop = new EngineLoop(model, options, new FakeMatchers(testVocabSize), () => now++);
    for (let id = 1; id <= 5; id++) loop.handle({ type: 'addAdapter', id, tensors: tensorsOf(id) });
    for (let handle = 1; handle <= 60; handle++) {
      const prompt = Array.from({ length: below(1, 40) }, () => below(0, testVocabSize - 1));
      const adapterId = below(0, 5) || null;
      loop.handle({
        type: 'add',
        request: engineRequest(handle, prompt, { adapterId, maxTokens: below(1, 20) }),
      });
    }
    for (let step = 0; step < 20; step++) loop.step();
    loop.handle({ type: 'abort', handles: [10, 20, 30, 40] });
    for (let id = 1; id <= 3; id++) loop.handle({ type: 'removeAdapter', id });
    runToEnd(loop);
    expect(loop.pool.numFree).toBe(loop.pool.numUsable);
  });
});
