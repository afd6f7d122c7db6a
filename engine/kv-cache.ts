// Blocks for requests: finds cached prefixes, allocates what a request needs next, remembers full blocks.

import { createHash } from 'node:crypto';
import type { BlockPool } from './block-pool.ts';
import type { Request } from './request.ts';

export class KvCache {
  readonly #pool: BlockPool;
  readonly #blockSize: number;
  readonly #enablePrefixCaching: boolean;

  constructor(pool: BlockPool, blockSize: number, enablePrefixCaching: boolean) {
    this.#pool = pool;
    this.#blockSize = blockSize;
    this.#enablePrefixCaching = enablePrefixCaching;
  }

  /** 0..1 of the usable blocks. */
  get usage(): number {
    return 1 - this.#pool.numFree / this.#pool.numUsable;
  }

  /**
   * Blocks of the longest cached prefix. Never the whole sequence: the last token is always computed, because
   * its logits are wanted. A request that reports prompt log-probabilities needs every row computed, so it
   * finds nothing.
   */
  findPrefix(request: Request): number[] {
    const blocks: number[] = [];
    if (!this.#enablePrefixCaching || request.wantsPromptLogprobs) return blocks;
    const maxBlocks = Math.floor((request.numTokens - 1) / this.#blockSize);
    for (let i = 0; i < maxBlocks; i++) {
      const block = this.#pool.find(this.#hashOf(request, i), this.#tokensOf(request, i));
      if (block === null) break;
      blocks.push(block);
    }
    return blocks;
  }

  /**
   * Whether all known tokens of a request without blocks had room, behind its prefix, if the requests of
   * `without` held nothing. All of them at once: chunks of several long prompts could otherwise starve one
   * another.
   */
  hasRoom(request: Request, prefix: readonly number[], without: readonly Request[]): boolean {
    const freed = this.#heldOnlyBy(without);
    const numShared = prefix.filter((block) => !this.#pool.isFree(block) && !freed.has(block)).length;
    return Math.ceil(request.numTokens / this.#blockSize) - numShared <= this.#pool.numFree + freed.size;
  }

  #heldOnlyBy(requests: readonly Request[]): Set<number> {
    const numHolders = new Map<number, number>();
    for (const { blocks } of requests) {
      for (const block of blocks) numHolders.set(block, (numHolders.get(block) ?? 0) + 1);
    }
    const held = [...numHolders].filter(([block, count]) => count === this.#pool.refCount(block));
    return new Set(held.map(([block]) => block));
  }

  /** Gives a request without blocks its prefix and room for all its known tokens; hasRoom() must hold. */
  admit(request: Request, prefix: readonly number[]): void {
    this.#pool.hold(prefix);
    const blocks = this.#pool.allocate(Math.ceil(request.numTokens / this.#blockSize) - prefix.length);
    if (blocks === null) throw new Error('a request is admitted without room for it');
    request.blocks.push(...prefix, ...blocks);
    request.numCachedBlocks = prefix.length;
  }

  /**
   * Room for the next `numNew` tokens of a running request; false, and nothing changed, when the pool would
   * not keep numKept blocks free.
   */
  extend(request: Request, numNew: number, numKept = 0): boolean {
    const numNeeded =
      Math.ceil((request.numComputedTokens + numNew) / this.#blockSize) - request.blocks.length;
    if (numNeeded <= 0) return true;
    if (numNeeded + numKept > this.#pool.numFree) return false;
    request.blocks.push(...(this.#pool.allocate(numNeeded) ?? []));
    return true;
  }

  /**
   * Makes the blocks that are full of computed and known tokens findable. Called when their computation is
   * planned, so that requests of the same step can share them: a layer writes all its keys before it reads
   * any.
   */
  cacheFullBlocks(request: Request): void {
    if (!this.#enablePrefixCaching) return;
    const numFull = Math.floor(Math.min(request.numComputedTokens, request.numTokens) / this.#blockSize);
    for (let i = request.numCachedBlocks; i < numFull; i++) {
      this.#pool.cache(request.blocks[i], this.#hashOf(request, i), this.#tokensOf(request, i));
    }
    request.numCachedBlocks = Math.max(request.numCachedBlocks, numFull);
  }

  /** Gives everything back. Idempotent. */
  free(request: Request): void {
    this.#pool.release(request.blocks);
    request.blocks.length = 0;
    request.numCachedBlocks = 0;
  }

  forgetFree(): void {
    this.#pool.forgetFree();
  }

  #tokensOf(request: Request, block: number): Int32Array {
    return request.tokens(block * this.#blockSize, (block + 1) * this.#blockSize);
  }

  /**
   * Hash of everything up to and with full block i: of the parent's hash (the salt, for the first) and the
   * tokens.
   */
  #hashOf(request: Request, i: number): string {
    for (let block = request.blockHashes.length; block <= i; block++) {
      const parent = block === 0 ? `salt:${request.spec.cacheSalt}` : request.blockHashes[block - 1];
      const tokenIds = this.#tokensOf(request, block);
      const bytes = new Uint8Array(tokenIds.buffer, tokenIds.byteOffset, tokenIds.byteLength);
      request.blockHashes.push(createHash('sha256').update(parent).update(bytes).digest('binary'));
    }
    return request.blockHashes[i];
  }
}
