// Grammars without xgrammar: which tokens may follow is a hash of the output so far, and the answer comes
// after a random number of looks. A mask that is used before it has come, or for another output, throws.

import { allowsMoreThan, type Grammar, maskWords } from '../../engine/grammar/grammar.ts';
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
}

export class FakeMatchers implements MatcherApi {
  readonly #open = new Map<Request, Open>();
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
    return [...this.#open.values()].filter(({ looksLeft }) => looksLeft !== null).length;
  }

  setLane(): void {}

  post(): void {}

  open(request: Request): void {
    if (request.row === null) throw new Error('a matcher is opened for a request without a row');
    const tokenIds = [...request.heldTokens];
    this.#open.set(request, { tokenIds, looksLeft: tokenIds.length > 0 ? this.#drawDelay() : null });
  }

  advance(request: Request, tokenId: number): void {
    const open = this.#open.get(request);
    if (open === undefined) return;
    if (open.looksLeft !== null) throw new Error('a token comes before the mask of the one before it');
    open.tokenIds.push(tokenId);
    open.looksLeft = this.#drawDelay();
  }

  close(request: Request): void {
    this.#open.delete(request);
  }

  receive(): Array<{ request: Request; news: MaskNews }> {
    const news: Array<{ request: Request; news: MaskNews }> = [];
    for (const [request, open] of this.#open) {
      if (open.looksLeft === null || open.looksLeft-- > 0) continue;
      open.looksLeft = null;
      const isOpen = allowsMoreThan(this.#maskOf(request, open), request.spec.eosTokenIds);
      news.push({ request, news: isOpen ? 'open' : 'complete' });
    }
    return news;
  }

  mask(request: Request): Uint32Array {
    const open = this.#open.get(request);
    if (open === undefined || open.looksLeft !== null) throw new Error('a mask is used that has not come');
    const output = [...request.heldTokens];
    if (output.join() !== open.tokenIds.join()) throw new Error('a mask is used for another output');
    return this.#maskOf(request, open);
  }

  #maskOf({ spec }: Request, { tokenIds }: Open): Uint32Array {
    return fakeMask(spec.grammar?.key ?? '', tokenIds, this.#vocabSize);
  }
}
