// Which tokens of which requests the draft model's KV cache holds.
//
// It has a block for each of the main cache's, and a token lies in the same place in both. So whatever gives
// a request its blocks, takes them away or shares them serves the draft model too, and there is no second
// pool that could be full. Only what is computed differs: the draft model may lag behind, and what it
// computed of a draft may have been rejected.

import type { Request } from '../request.ts';

/** One stay of a request in its row. */
interface Stay {
  /** The request's, which tells one stay from the next. */
  numPreemptions: number;
  /** Leading known tokens that are held. */
  numComputed: number;
  /** Drafted tokens held after those. */
  drafted: Int32Array;
  /** Leading blocks that #filled knows. */
  numFilled: number;
}

const none = new Int32Array(0);

export class DraftCache {
  readonly #blockSize: number;
  readonly #stays = new WeakMap<Request, Stay>();
  /**
   * The prefix-cache hash of each block that holds what the hash says. A block that has been given away since
   * and has another hash holds nothing that is wanted.
   */
  readonly #filled = new Map<number, string>();

  constructor(blockSize: number) {
    this.#blockSize = blockSize;
  }

  /**
   * Leading tokens of a running request that need not be computed: never the newest, whose logits are wanted.
   */
  numComputed(request: Request): number {
    const stay = this.#stayOf(request);
    const last = request.numTokens - 1;
    for (const tokenId of stay.drafted) {
      if (stay.numComputed === last || request.tokenAt(stay.numComputed) !== tokenId) break;
      stay.numComputed++;
    }
    stay.drafted = none;
    this.#noteFilled(request, stay);
    this.#skipFilled(request, stay, last);
    return stay.numComputed;
  }

  /** The step to come computes what is missing of the request's tokens, drafted ones included, up to `end`. */
  compute(request: Request, end: number): void {
    const stay = this.#stayOf(request);
    const lastBlock = Math.floor((end - 1) / this.#blockSize);
    for (let i = Math.floor(stay.numComputed / this.#blockSize); i <= lastBlock; i++) {
      this.#filled.delete(request.blocks[i]);
    }
    stay.numComputed = Math.min(end, request.numTokens);
    stay.drafted = request.tokens(stay.numComputed, end).slice();
    // At once, so that requests of the same step share it: a layer writes all its keys before it reads any.
    this.#noteFilled(request, stay);
  }

  /** Everything is gone. */
  clear(): void {
    this.#filled.clear();
  }

  #stayOf(request: Request): Stay {
    const known = this.#stays.get(request);
    if (known?.numPreemptions === request.numPreemptions) return known;
    const stay = { numPreemptions: request.numPreemptions, numComputed: 0, drafted: none, numFilled: 0 };
    this.#stays.set(request, stay);
    return stay;
  }

  #noteFilled(request: Request, stay: Stay): void {
    const numFull = Math.floor(stay.numComputed / this.#blockSize);
    const end = Math.min(numFull, request.numCachedBlocks);
    for (; stay.numFilled < end; stay.numFilled++) {
      this.#filled.set(request.blocks[stay.numFilled], request.blockHashes[stay.numFilled]);
    }
  }

  /** Goes on past blocks that were filled for others, or before the request was preempted. */
  #skipFilled(request: Request, stay: Stay, last: number): void {
    for (let i = stay.numFilled; i < request.numCachedBlocks; i++) {
      const end = (i + 1) * this.#blockSize;
      const isNext = stay.numComputed === i * this.#blockSize;
      if (!isNext || end > last || this.#filled.get(request.blocks[i]) !== request.blockHashes[i]) return;
      stay.numComputed = end;
      stay.numFilled = i + 1;
    }
  }
}
