// What a step has done, in numbers.

/**
 * Gauges after a step and counts of what it did; the arithmetic of FIELD's vLLM metrics is built on these.
 */
export interface StepStats {
  numRunning: number;
  numWaiting: number;
  /** 0..1, of usable blocks. */
  kvCacheUsage: number;
  /** Prompt tokens of requests whose prefill completed in this step (cached ones included). */
  numPromptTokens: number;
  /** Of those, tokens taken from the prefix cache. */
  numCachedPromptTokens: number;
  numGenerationTokens: number;
  /** Tokens looked up and found at admission (vllm:prefix_cache_queries / _hits). */
  prefixCacheQueries: number;
  prefixCacheHits: number;
  numPreemptions: number;
  /** Drafts that the step verified, their tokens, and the accepted ones by their place in the draft. */
  numDrafts: number;
  numDraftTokens: number;
  numAcceptedByPosition: number[];
  stepMs: number;
}

/** Nothing was done and nothing waits. */
export function emptyStats(): StepStats {
  return {
    numRunning: 0,
    numWaiting: 0,
    kvCacheUsage: 0,
    numPromptTokens: 0,
    numCachedPromptTokens: 0,
    numGenerationTokens: 0,
    prefixCacheQueries: 0,
    prefixCacheHits: 0,
    numPreemptions: 0,
    numDrafts: 0,
    numDraftTokens: 0,
    numAcceptedByPosition: [],
    stepMs: 0,
  };
}
