// The step loop without its thread: messages in, steps through the model, messages out. Everything it needs
// is passed in, so that tests run it with a fake model and a fake clock.

import { AdapterSlots } from './adapter-slots.ts';
import { type BatchLayout, fillRows, fillTokens, type StepRows } from './batch.ts';
import { BlockPool } from './block-pool.ts';
import { withToken } from './grammar/grammar.ts';
import type { MaskNews, MatcherApi } from './grammar/matchers.ts';
import { KvCache } from './kv-cache.ts';
import type {
  ControlAction,
  ControlResult,
  FinishedRequest,
  FinishReason,
  StepOutput,
  ToEngine,
  TokenLogprobs,
} from './messages.ts';
import type { NativeModel } from './native.ts';
import { Request } from './request.ts';
import {
  emptyPlan,
  type ScheduledRequest,
  Scheduler,
  type SchedulerLimits,
  type StepPlan,
} from './scheduler.ts';
import { draftLimit } from './speculation/draft-limit.ts';
import type { Drafter, WantedDraft } from './speculation/drafter.ts';
import { emptyOutput, readLogprobs } from './step-output.ts';
import { emptyStats, type StepStats } from './step-stats.ts';

export interface EngineLoopOptions extends SchedulerLimits {
  /** The null block included. */
  numBlocks: number;
  enablePrefixCaching: boolean;
  maxLogprobs: number;
  /** Adapter slots of the model. */
  maxLoras: number;
  vocabSize: number;
  hiddenSize: number;
  /** While more requests than this run, nothing is guessed. */
  maxDraftedRequests: number;
}

/** A step waits for masks for this part of the time that the one before took, and for 2 ms at least. */
const maskPatience = 0.25;
const minMaskPatienceMs = 2;

/** A step whose layers have been begun. */
interface BegunStep {
  plan: StepPlan;
  /** Null while masks are missing that they need. */
  rows: StepRows | null;
}

function awaitsMask({ request, samples }: ScheduledRequest): boolean {
  return samples && !request.isMaskReady && request.finishReason === null;
}

export class EngineLoop {
  readonly #model: NativeModel;
  readonly #nowMs: () => number;
  readonly #layout: BatchLayout;
  readonly #maxLogprobs: number;
  readonly #hiddenSize: number;
  readonly #pool: BlockPool;
  readonly #kvCache: KvCache;
  readonly #adapters: AdapterSlots;
  readonly #scheduler: Scheduler;
  readonly #matchers: MatcherApi;
  readonly #drafter: Drafter | null;
  readonly #maxDraftedRequests: number;
  /** A step is planned while the one before runs. A draft needs the newest token, so then none is. */
  readonly #runsAhead: boolean;
  readonly #requests = new Map<number, Request>();
  /** Ended since the last output. */
  #finished: FinishedRequest[] = [];
  /** The step that is launched and not collected. */
  #inFlight: BegunStep | null = null;
  /** Asked for since the last output. */
  #controls: Array<{ id: number; action: ControlAction }> = [];
  #isPaused = false;
  /** The KV cache has no memory. */
  #isAsleep = false;
  #lastStepMs = 0;

