// The engine thread's end of the matcher threads: which running request has a matcher where, and whose mask
// is still being made.

import type { Request } from '../request.ts';
import { heavyLane, maskWords } from './grammar.ts';
import {
  currentWord,
  draftWord,
  inboxWord,
  type MatcherLane,
  type MatcherWork,
  masksPerRow,
  matcherStatus,
  statusWord,
  ticketWord,
} from './matcher-messages.ts';

/** What has become of a request's mask. `lost`: its matcher thread ended while it worked for it. */
export type MaskNews = 'open' | 'complete' | 'failed' | 'lost';

/** What the step loop needs; the class below, or a fake in tests. */
export interface MatcherApi {
  /** Masks that are being made. */
  readonly numAwaited: number;
  setLane(lane: number, thread: MatcherLane | null): void;
  /**
   * Begins a matcher for a request that runs now, after what it holds of the output so far, whose mask is
   * made unless that is empty.
   */
  open(request: Request, lane: number): void;
  /** The request's newest token; the mask after it is made, and with post() those after its draft. */
  advance(request: Request, tokenId: number): void;
  /** A draft of the request would go along with its newest token. */
  takesDraft(request: Request): boolean;
  /** Frees the request's matcher, if it has one. */
  close(request: Request): void;
  /** Sends what was gathered since the last time. */
  post(): void;
  /** Tells what has come; waits for the masks that are needed, at most so long. */
  receive(
    patienceMs: number,
    isNeeded: (request: Request) => boolean,
  ): Array<{ request: Request; news: MaskNews }>;
  /** Tokens of its draft that have a mask. */
  numDrafted(request: Request): number;
  /** [maskWords] of the request's newest mask, or of the one after so many tokens of its draft. */
  mask(request: Request, numDrafted: number): Uint32Array;
}

interface Matcher {
  lane: number;
  row: number;
  /** Of the answer that is awaited, or came last. */
  ticket: number;
  /** Tokens that it has not been sent yet. */
  unsent: number[];
}

interface Lane extends MatcherLane {
  words: Int32Array;
  work: { closed: number[]; opened: MatcherWork['opened']; advanced: number[] };
}

const emptyWork = (): Lane['work'] => ({ closed: [], opened: [], advanced: [] });
const newsOfStatus: readonly MaskNews[] = ['open', 'complete', 'failed', 'open'];

export class Matchers implements MatcherApi {
  readonly #lanes = new Map<number, Lane>();
  readonly #matchers = new Map<Request, Matcher>();
  readonly #awaited = new Set<Request>();
  readonly #lost: Request[] = [];
  /** Those with tokens unsent. */
  readonly #advanced: Request[] = [];
  readonly #engineSignals: Int32Array;
  readonly #maskWords: number;
  #lastTicket = 0;

  constructor(engineSignals: Int32Array, vocabSize: number) {
    this.#engineSignals = engineSignals;
    this.#maskWords = maskWords(vocabSize);
  }

  get numAwaited(): number {
    return this.#awaited.size + this.#lost.length;
  }

