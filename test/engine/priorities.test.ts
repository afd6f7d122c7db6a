// Who goes first: the scheduler alone, by its plans. A seeded simulation holds what a priority promises after
// every step; single cases show what giving way costs and when nobody does.

import { describe, expect, it } from 'vitest';
import { AdapterSlots } from '../../engine/adapter-slots.ts';
import { BlockPool } from '../../engine/block-pool.ts';
import { KvCache } from '../../engine/kv-cache.ts';
import type { EngineRequest } from '../../engine/messages.ts';
import { compareRequests, Request } from '../../engine/request.ts';
import { Scheduler, type StepPlan } from '../../engine/scheduler.ts';
import { randomInts } from './random.ts';
import { engineRequest, testLimits } from './requests.ts';

const seed = Number(process.env.QUIRE_TEST_SEED ?? 20_260_101);
const adapterIds = [1, 2, 3];
const line = 2 ** 31 - 1;

/** A scheduler with what it decides over, and every request it was given. */
class Core {
  readonly limits: typeof testLimits;
  readonly pool: BlockPool;
  readonly kvCache: KvCache;
  readonly scheduler: Scheduler;
  readonly requests: Request[] = [];
  #inFlight: Request[] = [];

  constructor(overrides: Partial<typeof testLimits> = {}) {
    this.limits = { ...testLimits, ...overrides };
    this.pool = new BlockPool(this.limits.numBlocks);
    this.kvCache = new KvCache(this.pool, this.limits.blockSize, this.limits.enablePrefixCaching);
    const adapters = new AdapterSlots({ loadAdapter() {}, unloadAdapter() {} }, this.limits.maxLoras);
    for (const id of adapterIds) adapters.add(id, []);
    this.scheduler = new Scheduler(this.kvCache, adapters, this.limits);
  }

  add(numPromptTokens: number, overrides: Partial<EngineRequest> = {}): Request {
    const handle = this.requests.length + 1;
    // No prompt begins like another.
    const prompt = Array.from({ length: numPromptTokens }, (_, i) => 50 * handle + (i % 50));
    const request = new Request(engineRequest(handle, prompt, { maxTokens: 100, ...overrides }));
    this.requests.push(request);
    this.scheduler.add(request);
    return request;
  }

  step(): StepPlan {
    const plan = this.scheduler.schedule(0);
    this.compute(plan);
    return plan;
  }

  /** Its tokens are known now, or, behind, when the next step has been planned. */
  compute(plan: StepPlan, isBehind = false): void {
    const sampled = plan.scheduled.filter(({ samples }) => samples).map(({ request }) => request);
    const known = isBehind ? this.#inFlight : sampled;
    this.#inFlight = isBehind ? sampled : [];
    for (const request of known) {
      if (request.finishReason === null) this.scheduler.appendToken(request, 7);
    }
  }

  get waiting(): Request[] {
    return this.requests
      .filter(({ finishReason, row }) => finishReason === null && row === null)
      .sort(compareRequests);
  }
}

const handlesOf = (requests: readonly Request[]) => requests.map(({ spec }) => spec.handle);
const tokensOf = ({ scheduled }: StepPlan, wanted: Request) =>
  scheduled.find(({ request }) => request === wanted)?.numTokens ?? 0;

const isWorse = ({ spec }: Request, than: Request | undefined) =>
  than !== undefined && spec.priority > than.spec.priority;

/** Whether `first` could run beside `kept` alone: counted anew, from nothing but what these hold. */
function couldRun({ limits, pool, kvCache }: Core, first: Request, kept: readonly Request[]): boolean {
  const held = new Set(kept.flatMap(({ blocks }) => blocks));
  const numShared = kvCache.findPrefix(first).filter((block) => held.has(block)).length;
  const numNew = Math.ceil(first.numTokens / limits.blockSize) - numShared;
  const slots = new Set(kept.flatMap(({ spec }) => spec.adapterId ?? []));
  const { adapterId } = first.spec;
  const hasSlot = adapterId === null || slots.has(adapterId) || slots.size < limits.maxLoras;
  return hasSlot && kept.length < limits.maxNumSeqs && numNew <= pool.numUsable - held.size;
}

