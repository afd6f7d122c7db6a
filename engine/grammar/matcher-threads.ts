// Starts the matcher threads when they are needed, watches them, and replaces one that hangs or dies.

import { MessageChannel, Worker } from 'node:worker_threads';
import { nowMs } from '../clock.ts';
import { heavyLane, maskWords, numLanes, type Vocabulary } from './grammar.ts';
import { grammarWorker } from './grammar-pool.ts';
import {
  compilingWord,
  currentWord,
  jobWord,
  type MatcherLane,
  masksPerRow,
  readyWord,
  stateWords,
} from './matcher-messages.ts';
import type { MatcherThreadOptions } from './matcher-thread.ts';

export interface MatcherThreadsOptions {
  vocabulary: Vocabulary;
  maxNumSeqs: number;
  engineSignals: SharedArrayBuffer;
  /** A thread that compiles one grammar for longer is replaced; the request it worked for ends. */
  compileTimeoutMs: number;
  /** Hands a lane to the engine thread, or takes it back: null when it could not be started. */
  onLane: (lane: number, thread: MatcherLane | null) => void;
}

const sampleMs = 100;
/** The same for anything else a thread does for one token. */
const matchTimeoutMs = 2_000;

interface Thread {
  worker: Worker;
  state: Int32Array;
  /** The job it was found at, and since when. */
  job: number;
  sinceMs: number;
}

export class MatcherThreads {
  readonly #options: MatcherThreadsOptions;
  readonly #threads: Array<Thread | null> = Array(numLanes).fill(null);
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(options: MatcherThreadsOptions) {
    this.#options = options;
  }

  /**
   * Starts the lane's thread unless it runs; the engine thread hears of it before anything posted after
   * this.
   */
  ensure(lane: number): void {
    if (this.#threads[lane] === null && !this.#isClosed) this.#start(lane);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    await Promise.all(this.#threads.map((thread) => thread?.worker.terminate()));
  }

  #start(lane: number): void {
    const { vocabulary, maxNumSeqs, engineSignals, onLane } = this.#options;
    const state = new SharedArrayBuffer(4 * stateWords(maxNumSeqs));
    const masks = new SharedArrayBuffer(4 * maxNumSeqs * masksPerRow * maskWords(vocabulary.vocabSize));
    const { port1, port2 } = new MessageChannel();
    const workerData: MatcherThreadOptions = { port: port2, state, masks, vocabulary, engineSignals };
    const worker = new Worker(grammarWorker('matcher-thread'), {
      workerData,
      transferList: [port2],
      name: 'quire-matcher',
    });
    const words = new Int32Array(state);
    const thread: Thread = { worker, state: words, job: 0, sinceMs: nowMs() };
    this.#threads[lane] = thread;
    // Its own word on what went wrong is xgrammar's, and of no use: the blamed request tells.
    worker.on('error', () => {});
    worker.on('message', () => this.ensure(heavyLane));
    worker.on('exit', () => this.#onExit(lane, thread));
    worker.unref();
    this.#timer ??= setInterval(() => this.#watch(), sampleMs).unref();
    onLane(lane, { port: port1, state, masks });
  }

  #onExit(lane: number, thread: Thread): void {
    if (this.#isClosed || this.#threads[lane] !== thread) return;
    this.#threads[lane] = null;
    // One that never came so far as to work would not come further the next time.
    if (Atomics.load(thread.state, readyWord) === 1) this.#start(lane);
    else this.#options.onLane(lane, null);
  }

  #watch(): void {
    for (const thread of this.#threads) {
      if (thread === null) continue;
      const job = Atomics.load(thread.state, jobWord);
      const isIdle = Atomics.load(thread.state, currentWord) === 0;
      if (isIdle || job !== thread.job) {
        thread.job = job;
        thread.sinceMs = nowMs();
        continue;
      }
      const isCompiling = Atomics.load(thread.state, compilingWord) === 1;
      const timeoutMs = isCompiling ? this.#options.compileTimeoutMs : matchTimeoutMs;
      if (nowMs() - thread.sinceMs > timeoutMs) void thread.worker.terminate();
    }
  }
}
