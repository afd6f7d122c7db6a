// Which requests get how many tokens in the next step.
//
// There are no phases. Each request has numTokens and numComputedTokens, and a step gives it some of the
// difference: that covers prefill in chunks, cached prefixes, decoding, and resumption after preemption
// alike. A token that a step under way samples counts already, though nobody knows it yet: the step after
// it can be planned meanwhile. What a grammar allows next may become known while the step computes
// (isMaskReady); where it does not, the loop takes the newest token back (Request.postpone).
//
// Order is compareRequests' everywhere: the best running request is served first and is never preempted for a
// worse one, so it always advances. Of one priority, those that run go before those that wait. A request that
// waits goes before running ones of worse priority, and takes their place if it needs that; who gave way is
// not admitted in the same step, or the two would fight over the blocks.

import type { AdapterSlots } from './adapter-slots.ts';
import type { KvCache } from './kv-cache.ts';
import type { FinishReason } from './messages.ts';
import { insertInOrder, type Request } from './request.ts';

export interface SchedulerLimits {
  maxNumSeqs: number;
  maxNumBatchedTokens: number;
  maxModelLen: number;
  /** Tokens per KV block. */
  blockSize: number;
  /** Tokens one request may get in a step; 0 is no limit but the budget. */
  longPrefillTokenThreshold: number;
}

export interface ScheduledRequest {
  request: Request;
  /** First token of the chunk. */
  start: number;
  /** Drafted tokens included. */
  numTokens: number;
  /** Of those, drafts: the last ones. Each is verified by a row of its own. */
  numDraftTokens: number;
  /** The chunk reaches the newest token, so the step samples the next one. */
  samples: boolean;
}

export interface StepPlan {
  /** Single tokens (decodes) first, then longer chunks. */
  scheduled: ScheduledRequest[];
  numTokens: number;
  /** Masks that drafts may still take. */
  numSpareMasks: number;
  preempted: Request[];
  /** Requests admitted in this step, resumed ones included. */
  admitted: Request[];
  /** Tokens looked up in the prefix cache, and found, by requests admitted for the first time. */
  prefixCacheQueries: number;
  prefixCacheHits: number;
}

export function emptyPlan(): StepPlan {
  return {
    scheduled: [],
    numTokens: 0,
    numSpareMasks: 0,
    preempted: [],
    admitted: [],
    prefixCacheQueries: 0,
    prefixCacheHits: 0,
  };
}

export class Scheduler {
  readonly #kvCache: KvCache;
  readonly #adapters: AdapterSlots;
  readonly #limits: SchedulerLimits;
  readonly #waiting: Request[] = [];
  readonly #running: Request[] = [];
  readonly #freeRows: number[];

  constructor(kvCache: KvCache, adapters: AdapterSlots, limits: SchedulerLimits) {
    this.#kvCache = kvCache;
    this.#adapters = adapters;
    this.#limits = limits;
    this.#freeRows = Array.from({ length: limits.maxNumSeqs }, (_, i) => limits.maxNumSeqs - 1 - i);
  }

  get numRunning(): number {
    return this.#running.length;
  }

  get numWaiting(): number {
    return this.#waiting.length;
  }

  /** In the order in which they are served. */
  get running(): readonly Request[] {
    return this.#running;
  }