  constructor(
    model: NativeModel,
    options: EngineLoopOptions,
    matchers: MatcherApi,
    nowMs: () => number,
    drafter: Drafter | null = null,
  ) {
    this.#model = model;
    this.#drafter = drafter;
    this.#maxDraftedRequests = options.maxDraftedRequests;
    this.#runsAhead = model.isAsync && drafter === null;
    this.#nowMs = nowMs;
    this.#matchers = matchers;
    this.#maxLogprobs = options.maxLogprobs;
    this.#hiddenSize = options.hiddenSize;
    this.#layout = {
      blockSize: options.blockSize,
      maxBlocksPerSeq: Math.ceil(options.maxModelLen / options.blockSize),
      vocabSize: options.vocabSize,
    };
    this.#pool = new BlockPool(options.numBlocks);
    this.#kvCache = new KvCache(this.#pool, options.blockSize, options.enablePrefixCaching);
    this.#adapters = new AdapterSlots(model, options.maxLoras);
    this.#scheduler = new Scheduler(this.#kvCache, this.#adapters, options);
  }

  /** Something to compute, or to report. */
  get hasWork(): boolean {
    const hasNews = this.#finished.length > 0 || this.#inFlight !== null || this.#controls.length > 0;
    return hasNews || (this.#requests.size > 0 && this.#mayPlan);
  }

  /** What an operator asks for happens when nothing is under way: the loop plans no step before that. */
  get #mayPlan(): boolean {
    return !this.#isPaused && !this.#isAsleep && this.#controls.length === 0;
  }

  get pool(): BlockPool {
    return this.#pool;
  }

  handle(message: Exclude<ToEngine, { type: 'stop' }>): void {
    switch (message.type) {
      case 'add': {
        const request = new Request(message.request);
        this.#requests.set(message.request.handle, request);
        if (request.spec.adapterId !== null) this.#adapters.open(request.spec.adapterId);
        this.#scheduler.add(request);
        return;
      }
      case 'abort':
        for (const handle of message.handles) {
          const request = this.#requests.get(handle);
          // One that ended on its own in the meantime has been reported.
          if (request === undefined) continue;
          this.#finish(request, 'abort');
        }
        return;
      case 'addAdapter':
        this.#adapters.add(message.id, message.tensors);
        return;
      case 'removeAdapter':
        this.#adapters.remove(message.id);
        return;
      case 'matcherLane':
        this.#matchers.setLane(message.lane, message.thread);
        return;
      case 'control':
        this.#controls.push(message);
        return;
    }
  }

  /**
   * Computes a step and reports one: the same, or the one before, which a device has computed meanwhile.
   * Masks are made while layers are computed, and are waited for when they have been. With nothing to compute
   * only the report of what ended without a step. Null when all that could run waits for masks.
   */
  step(): StepOutput | null {
    const draftMs = this.#draft();
    // How far a grammar goes along with a draft is known before that is computed.
    this.#receiveMasks(({ numDraftTokens }) => numDraftTokens > 0);
    const startMs = this.#nowMs() - draftMs;
    const plan = this.#mayPlan ? this.#scheduler.schedule(startMs) : emptyPlan();
    this.#moveMatchers(plan);
    const begun = this.#begin(plan);
    const isIdle = begun === null && this.#inFlight === null && this.#finished.length === 0;
    if (isIdle && this.#controls.length === 0 && this.#matchers.numAwaited > 0) return null;
    const stats = {
      ...emptyStats(),
      prefixCacheQueries: plan.prefixCacheQueries,
      prefixCacheHits: plan.prefixCacheHits,
      numPreemptions: plan.preempted.length,
    };
    const output = this.#complete(begun, stats);
    output.controls = this.#obey();
    this.#measure(output.stats);
    // With a drafter it goes with the next drafts.
    if (this.#drafter === null || this.#requests.size === 0) this.#matchers.post();
    stats.stepMs = this.#nowMs() - startMs;
    this.#lastStepMs = stats.stepMs;
    return output;
  }

  /** Ends the step that is reported. What a step before has sampled decides what comes after it. */
  #complete(begun: BegunStep | null, stats: StepStats): StepOutput {
    if (!this.#runsAhead) {
      this.#sample(begun);
      return this.#collect(begun, stats);
    }
    const output = this.#collect(this.#inFlight, stats);
    this.#sample(begun);
    this.#inFlight = begun;
    return output;
  }

  /** Guesses for all that runs; matchers get the guesses with the newest tokens. Returns how long it took. */
  #draft(): number {
    const drafter = this.#drafter;
    if (drafter === null || !this.#mayPlan) return 0;
    const startMs = this.#nowMs();
    const wanted: WantedDraft[] = [];
    let { numSpareMasks } = this.#scheduler;
    // Rows that may be in vain are cheap only while a step waits for its weights.
    const maxTokens = this.#scheduler.numRunning > this.#maxDraftedRequests ? 0 : drafter.maxTokens;
    for (const request of this.#scheduler.running) {
      const isHeld = request.spec.grammar !== null;
      // Its matcher knows its draft already.
      if (isHeld && request.numHeldTokens > 0 && !this.#matchers.takesDraft(request)) continue;
      const most = draftLimit(request, maxTokens, numSpareMasks);
      request.draft([]);
      const limit = this.#scheduler.reserveForDraft(request, most);
      if (limit === 0) continue;
      wanted.push({ request, limit });
      if (isHeld) numSpareMasks -= limit;
    }
    drafter.propose(wanted);
    for (const { request } of wanted) {
      if (request.reasoning !== null) request.cutDraft(request.reasoning.numUndecisive(request.draftTokens));
    }
    this.#matchers.post();
    return this.#nowMs() - startMs;
  }

  #obey(): ControlResult[] {
    const controls = this.#controls;
    this.#controls = [];
    return controls.map(({ id, action }) => ({ id, problem: this.#control(action) }));
  }

  /** Why it cannot be done, or null. */
  #control(action: ControlAction): string | null {
    switch (action) {
      case 'pause':
        this.#isPaused = true;
        return null;
      case 'resume':
        this.#isPaused = false;
        return null;
      case 'sleep':
        this.#sleep();
        return null;
      case 'wakeUp':
        return this.#wakeUp();
      case 'resetPrefixCache':
        return this.#resetPrefixCache();
    }
  }

  /** What runs waits, and is computed again when the cache has memory. */
  #sleep(): void {
    if (this.#isAsleep) return;
    for (const request of this.#scheduler.preemptAll()) this.#matchers.close(request);
    this.#kvCache.forgetFree();
    this.#freeKvCache();
    this.#isAsleep = true;
  }

  #freeKvCache(): void {
    this.#model.freeKvCache();
    this.#drafter?.freeKvCache();
  }

  #wakeUp(): string | null {
    if (!this.#isAsleep) return null;
    try {
      this.#model.allocateKvCache(this.#pool.numBlocks);
      this.#drafter?.allocateKvCache(this.#pool.numBlocks);
    } catch (error) {
      this.#freeKvCache();
      return error instanceof Error ? error.message : String(error);
    }
    this.#isAsleep = false;
    return null;
  }

  #resetPrefixCache(): string | null {
    const numHeld = this.#pool.numUsable - this.#pool.numFree;
    if (numHeld > 0) return `${numHeld} of ${this.#pool.numUsable} KV blocks are in use`;
    this.#kvCache.forgetFree();
    return null;
  }

  /** Launches the whole step, or where masks are missing, only its layers. */
  #begin(plan: StepPlan): BegunStep | null {
    const { scheduled, numTokens } = plan;
    if (scheduled.length === 0) return null;
    fillTokens(this.#model, plan, this.#layout);
    if (scheduled.some(awaitsMask)) {
      this.#model.forward(numTokens, scheduled.length);
      return { plan, rows: null };
    }
    const rows = this.#fillRows(plan);
    this.#model.launch(numTokens, scheduled.length, rows.logitsRows.length, rows.hiddenRows.length);
    return { plan, rows };
  }

  /** Samples what #begin has not. A row whose mask is late is left out, to be planned again later. */
  #sample(begun: BegunStep | null): void {
    if (begun === null || begun.rows !== null) return;
    const { plan } = begun;
    this.#matchers.post();
    const needed = new Set(plan.scheduled.filter(awaitsMask).map(({ request }) => request));
    this.#receiveMasks((request) => needed.has(request));
    for (const late of plan.scheduled.filter(awaitsMask)) {
      late.samples = false;
      late.request.postpone();
    }
    begun.rows = this.#fillRows(plan);
    this.#model.sample(begun.rows.logitsRows.length, begun.rows.hiddenRows.length);
  }

  #fillRows(plan: StepPlan): StepRows {
    const maskOf = (request: Request, numDrafted: number) => this.#maskOf(request, numDrafted);
    return fillRows(this.#model, plan, this.#layout, maskOf);
  }

  #maskOf(request: Request, numDrafted: number): Uint32Array | null {
    const { grammar } = request.spec;
    if (grammar === null) return null;
    if (request.reasoning?.answerStart === null) {
      const { startTokenId } = request.reasoning;
      return startTokenId === null ? null : withToken(grammar.firstMask, startTokenId);
    }
    return request.numHeldTokens === 0 ? grammar.firstMask : this.#matchers.mask(request, numDrafted);
  }

  #receiveMasks(isNeeded: (request: Request) => boolean): void {
    if (this.#matchers.numAwaited === 0) return;
    const patienceMs = Math.max(minMaskPatienceMs, maskPatience * this.#lastStepMs);
    for (const { request, news } of this.#matchers.receive(patienceMs, isNeeded)) {
      if (request.finishReason === null) this.#onMask(request, news);
    }
    this.#matchers.post();
  }

  #onMask(request: Request, news: MaskNews): void {
    switch (news) {
      case 'open':
        request.isMaskReady = true;
        request.cutDraft(this.#matchers.numDrafted(request));
        return;
      case 'complete':
        // Sampling the end-of-sequence token would say nothing new.
        this.#finish(request, 'stop');
        return;
      case 'lost':
        this.#finish(request, 'abort', 'grammar_timeout');
        return;
      case 'failed':
        this.#finish(request, 'error');
        return;
    }
  }

  /** A matcher stands for a row: it comes with it, and goes with it. */
  #moveMatchers({ admitted, preempted }: StepPlan): void {
    for (const request of preempted) this.#matchers.close(request);
    for (const request of admitted) {
      if (request.spec.grammar !== null) this.#matchers.open(request, request.spec.grammar.lane);
    }
    this.#matchers.post();
  }

  #finish(request: Request, reason: FinishReason, stopReason: string | null = null): void {
    this.#scheduler.finish(request, reason, stopReason);
    this.#reportFinished(request);
  }

  #collect(done: BegunStep | null, stats: StepStats): StepOutput {
    if (done !== null) this.#model.collect();
    const timeMs = this.#nowMs();
    const output = emptyOutput(timeMs, stats);
    const handles: number[] = [];
    const tokenIds: number[] = [];
    done?.rows?.hiddenRows.forEach((request, row) => {
      this.#reportHiddenState(request, row, output);
    });
    done?.rows?.logitsRows.forEach(({ request, promptPosition, numDrafted }, row) => {
      // It ended while the step was under way: by its own last token, or because its client left.
      if (request.finishReason !== null) return;
      if (promptPosition !== null) {
        this.#reportPromptLogprobs(request, row, output);
        return;
      }
      if (numDrafted === 0) this.#verifyDraft(request, row, stats);
      // After a drafted token that the model did not sample.
      else if (request.numPendingTokens === 0) return;
      const tokenId = this.#model.batch.sampledTokenIds[row];
      if (request.spec.numLogprobs >= 0) {
        output.logprobs.push({
          index: handles.length,
          token: this.#logprobsOf(row, request.spec.numLogprobs),
        });
      }
      handles.push(request.spec.handle);
      tokenIds.push(tokenId);
      if (request.firstTokenMs === null) this.#reportFirstToken(request, timeMs, output);
      request.lastTokenMs = timeMs;
      this.#scheduler.appendToken(request, tokenId);
      if (request.finishReason !== null) this.#reportFinished(request);
      else if (request.numHeldTokens > 0) this.#matchers.advance(request, tokenId);
    });
    output.handles = Int32Array.from(handles);
    output.tokenIds = Int32Array.from(tokenIds);
    output.finished = this.#finished;
    this.#finished = [];
    stats.numGenerationTokens = tokenIds.length;
    return output;
  }

  /** Keeps the draft as far as the rows from `row` on sampled the same. */
  #verifyDraft(request: Request, row: number, stats: StepStats): void {
    const { numDraftTokens, numTokens } = request;
    if (numDraftTokens === 0) return;
    const { sampledTokenIds } = this.#model.batch;
    let numAccepted = 0;
    while (
      numAccepted < numDraftTokens &&
      sampledTokenIds[row + numAccepted] === request.tokenAt(numTokens + numAccepted)
    ) {
      const known = stats.numAcceptedByPosition[numAccepted] ?? 0;
      stats.numAcceptedByPosition[numAccepted++] = known + 1;
    }
    stats.numDrafts++;
    stats.numDraftTokens += numDraftTokens;
    request.rejectDrafts(numAccepted);
  }

  #measure(stats: StepStats): void {
    stats.numRunning = this.#scheduler.numRunning;
    stats.numWaiting = this.#scheduler.numWaiting;
    stats.kvCacheUsage = this.#kvCache.usage;
  }

  #reportFirstToken(request: Request, timeMs: number, { prefilled, stats }: StepOutput): void {
    request.firstTokenMs = timeMs;
    const numCachedTokens = request.numCachedTokens ?? 0;
    prefilled.push({
      handle: request.spec.handle,
      numCachedTokens,
      scheduledMs: request.scheduledMs ?? timeMs,
    });
    stats.numPromptTokens += request.numPromptTokens;
    stats.numCachedPromptTokens += numCachedTokens;
  }

  #reportHiddenState(request: Request, row: number, output: StepOutput): void {
    // Its client has left while the step was under way.
    if (request.finishReason !== null) return;
    const { batch } = this.#model;
    const values = batch.hiddenStates.slice(row * this.#hiddenSize, (row + 1) * this.#hiddenSize);
    output.hiddenStates.push({ handle: request.spec.handle, values });
    this.#reportFirstToken(request, output.timeMs, output);
    this.#finish(request, 'stop');
  }

  #reportPromptLogprobs(request: Request, row: number, output: StepOutput): void {
    const token = this.#logprobsOf(row, request.spec.numPromptLogprobs);
    const last = output.promptLogprobs.at(-1);
    if (last?.handle === request.spec.handle) last.tokens.push(token);
    else output.promptLogprobs.push({ handle: request.spec.handle, tokens: [token] });
  }

  #logprobsOf(row: number, numTop: number): TokenLogprobs {
    return readLogprobs(this.#model.batch, row, numTop, this.#maxLogprobs);
  }

  #reportFinished(request: Request): void {
    const { scheduledMs, firstTokenMs, lastTokenMs } = request;
    this.#requests.delete(request.spec.handle);
    this.#matchers.close(request);
    if (request.spec.adapterId !== null) this.#adapters.close(request.spec.adapterId);
    this.#finished.push({
      handle: request.spec.handle,
      reason: request.finishReason ?? 'error',
      stopReason: request.stopReason,
      numOutputTokens: request.numOutputTokens,
      times: scheduledMs === null ? null : { scheduledMs, firstTokenMs, lastTokenMs },
      numPreemptions: request.numPreemptions,
    });
  }
}
