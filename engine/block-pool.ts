// The blocks of the KV cache: who holds them, which are free, and what full blocks contain.
//
// The free list is doubly linked through two arrays, so that a block can leave its middle in O(1) when the
// prefix cache hits it. Blocks are taken from the front and freed to the back: the front is the least
// recently used. Whoever frees a sequence frees its last block first, so that of one sequence the tail is
// evicted before the prefix. A free block keeps its hash until it is taken: that is the cache.
//
// Equal blocks are never merged. A sequence's block table is therefore append-only, which the batch relies
// on.

const nullBlock = 0;

interface CachedBlock {
  hash: string;
  tokenIds: Int32Array;
}

export class BlockPool {
  readonly numBlocks: number;
  readonly #refCounts: Int32Array;
  /** Neighbours in the free list; entry numBlocks is the fake head and tail. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #cached: Array<CachedBlock | null>;
  /** Blocks that hold the content of a hash, oldest first. */
  readonly #byHash = new Map<string, number[]>();
  #numFree = 0;

  /** numBlocks counts the null block 0, which is never handed out. */
  constructor(numBlocks: number) {
    if (numBlocks < 2) throw new Error(`a block pool needs at least 2 blocks, found ${numBlocks}`);
    this.numBlocks = numBlocks;
    this.#refCounts = new Int32Array(numBlocks);
    this.#next = new Int32Array(numBlocks + 1);
    this.#previous = new Int32Array(numBlocks + 1);
    this.#cached = new Array(numBlocks).fill(null);
    this.#next[numBlocks] = numBlocks;
    this.#previous[numBlocks] = numBlocks;
    for (let block = 1; block < numBlocks; block++) this.#pushFree(block);
  }

  get numFree(): number {
    return this.#numFree;
  }

  /** Blocks that may ever be held. */
  get numUsable(): number {
    return this.numBlocks - 1;
  }

  isFree(block: number): boolean {
    return this.#refCounts[block] === 0;
  }

  refCount(block: number): number {
    return this.#refCounts[block];
  }

  /**
   * Takes the least recently used free blocks, forgetting what they held; null, and nothing taken, when too
   * few are free.
   */
  allocate(count: number): number[] | null {
    if (count > this.#numFree) return null;
    const blocks: number[] = [];
    for (let i = 0; i < count; i++) {
      const block = this.#next[this.numBlocks];
      this.#removeFree(block);
      this.#forget(block);
      this.#refCounts[block] = 1;
      blocks.push(block);
    }
    return blocks;
  }

  /** One more holder for each; free ones leave the free list. */
  hold(blocks: readonly number[]): void {
    for (const block of blocks) {
      if (this.#refCounts[block]++ === 0) this.#removeFree(block);
    }
  }

  /** One holder less for each, last block first; those without holders become free and stay cached. */
  release(blocks: readonly number[]): void {
    for (let i = blocks.length - 1; i >= 0; i--) {
      const block = blocks[i];
      if (block === nullBlock || this.#refCounts[block] <= 0) {
        throw new Error(`block ${block} is released with ${this.#refCounts[block]} holders`);
      }
      if (--this.#refCounts[block] === 0) this.#pushFree(block);
    }
  }

  /** Makes a held, full block findable. */
  cache(block: number, hash: string, tokenIds: Int32Array): void {
    if (this.#refCounts[block] <= 0 || this.#cached[block] !== null) {
      throw new Error(`block ${block} cannot be cached: it is free or cached already`);
    }
    this.#cached[block] = { hash, tokenIds: tokenIds.slice() };
    const equals = this.#byHash.get(hash);
    if (equals === undefined) this.#byHash.set(hash, [block]);
    else equals.push(block);
  }

  /** A block with this chain hash and exactly these tokens. */
  find(hash: string, tokenIds: Int32Array): number | null {
    for (const block of this.#byHash.get(hash) ?? []) {
      const held = this.#cached[block]?.tokenIds;
      if (held?.length === tokenIds.length && held.every((id, i) => id === tokenIds[i])) return block;
    }
    return null;
  }

  /** Forgets the contents of every free block. */
  forgetFree(): void {
    for (const block of this.freeList()) this.#forget(block);
  }

  /** Free blocks, next to be taken first. */
  freeList(): number[] {
    const blocks: number[] = [];
    for (let at = this.#next[this.numBlocks]; at !== this.numBlocks; at = this.#next[at]) blocks.push(at);
    return blocks;
  }

  #forget(block: number): void {
    const cached = this.#cached[block];
    if (cached === null) return;
    this.#cached[block] = null;
    const equals = this.#byHash.get(cached.hash) ?? [];
    if (equals.length === 1) this.#byHash.delete(cached.hash);
    else equals.splice(equals.indexOf(block), 1);
  }

  #pushFree(block: number): void {
    const last = this.#previous[this.numBlocks];
    this.#next[last] = block;
    this.#previous[block] = last;
    this.#next[block] = this.numBlocks;
    this.#previous[this.numBlocks] = block;
    this.#numFree++;
  }

  #removeFree(block: number): void {
    this.#next[this.#previous[block]] = this.#next[block];
    this.#previous[this.#next[block]] = this.#previous[block];
    this.#numFree--;
  }
}