  /** The batch has a mask for each sequence that may run: those that none can need are for drafts. */
  get numSpareMasks(): number {
    return Math.max(0, this.#limits.maxNumSeqs - this.#running.length - this.#waiting.length);
  }

  add(request: Request): void {
    insertInOrder(this.#waiting, request);
  }

  /** Ends a request wherever it is; its blocks are free at once. Does nothing to one that has ended. */
  finish(request: Request, reason: FinishReason, stopReason: number | string | null = null): void {
    if (request.finishReason !== null) return;
    request.finishReason = reason;
    request.stopReason = stopReason;
    const list = request.row === null ? this.#waiting : this.#running;
    list.splice(list.indexOf(request), 1);
    this.#leaveRow(request);
    this.#kvCache.free(request);
  }

  /** Plans a step and counts its tokens as computed. Times are the caller's. */
  schedule(nowMs: number): StepPlan {
    const plan = { ...emptyPlan(), numSpareMasks: this.numSpareMasks };
    this.#scheduleInOrder(plan, nowMs);
    this.#check(plan);
    const decodes = plan.scheduled.filter(({ numTokens }) => numTokens === 1);
    const chunks = plan.scheduled.filter(({ numTokens }) => numTokens > 1);
    plan.scheduled = [...decodes, ...chunks];
    return plan;
  }

  /**
   * Takes a sampled token and ends the request when it is the last: at its end-of-sequence tokens, its stop
   * tokens (unless fewer than minTokens are out), or its length.
   */
  appendToken(request: Request, tokenId: number): void {
    request.append(tokenId);
    const { spec } = request;
    this.#kvCache.cacheFullBlocks(request);
    const mayStop = request.numOutputTokens >= spec.minTokens;
    const isFull = request.numOutputTokens >= spec.maxTokens || request.numTokens >= this.#limits.maxModelLen;
    if (mayStop && spec.eosTokenIds.includes(tokenId)) this.finish(request, 'stop');
    else if (mayStop && spec.stopTokenIds.includes(tokenId)) this.finish(request, 'stop', tokenId);
    else if (isFull) this.finish(request, 'length');
  }

  /**
   * Gives a running request blocks for a draft of so many tokens, and says for how many it has room. A block
   * for each running request stays free, so that a draft preempts none.
   */
  reserveForDraft(request: Request, numTokens: number): number {
    const wanted = Math.min(numTokens, this.#limits.maxModelLen - request.numTokens - 1);
    if (wanted <= 0) return 0;
    const numNew = request.numMissingTokens + wanted;
    if (this.#kvCache.extend(request, numNew, this.#running.length)) return wanted;
    return Math.max(0, request.blocks.length * this.#limits.blockSize - request.numTokens);
  }

  #scheduleInOrder(plan: StepPlan, nowMs: number): void {
    // Who waits in front can have no place in this step. Nobody else who waits goes past it.
    let isBlocked = false;
    for (let i = 0; plan.numTokens < this.#limits.maxNumBatchedTokens; ) {
      if (!isBlocked && this.#isWaitingNext(i, plan)) {
        isBlocked = !this.#admitNext(plan, nowMs);
        // It stands before the one that would have been next.
        if (!isBlocked) i++;
      } else {
        if (i >= this.#running.length) return;
        this.#serve(this.#running[i], this.#running.length - i - 1, plan);
        i++;
      }
    }
  }

  /** The first request that waits goes before the running one at `index`, and those behind it. */
  #isWaitingNext(index: number, plan: StepPlan): boolean {
    if (this.#waiting.length === 0) return false;
    if (index >= this.#running.length) return plan.preempted.length === 0;
    return this.#waiting[0].spec.priority < this.#running[index].spec.priority;
  }

  #serve(request: Request, numBehind: number, plan: StepPlan): void {
    const mustWait = request.waitsForPending || request.numComputableTokens === 0;
    if (this.#endsWithPending(request) || mustWait) return;
    const numTokens = this.#chunkOf(request, plan);
    const numDraftTokens = this.#draftOf(request, numTokens, plan, numBehind);
    if (numDraftTokens > 0 && this.#kvCache.extend(request, numTokens + numDraftTokens)) {
      this.#take(request, numTokens, numDraftTokens, plan);
      return;
    }
    // The worst running request gives way until there is room; that may be this one itself.
    while (request.row !== null && !this.#kvCache.extend(request, numTokens)) {
      plan.preempted.push(this.#preempt(this.#running[this.#running.length - 1]));
    }
    if (request.row !== null) this.#take(request, numTokens, 0, plan);
  }

  /** A guess takes no token of the budget that one of those behind it could use. */
  #draftOf(request: Request, numTokens: number, plan: StepPlan, numBehind: number): number {
    if (request.numDraftTokens === 0 || numTokens !== request.numMissingTokens) return 0;
    const numLeft = this.#limits.maxNumBatchedTokens - plan.numTokens - numTokens - numBehind;
    const numMasks = request.spec.grammar === null ? numLeft : plan.numSpareMasks;
    return Math.max(0, Math.min(request.numDraftTokens, numLeft, numMasks));
  }

  /**
   * Admits the first request that waits, if there is room for it, or would be without running requests of
   * worse priority: then these give way, the worst first, until there is.
   */
  #admitNext(plan: StepPlan, nowMs: number): boolean {
    const request = this.#waiting[0];
    const worse = this.#running.filter(({ spec }) => spec.priority > request.spec.priority);
    if (request.waitsForPending || this.#running.length - worse.length >= this.#limits.maxNumSeqs)
      return false;
    const prefix = this.#kvCache.findPrefix(request);
    const hasRoom = () => this.#hasRoom(request, prefix, []);
    if (!hasRoom() && !this.#hasRoom(request, prefix, worse)) return false;
    while (!hasRoom()) plan.preempted.push(this.#preempt(this.#worstInTheWayOf(request)));
    this.#waiting.shift();
    this.#start(request, prefix, plan, nowMs);
    return true;
  }

  /** A row, an adapter slot and blocks, if the requests of `without` did not run. */
  #hasRoom(request: Request, prefix: readonly number[], without: readonly Request[]): boolean {
    const { adapterId } = request.spec;
    return (
      this.#running.length - without.length < this.#limits.maxNumSeqs &&
      (adapterId === null || this.#adapters.canUse(adapterId, without)) &&
      this.#kvCache.hasRoom(request, prefix, without)
    );
  }

  /** Where an adapter slot is what is missing, a request that has none would give way for nothing. */
  #worstInTheWayOf({ spec: { adapterId } }: Request): Request {
    const needsSlot = adapterId !== null && !this.#adapters.canUse(adapterId);
    return this.#running.findLast(({ spec }) => !needsSlot || spec.adapterId !== null) as Request;
  }

  #start(request: Request, prefix: readonly number[], plan: StepPlan, nowMs: number): void {
    const { adapterId } = request.spec;
    this.#kvCache.admit(request, prefix);
    insertInOrder(this.#running, request);
    request.row = this.#freeRows.pop() ?? null;
    if (adapterId !== null) request.adapterSlot = this.#adapters.use(adapterId);
    request.numComputedTokens = prefix.length * this.#limits.blockSize;
    if (request.numCachedTokens === null) {
      request.numCachedTokens = request.numComputedTokens;
      plan.prefixCacheQueries += request.numTokens;
      plan.prefixCacheHits += request.numComputedTokens;
    }
    request.scheduledMs ??= nowMs;
    plan.admitted.push(request);
    const numTokens = this.#chunkOf(request, plan);
    if (numTokens > 0) this.#take(request, numTokens, 0, plan);
  }

  /** Its last token is being computed: there is nothing to plan after it. */
  #endsWithPending(request: Request): boolean {
    const { numPendingTokens, numTokens, numPlannedOutputTokens, spec } = request;
    const isFull =
      numPlannedOutputTokens >= spec.maxTokens || numTokens + numPendingTokens >= this.#limits.maxModelLen;
    return numPendingTokens > 0 && isFull;
  }

  #chunkOf(request: Request, plan: StepPlan): number {
    const limit = this.#limits.longPrefillTokenThreshold || Number.POSITIVE_INFINITY;
    return Math.min(request.numComputableTokens, this.#limits.maxNumBatchedTokens - plan.numTokens, limit);
  }

  /** Known tokens, and drafts after them: no block with one of those is findable yet. */
  #take(request: Request, numKnown: number, numDraftTokens: number, plan: StepPlan): void {
    const start = request.numComputedTokens;
    const numTokens = numKnown + numDraftTokens;
    request.numDraftTokens = numDraftTokens;
    request.numPendingTokens += numDraftTokens;
    request.numComputedTokens += numTokens;
    this.#kvCache.cacheFullBlocks(request);
    plan.numTokens += numTokens;
    if (request.spec.grammar !== null) plan.numSpareMasks -= numDraftTokens;
    const samples = request.numMissingTokens === 0;
    if (samples) request.numPendingTokens++;
    plan.scheduled.push({ request, start, numTokens, numDraftTokens, samples });
  }

  /** Everything that runs gives its blocks back and waits. Nothing of it may be under way. */
  preemptAll(): Request[] {
    const preempted: Request[] = [];
    while (this.#running.length > 0) preempted.push(this.#preempt(this.#running[this.#running.length - 1]));
    return preempted;
  }

  /** Its full blocks stay findable until they are taken, so that little of it is computed again. */
  #preempt(request: Request): Request {
    this.#running.splice(this.#running.lastIndexOf(request), 1);
    this.#leaveRow(request);
    this.#kvCache.free(request);
    request.numComputedTokens = 0;
    request.numPreemptions++;
    request.draft([]);
    request.forgetMask();
    insertInOrder(this.#waiting, request);
    return request;
  }

  #leaveRow(request: Request): void {
    if (request.row === null) return;
    this.#freeRows.push(request.row);
    if (request.spec.adapterId !== null) this.#adapters.release(request.spec.adapterId);
    request.row = null;
    request.adapterSlot = -1;
    request.numBlocksInRow = 0;
  }

  #check(plan: StepPlan): void {
    const total = plan.scheduled.reduce((sum, { numTokens }) => sum + numTokens, 0);
    if (
      total !== plan.numTokens ||
      total > this.#limits.maxNumBatchedTokens ||
      this.#running.length > this.#limits.maxNumSeqs ||
      plan.scheduled.some(({ numTokens, request }) => numTokens < 1 || request.row === null)
    ) {
      throw new Error(
        `a step of ${total} tokens (counted ${plan.numTokens}, budget ${this.#limits.maxNumBatchedTokens}) over ` +
          `${this.#running.length} running requests (at most ${this.#limits.maxNumSeqs}) breaks the plan's invariants`,
      );
    }
  }
}
