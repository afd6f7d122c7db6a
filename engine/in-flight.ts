// Every choice between its submission and its end, by engine handle: routes step outputs to choices, choices
// to streams, and finished choices to the observer.

import { nowMs } from './clock.ts';
import type { Choice, CompletionStream } from './completion-stream.ts';
import type { EngineObserver, RequestRecord } from './generation.ts';
import type { FinishedRequest, FinishReason, StepOutput } from './messages.ts';

/** What all choices of one request have in common. */
export interface RequestFacts {
  requestId: string;
  n: number;
  /** Name of the adapter, or null. */
  adapter: string | null;
  maxTokens: number;
  /** One token of a beam search, which is reported as a whole. */
  isPart: boolean;
  numPromptTokens: number;
  arrivalMs: number;
}

interface Entry {
  choice: Choice;
  stream: CompletionStream;
  facts: RequestFacts;
  /** In the list that the next flush visits. */
  isDirty: boolean;
}

export class InFlight {
  readonly #entries = new Map<number, Entry>();
  readonly #observer: EngineObserver;
  /** Told of choices that ended here first (a stop string) while the engine still generates. */
  readonly #abortInEngine: (handles: number[]) => void;
  #dirty: Entry[] = [];
  #finished: FinishedRequest[] = [];
  #flushScheduled = false;
  #isOver = false;

  constructor(observer: EngineObserver, abortInEngine: (handles: number[]) => void) {
    this.#observer = observer;
    this.#abortInEngine = abortInEngine;
  }

  /** Choices the engine has not confirmed the end of. */
  get size(): number {
    return this.#entries.size;
  }

  /** After endAll: nothing is added and nothing is heard any more. */
  get isOver(): boolean {
    return this.#isOver;
  }

  adaptersInUse(): { running: string[]; waiting: string[] } {
    const running = new Set<string>();
    const waiting = new Set<string>();
    for (const { choice, facts } of this.#entries.values()) {
      if (facts.adapter !== null) (choice.firstTokenMs === null ? waiting : running).add(facts.adapter);
    }
    return { running: [...running], waiting: [...waiting].filter((name) => !running.has(name)) };
  }

  add(choice: Choice, stream: CompletionStream, facts: RequestFacts): void {
    this.#entries.set(choice.handle, { choice, stream, facts, isDirty: false });
  }

  onStep(output: StepOutput): void {
    if (this.#isOver) return;
    for (const { handle, numCachedTokens } of output.prefilled) {
      const entry = this.#entries.get(handle);
      if (entry !== undefined) entry.choice.numCachedTokens = numCachedTokens;
    }
    for (let i = 0; i < output.handles.length; i++) this.#addToken(output, i);
    for (const { index, token } of output.logprobs) {
      this.#entries.get(output.handles[index])?.choice.addLogprobs(token);
    }
    for (const { handle, tokens } of output.promptLogprobs) {
      this.#entries.get(handle)?.choice.promptLogprobs?.push(...tokens);
    }
    for (const { handle, values } of output.hiddenStates) {
      const entry = this.#entries.get(handle);
      if (entry !== undefined) entry.stream.hiddenState = values;
    }
    for (const finished of output.finished) {
      const entry = this.#entries.get(finished.handle);
      if (entry === undefined) throw new Error(`the engine finished the unknown handle ${finished.handle}`);
      entry.choice.endByEngine(finished);
      this.#markDirty(entry);
    }
    this.#finished.push(...output.finished);
    this.#observer.onStep?.(output.stats);
    // The messages that are already here are heard before the flush, so that a backlog becomes one delta per
    // choice.
    if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      setImmediate(() => this.#flush());
    }
  }

  /** Ends the given choices at once for their reader; the engine's own confirmation is still awaited. */
  abort(handles: readonly number[]): void {
    const running: number[] = [];
    for (const handle of handles) {
      const entry = this.#entries.get(handle);
      if (entry === undefined) continue;
      const delta = entry.choice.end('abort');
      if (delta === null) continue;
      entry.stream.push(delta);
      running.push(handle);
    }
    if (running.length > 0) this.#abortInEngine(running);
  }

  /** abort of the choices of these requests, or of all (null); how many still ran. */
  abortRequests(requestIds: readonly string[] | null): number {
    const wanted = requestIds === null ? null : new Set(requestIds);
    const handles: number[] = [];
    for (const [handle, { choice, facts }] of this.#entries) {
      if (choice.finishReason === null && (wanted === null || wanted.has(facts.requestId)))
        handles.push(handle);
    }
    this.abort(handles);
    return handles.length;
  }

  /** The engine is gone: everything open ends with the given reason. */
  endAll(reason: 'abort' | 'error'): void {
    this.#flush();
    this.#isOver = true;
    for (const [handle, entry] of this.#entries) {
      const delta = entry.choice.end(reason);
      if (delta !== null) entry.stream.push(delta);
      this.#record(handle, entry, null);
    }
  }

  #addToken(output: StepOutput, i: number): void {
    const entry = this.#entries.get(output.handles[i]);
    if (entry === undefined)
      throw new Error(`the engine sent a token for the unknown handle ${output.handles[i]}`);
    const { choice } = entry;
    if (choice.finishReason !== null) return;
    if (choice.firstTokenMs === null) {
      choice.firstTokenMs = output.timeMs;
      if (!entry.facts.isPart) this.#observer.onFirstToken?.(output.timeMs - entry.facts.arrivalMs);
    } else if (choice.lastTokenMs !== output.timeMs) {
      // Tokens that one step yields count once, as in vLLM.
      this.#observer.onInterToken?.(output.timeMs - (choice.lastTokenMs ?? output.timeMs));
    }
    choice.lastTokenMs = output.timeMs;
    choice.addToken(output.tokenIds[i]);
    this.#markDirty(entry);
  }

  #markDirty(entry: Entry): void {
    if (entry.isDirty) return;
    entry.isDirty = true;
    this.#dirty.push(entry);
  }

  #flush(): void {
    this.#flushScheduled = false;
    const dirty = this.#dirty;
    const finished = this.#finished;
    this.#dirty = [];
    this.#finished = [];
    const stoppedByText: number[] = [];
    for (const entry of dirty) {
      entry.isDirty = false;
      const delta = entry.choice.flush();
      if (delta === null) continue;
      entry.stream.push(delta);
      if (entry.choice.runsOnInEngine) stoppedByText.push(entry.choice.handle);
    }
    if (stoppedByText.length > 0) this.#abortInEngine(stoppedByText);
    for (const end of finished) {
      const entry = this.#entries.get(end.handle);
      if (entry !== undefined) this.#record(end.handle, entry, end);
    }
  }

  #record(handle: number, { choice, facts }: Entry, end: FinishedRequest | null): void {
    this.#entries.delete(handle);
    const { isPart, ...shown } = facts;
    if (isPart) return;
    const reason: FinishReason = choice.finishReason ?? end?.reason ?? 'error';
    const record: RequestRecord = {
      ...shown,
      index: choice.index,
      numCachedTokens: choice.numCachedTokens,
      numOutputTokens: choice.numOutputTokens,
      numPreemptions: end?.numPreemptions ?? 0,
      scheduledMs: end?.times?.scheduledMs ?? null,
      firstTokenMs: choice.firstTokenMs,
      lastTokenMs: choice.lastTokenMs,
      finishedMs: nowMs(),
      finishReason: reason,
    };
    this.#observer.onFinished?.(record);
  }
}
