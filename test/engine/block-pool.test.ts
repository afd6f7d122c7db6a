import { describe, expect, it } from 'vitest';
import { BlockPool } from '../../engine/block-pool.ts';

const tokens = (...ids: number[]) => Int32Array.from(ids);

describe('the free list', () => {
  it('hands out blocks 1.. in order, never the null block', () => {
    const pool = new BlockPool(5);
    expect(pool.allocate(4)).toEqual([1, 2, 3, 4]);
    expect(pool.allocate(1)).toBeNull();
  });

  it('is least recently used first, a sequence’s tail before its prefix', () => {
    const pool = new BlockPool(11);
    const first = pool.allocate(4) ?? [];
    const second = pool.allocate(3) ?? [];
    pool.release(second);
    pool.release(first);
    expect(pool.freeList()).toEqual([8, 9, 10, 7, 6, 5, 4, 3, 2, 1]);
  });

  it('takes all or nothing', () => {
    const pool = new BlockPool(4);
    expect(pool.allocate(4)).toBeNull();
    expect(pool.numFree).toBe(3);
  });

  it('lets a block leave its middle when it is held again', () => {
    const pool = new BlockPool(6);
    pool.release(pool.allocate(5) ?? []);
    pool.hold([3]);
    expect(pool.freeList()).toEqual([5, 4, 2, 1]);
    expect(pool.refCount(3)).toBe(1);
  });

  it('refuses to release what nobody holds', () => {
    const pool = new BlockPool(3);
    expect(() => pool.release([1])).toThrow('block 1 is released with 0 holders');
    expect(() => pool.release([0])).toThrow();
  });
});

describe('cached content', () => {
  it('is found by hash and equal tokens alone', () => {
    const pool = new BlockPool(4);
    const [block] = pool.allocate(1) ?? [];
    pool.cache(block, 'hash', tokens(1, 2));
    expect(pool.find('hash', tokens(1, 2))).toBe(block);
    expect(pool.find('hash', tokens(1, 3))).toBeNull();
    expect(pool.find('other', tokens(1, 2))).toBeNull();
  });

  it('outlives its holders and dies when the block is taken', () => {
    const pool = new BlockPool(3);
    const [block] = pool.allocate(1) ?? [];
    pool.cache(block, 'hash', tokens(1));
    pool.release([block]);
    expect(pool.find('hash', tokens(1))).toBe(block);
    pool.allocate(1);
    expect(pool.find('hash', tokens(1))).toBe(block);
    pool.allocate(1);
    expect(pool.find('hash', tokens(1))).toBeNull();
  });

  it('keeps equal blocks apart: the oldest is found, the other stays when it goes', () => {
    const pool = new BlockPool(4);
    const [first, second] = pool.allocate(2) ?? [];
    pool.cache(first, 'hash', tokens(1));
    pool.cache(second, 'hash', tokens(1));
    expect(pool.find('hash', tokens(1))).toBe(first);
    pool.release([first]);
    pool.allocate(2);
    expect(pool.find('hash', tokens(1))).toBe(second);
  });

  it('is forgotten of free blocks only', () => {
    const pool = new BlockPool(4);
    const [held, free] = pool.allocate(2) ?? [];
    pool.cache(held, 'a', tokens(1));
    pool.cache(free, 'b', tokens(2));
    pool.release([free]);
    pool.forgetFree();
    expect(pool.find('a', tokens(1))).toBe(held);
    expect(pool.find('b', tokens(2))).toBeNull();
  });
});