  setLane(index: number, thread: MatcherLane | null): void {
    const old = this.#lanes.get(index);
    const blamed = old === undefined ? -1 : Atomics.load(old.words, currentWord) - 1;
    const here = [...this.#matchers].filter(([, { lane }]) => lane === index);
    if (thread === null) this.#lanes.delete(index);
    else this.#lanes.set(index, { ...thread, words: new Int32Array(thread.state), work: emptyWork() });
    for (const [request, { row }] of here) {
      this.#forget(request);
      if (thread === null || row === blamed) this.#lost.push(request);
      else this.open(request, index);
    }
    this.post();
  }

  open(request: Request, index: number): void {
    const lane = this.#lanes.get(index);
    const { grammar } = request.spec;
    if (grammar === null || request.row === null) throw new Error('a matcher needs a grammar and a row');
    this.close(request);
    const tokenIds = request.heldTokens.slice();
    const matcher = { lane: index, row: request.row, ticket: 0, unsent: [] };
    this.#matchers.set(request, matcher);
    if (tokenIds.length > 0) this.#await(request, matcher);
    if (lane === undefined) {
      this.#forget(request);
      this.#lost.push(request);
      return;
    }
    const { key, source } = grammar;
    lane.work.opened.push({ row: matcher.row, key, source, tokenIds, ticket: matcher.ticket });
  }

  advance(request: Request, tokenId: number): void {
    const matcher = this.#matchers.get(request);
    if (matcher === undefined) return;
    this.#await(request, matcher);
    if (matcher.unsent.length === 0) this.#advanced.push(request);
    matcher.unsent.push(tokenId);
  }

  takesDraft(request: Request): boolean {
    return (this.#matchers.get(request)?.unsent.length ?? 0) > 0;
  }

  close(request: Request): void {
    const matcher = this.#matchers.get(request);
    if (matcher === undefined) return;
    this.#forget(request);
    this.#lanes.get(matcher.lane)?.work.closed.push(matcher.row);
  }

  post(): void {
    for (const request of this.#advanced.splice(0)) {
      const matcher = this.#matchers.get(request);
      if (matcher === undefined || matcher.unsent.length === 0) continue;
      const { lane, row, ticket, unsent } = matcher;
      const drafted = request.draftTokens;
      const counts = [row, ticket, unsent.length, drafted.length];
      this.#lanes.get(lane)?.work.advanced.push(...counts, ...unsent, ...drafted);
      matcher.unsent = [];
    }
    for (const lane of this.#lanes.values()) {
      const { closed, opened, advanced } = lane.work;
      if (closed.length + opened.length + advanced.length === 0) continue;
      lane.port.postMessage({ closed, opened, advanced: Int32Array.from(advanced) } satisfies MatcherWork);
      lane.work = emptyWork();
      Atomics.add(lane.words, inboxWord, 1);
      Atomics.notify(lane.words, inboxWord);
    }
  }

  receive(
    patienceMs: number,
    isNeeded: (request: Request) => boolean,
  ): Array<{ request: Request; news: MaskNews }> {
    const news = this.#lost.splice(0).map((request) => ({ request, news: 'lost' as MaskNews }));
    const endMs = performance.now() + patienceMs;
    for (;;) {
      const seen = Atomics.load(this.#engineSignals, 0);
      let mustWait = false;
      for (const request of this.#awaited) {
        const status = this.#find(request);
        if (status === null) {
          mustWait ||= isNeeded(request);
          continue;
        }
        this.#awaited.delete(request);
        if (status === matcherStatus.slow && this.#retire(request)) continue;
        news.push({ request, news: newsOfStatus[status] });
      }
      const leftMs = endMs - performance.now();
      if (!mustWait || leftMs <= 0) return news;
      Atomics.wait(this.#engineSignals, 0, seen, leftMs);
    }
  }

  numDrafted(request: Request): number {
    const matcher = this.#matchers.get(request);
    const lane = matcher && this.#lanes.get(matcher.lane);
    return lane === undefined || matcher === undefined ? 0 : Atomics.load(lane.words, draftWord(matcher.row));
  }

  mask(request: Request, numDrafted: number): Uint32Array {
    const matcher = this.#matchers.get(request);
    const lane = matcher && this.#lanes.get(matcher.lane);
    if (lane === undefined || matcher === undefined)
      throw new Error('a request without a matcher has no mask');
    const index = matcher.row * masksPerRow + numDrafted;
    return new Uint32Array(lane.masks, 4 * index * this.#maskWords, this.#maskWords);
  }

  /** Makes the masks of a slow request in the heavy lane from now on, this one first. */
  #retire(request: Request): boolean {
    if (this.#matchers.get(request)?.lane === heavyLane || !this.#lanes.has(heavyLane)) return false;
    this.open(request, heavyLane);
    return true;
  }

  #find(request: Request): number | null {
    const matcher = this.#matchers.get(request);
    const lane = matcher && this.#lanes.get(matcher.lane);
    if (matcher === undefined || lane === undefined) return null;
    if (Atomics.load(lane.words, ticketWord(matcher.row)) !== matcher.ticket) return null;
    return Atomics.load(lane.words, statusWord(matcher.row));
  }

  #await(request: Request, matcher: Matcher): void {
    // Never 0, which stands for no answer.
    this.#lastTicket = (this.#lastTicket % 0x7fffffff) + 1;
    matcher.ticket = this.#lastTicket;
    this.#awaited.add(request);
  }

  #forget(request: Request): void {
    this.#matchers.delete(request);
    this.#awaited.delete(request);
  }
}