describe('priorities in a simulation', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])('never run the worse while the better could, draw %i', (draw) => {
    const int = randomInts(seed + draw);
    const isBehind = draw % 2 === 0;
    let numPreemptions = 0;
    let numBlocked = 0;
    for (let round = 0; round < 12; round++) {
      const core = new Core({
        numBlocks: 22 + int(0, 40),
        maxNumSeqs: int(1, 8),
        maxNumBatchedTokens: int(8, 64),
        maxLoras: int(1, 2),
        enablePrefixCaching: int(0, 3) > 0,
      });
      const hasAdapters = int(0, 1) === 1;
      const step = () => {
        const plan = core.scheduler.schedule(0);
        numPreemptions += plan.preempted.length;
        for (const victim of plan.preempted) expect(plan.admitted.includes(victim)).toBe(false);
        const first = core.waiting.at(0);
        if (plan.scheduled.some(({ request }) => isWorse(request, first))) {
          numBlocked++;
          const kept = core.scheduler.running.filter((request) => !isWorse(request, first));
          expect(couldRun(core, first as Request, kept), `seed ${seed}, round ${round}`).toBe(false);
        }
        core.compute(plan, isBehind);
      };
      for (let steps = 0; steps < 150; steps++) {
        for (let adds = int(0, 3) === 0 ? int(1, 3) : 0; adds > 0; adds--) {
          core.add(int(1, 90), {
            priority: int(0, 2) === 0 ? line : int(-1, 1),
            maxTokens: int(1, 30),
            adapterId: hasAdapters && int(0, 1) === 1 ? adapterIds[int(0, 2)] : null,
          });
        }
        if (int(0, 9) === 0 && core.requests.length > 0) {
          core.scheduler.finish(core.requests[int(0, core.requests.length - 1)], 'abort');
        }
        step();
      }
      // Once nobody else comes, everybody gets to the end.
      for (let steps = 0; core.requests.some(({ finishReason }) => finishReason === null); steps++) {
        expect(steps).toBeLessThan(50_000);
        step();
      }
      expect(core.pool.numFree).toBe(core.pool.numUsable);
    }
    expect(numPreemptions).toBeGreaterThan(100);
    expect(numBlocked).toBeGreaterThan(0);
  });
});

describe('a request that waits', () => {
  it('takes the row of the newest of worse priority, and of nobody of its own', () => {
    const core = new Core({ maxNumSeqs: 3 });
    const lines = [core.add(10, { priority: line }), core.add(10, { priority: line }), core.add(10)];
    core.step();
    core.add(10);
    const plan = core.step();
    expect(handlesOf(plan.preempted)).toEqual([lines[1].spec.handle]);
    expect(handlesOf(plan.admitted)).toEqual([4]);
    expect(handlesOf(core.scheduler.running)).toEqual([3, 4, 1]);
    core.add(10, { priority: line });
    core.add(10);
    expect(handlesOf(core.step().preempted)).toEqual([1]);
    core.add(10);
    expect(handlesOf(core.step().preempted)).toEqual([]);
    expect(handlesOf(core.waiting)).toEqual([7, 1, 2, 5]);
  });

  it('takes blocks only if that makes room for all of it', () => {
    // 20 blocks of 8 tokens.
    const core = new Core({ numBlocks: 21, maxNumBatchedTokens: 128 });
    const better = core.add(60);
    const lines = [core.add(20, { priority: line }), core.add(20, { priority: line })];
    core.step();
    core.add(104, { priority: 1 });
    for (let steps = 0; steps < 5; steps++) {
      const plan = core.step();
      expect(handlesOf(plan.preempted)).toEqual([]);
      expect(handlesOf(plan.scheduled.map(({ request }) => request))).toEqual([1, 2, 3]);
    }
    core.scheduler.finish(better, 'abort');
    const plan = core.step();
    // One of the two is enough.
    expect(handlesOf(plan.preempted)).toEqual([lines[1].spec.handle]);
    expect(handlesOf(plan.admitted)).toEqual([4]);
  });

  it('gets the budget before running prompts of worse priority', () => {
    const core = new Core({ maxNumBatchedTokens: 32, numBlocks: 100 });
    const lines = [core.add(100, { priority: line }), core.add(100, { priority: line })];
    core.step();
    const first = core.add(40);
    const plan = core.step();
    expect(handlesOf(plan.preempted)).toEqual([]);
    expect([first, ...lines].map((request) => tokensOf(plan, request))).toEqual([32, 0, 0]);
    expect([first, ...lines].map((request) => tokensOf(core.step(), request))[0]).toBe(8);
  });

  it('costs who gave way no more than its last block', () => {
    const core = new Core({ maxNumSeqs: 1 });
    const victim = core.add(30, { priority: line });
    for (let steps = 0; steps < 5; steps++) core.step();
    expect(victim.numTokens).toBe(35);
    const guest = core.add(10, { maxTokens: 2 });
    while (guest.finishReason === null) core.step();
    const plan = core.step();
    expect(handlesOf(plan.admitted)).toEqual([1]);
    expect(tokensOf(plan, victim)).toBe(35 - 32);
  });

  it('takes an adapter slot from those that hold one', () => {
    const core = new Core({ maxLoras: 1 });
    core.add(10, { priority: line, adapterId: 1 });
    const without = core.add(10, { priority: line });
    core.step();
    core.add(10, { adapterId: 2 });
    const plan = core.step();
    expect(handlesOf(plan.preempted)).toEqual([1]);
    expect(handlesOf(plan.admitted)).toEqual([3]);
    expect(tokensOf(plan, without)).toBe(1);
    // Of its own priority it takes none.
    core.add(10, { adapterId: 3 });
    expect(handlesOf(core.step().preempted)).toEqual([]);
  });
});
