// n choices of one prompt, which arrive in the same step, compute its full blocks once.

import { describe, expect, it } from 'vitest';
import { checkedLoop, engineRequest, runToEnd, testVocabSize } from './requests.ts';

describe('n choices of one prompt', () => {
  it.each([
    // 5 full blocks are shared, 3 tokens lie in the block after them, which each choice has to itself.
    { numPromptTokens: 43, numShared: 40 },
    // A choice always computes the last token of its prompt, here of a full block.
    { numPromptTokens: 40, numShared: 32 },
  ])('compute $numShared of $numPromptTokens tokens once', ({ numPromptTokens, numShared }) => {
    const n = 6;
    const prompt = Array.from({ length: numPromptTokens }, (_, i) => (i * 7) % testVocabSize);
    const run = (enablePrefixCaching: boolean) => {
      const loop = checkedLoop({ maxNumBatchedTokens: 512, enablePrefixCaching });
      for (let handle = 1; handle <= n; handle++) {
        loop.handle({ type: 'add', request: engineRequest(handle, prompt, { seed: [handle, 0] }) });
      }
      return runToEnd(loop);
    };
    const shared = run(true);
    const [{ stats, prefilled }] = shared.steps;
    expect(prefilled.map(({ numCachedTokens }) => numCachedTokens)).toEqual([
      0,
      ...Array(n - 1).fill(numShared),
    ]);
    expect(stats.numPromptTokens - stats.numCachedPromptTokens).toBe(
      n * numPromptTokens - (n - 1) * numShared,
    );
    const alone = run(false);
    for (let handle = 1; handle <= n; handle++) {
      expect(shared.of(handle).tokenIds).toEqual(alone.of(handle).tokenIds);
    }
  });
});
