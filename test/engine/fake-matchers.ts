// Grammars without xgrammar: which tokens may follow is a hash of the output so far, and the answer comes
// after a random number of looks. A mask that is used before it has come, or for another output, throws.

import { allows, allowsMoreThan, type Grammar, maskWords } from '../../engine/grammar/grammar.ts';
import type { MaskNews, MatcherApi } from '../../engine/grammar/matchers.ts';
import type { Request } from '../../engine/request.ts';

/** The mask after these tokens: about half of all, now and then only the end. */
export function fakeMask(key: string, tokenIds: readonly number[], vocabSize: number): Uint32Array {
  const mask = new Uint32Array(maskWords(vocabSize));
  let hash = 2166136261;
  for (const one of [...Buffer.from(key), ...tokenIds]) hash = Math.imul(hash ^ one, 16777619);
  if (tokenIds.length > 0 && (hash >>> 8) % 20 === 0) return mask;
  for (let id = 0; id < vocabSize; id++) {
    hash = Math.imul(hash ^ id, 16777619);
    if ((hash >>> 16) & 1) mask[id >> 5] |= 1 << (id & 31);
  }
  return mask;
}

export function fakeGrammar(key: string, vocabSize: number): Grammar {
  const source = { type: 'ebnf', text: key } as const;
  return { key, source, firstMask: fakeMask(key, [], vocabSize), lane: 0 };
}

interface Open {
  tokenIds: number[];
  /** Looks until the answer is there; null when none is awaited. */
  looksLeft: number | null;
  /** The newest tokens wait for post(). */
  isUnsent: boolean;
  /** Drafted tokens that masks follow. */
  drafted: number[];
}

export class FakeMatchers implements MatcherApi {
  readonly #open = new Map<Request, Open>();
  /** Drafted tokens that were given a mask. */
  numFollowed = 0;
  /** Masks that a step needed and did not get. */
  numLate = 0;
  /** These are never told, but for that they are lost. */
  readonly lost = new Set<number>();
  readonly #vocabSize: number;
  readonly #drawDelay: () => number;

  constructor(vocabSize: number, drawDelay: () => number = () => 0) {
    this.#vocabSize = vocabSize;
    this.#drawDelay = drawDelay;
  }

  /** Matchers that nobody has closed. */
  get numOpen(): number {
    return this.#open.size;
  }

  get numAwaited(): number {
    return [...this.#open.values()].filter(({ looksLeft, isUnsent }) => looksLeft !== null || isUnsent)
      .length;
  }

  setLane(): void {}

  post(): void {
    for (const [request, open] of this.#open) {
      if (!open.isUnsent) continue;
      open.isUnsent = false;
      open.looksLeft = this.#drawDelay();
      open.drafted = [];
      for (const tokenId of request.draftTokens) {
        const isEnd = request.spec.eosTokenIds.includes(tokenId);
        if (isEnd || !allows(this.#maskOf(request, open), tokenId)) break;
        open.drafted.push(tokenId);
        if (allowsMoreThan(this.#maskOf(request, open), request.spec.eosTokenIds)) continue;
        open.drafted.pop();
        break;
      }
      this.numFollowed += open.drafted.length;
    }
  }

  takesDraft(request: Request): boolean {
    return this.#open.get(request)?.isUnsent === true;
  }

  numDrafted(request: Request): number {
    return this.#open.get(request)?.drafted.length ?? 0;
  }

  open(request: Request): void {
    if (request.row === null) throw new Error('a matcher is opened for a request without a row');
    const tokenIds = [...request.heldTokens];
    const looksLeft = tokenIds.length > 0 ? this.#drawDelay() : null;
    this.#open.set(request, { tokenIds, looksLeft, isUnsent: false, drafted: [] });
  }

  advance(request: Request, tokenId: number): void {
    const open = this.#open.get(request);
    if (open === undefined) return;
    if (open.looksLeft !== null) throw new Error('a token comes before the mask of the one before it');
    open.tokenIds.push(tokenId);
    open.isUnsent = true;
    open.drafted = [];
  }

  close(request: Request): void {
    this.#open.delete(request);
  }

  receive(
    _patienceMs: number,
    isNeeded: (request: Request) => boolean,
  ): Array<{ request: Request; news: MaskNews }> {
    const news: Array<{ request: Request; news: MaskNews }> = [];
    for (const [request, open] of this.#open) {
      if (open.looksLeft === null) continue;
      if (open.looksLeft-- > 0) {
        if (isNeeded(request)) this.numLate++;
        continue;
      }
      open.looksLeft = null;
      if (this.lost.has(request.spec.handle)) {
        this.#open.delete(request);
        news.push({ request, news: 'lost' });
        continue;
      }
      const isOpen = allowsMoreThan(this.#maskOf(request, open, 0), request.spec.eosTokenIds);
      news.push({ request, news: isOpen ? 'open' : 'complete' });
    }
    return news;
  }

  mask(request: Request, numDrafted: number): Uint32Array {
    const open = this.#open.get(request);
    if (open === undefined || open.looksLeft !== null || open.isUnsent)
      throw new Error('a mask is used that has not come');
    const output = [...request.heldTokens];
    if (output.join() !== open.tokenIds.join()) throw new Error('a mask is used for another output');
    const drafted = open.drafted.slice(0, numDrafted);
    if (drafted.length < numDrafted || drafted.join() !== request.draftTokens.subarray(0, numDrafted).join())
      throw new Error('a mask is used for another draft');
    return this.#maskOf(request, open, numDrafted);
  }

  /** After so many of the drafted tokens that it has; after all of them by default. */
  #maskOf({ spec }: Request, { tokenIds, drafted }: Open, numDrafted = drafted.length): Uint32Array {
    const all = [...tokenIds, ...drafted.slice(0, numDrafted)];
    return fakeMask(spec.grammar?.key ?? '', all, this.#vocabSize);
  }
}
