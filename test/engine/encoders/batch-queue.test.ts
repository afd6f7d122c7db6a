import { describe, expect, it } from 'vitest';
import { BatchQueue, type Waiting } from '../../../engine/encoders/batch-queue.ts';
import { randomInts } from '../random.ts';

function item(length: number): Waiting {
  const input = { tokenIds: new Int32Array(length), typeIds: new Uint8Array(length) };
  return { input, resolve: () => {}, reject: () => {} };
}

const lengths = (batch: Waiting[]) => batch.map(({ input }) => input.tokenIds.length);

describe('a queue of inputs', () => {
  it('takes the oldest and what is most like it', () => {
    const queue = new BatchQueue(100);
    queue.add([10, 90, 12, 50, 9, 11].map(item));
    expect(lengths(queue.take())).toEqual([10, 9, 11, 12]);
    expect(lengths(queue.take())).toEqual([90]);
    expect(lengths(queue.take())).toEqual([50]);
    expect(queue.take()).toEqual([]);
  });

  it('counts padding', () => {
    const queue = new BatchQueue(100);
    queue.add([30, 30, 34].map(item));
    expect(lengths(queue.take())).toEqual([30, 30]);
    expect(queue.numTokens).toBe(34);
  });

  it('runs an input that is longer than a batch alone', () => {
    const queue = new BatchQueue(100);
    queue.add([500, 1].map(item));
    expect(lengths(queue.take())).toEqual([500]);
  });

  it('forgets what nobody waits for any more', () => {
    const queue = new BatchQueue(100);
    const [gone, stays] = [item(5), item(6)];
    queue.add([gone, stays]);
    queue.remove(new Set([gone]));
    expect(queue.numTokens).toBe(6);
    expect(queue.take()).toEqual([stays]);
  });

  it.each([1, 2, 3])('gives everything once, and no batch more than it may have (seed %i)', (seed) => {
    const next = randomInts(seed);
    const queue = new BatchQueue(256);
    const items = Array.from({ length: 3000 }, () => item(next(1, 300)));
    queue.add(items);
    const taken: Waiting[] = [];
    for (let batch = queue.take(); batch.length > 0; batch = queue.take()) {
      const padded = batch.length * Math.max(...lengths(batch));
      expect(batch.length === 1 || padded <= 256).toBe(true);
      taken.push(...batch);
    }
    expect(new Set(taken)).toEqual(new Set(items));
    expect(taken.length).toBe(items.length);
    expect(queue.numTokens).toBe(0);
  });
});
