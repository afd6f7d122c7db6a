// Requests and loops for tests of the scheduling core.

import { EngineLoop, type EngineLoopOptions } from '../../engine/engine-loop.ts';
import type { MatcherApi } from '../../engine/grammar/matchers.ts';
import type { EngineRequest, StepOutput } from '../../engine/messages.ts';
import type { Drafter } from '../../engine/speculation/drafter.ts';
import { CheckedModel } from './checked-model.ts';
import { FakeMatchers } from './fake-matchers.ts';

export const testVocabSize = 50;

export function engineRequest(
  handle: number,
  promptTokenIds: number[],
  overrides: Partial<EngineRequest> = {},
): EngineRequest {
  return {
    handle,
    promptTokenIds: Int32Array.from(promptTokenIds),
    arrivalMs: handle,
    priority: 0,
    cacheSalt: '',
    adapterId: null,
    temperature: 0,
    topP: 1,
    topK: 0,
    minP: 0,
    repetitionPenalty: 1,
    presencePenalty: 0,
    frequencyPenalty: 0,
    logitBias: [],
    badWords: [],
    allowedTokenIds: null,
    reasoning: null,
    seed: [0, 0],
    maxTokens: 8,
    minTokens: 0,
    eosTokenIds: [],
    stopTokenIds: [],
    numLogprobs: -1,
    numPromptLogprobs: -1,
    grammar: null,
    wantsHiddenState: false,
    ...overrides,
  };
}

export const testLimits: EngineLoopOptions = {
  maxNumSeqs: 8,
  maxNumBatchedTokens: 64,
  maxModelLen: 128,
  blockSize: 8,
  longPrefillTokenThreshold: 0,
  numBlocks: 65,
  enablePrefixCaching: true,
  maxLogprobs: 4,
  maxLoras: 2,
  vocabSize: testVocabSize,
  hiddenSize: 3,
  maxDraftedRequests: Number.POSITIVE_INFINITY,
};

/** A loop over a checked model, with a clock that counts its readings. */
export function checkedLoop(
  overrides: Partial<EngineLoopOptions> = {},
  isAsync = false,
  matchers: MatcherApi = new FakeMatchers(testVocabSize),
  drafter: Drafter | null = null,
): EngineLoop {
  const options = { ...testLimits, ...overrides };
  const maxBlocksPerSeq = Math.ceil(options.maxModelLen / options.blockSize);
  const model = new CheckedModel({ ...options, maxBlocksPerSeq }, options.blockSize, isAsync);
  model.allocateKvCache(options.numBlocks);
  let now = 0;
  return new EngineLoop(model, options, matchers, () => now++, drafter);
}

export interface Generated {
  tokenIds: number[];
  promptLogprobs: number[];
  hiddenState: number[] | null;
  finish: string | null;
  numCachedTokens: number | null;
}

/** Collects step outputs by handle. */
export class Outputs {
  readonly byHandle = new Map<number, Generated>();
  readonly steps: StepOutput[] = [];

  of(handle: number): Generated {
    const known = this.byHandle.get(handle);
    if (known !== undefined) return known;
    const fresh: Generated = {
      tokenIds: [],
      promptLogprobs: [],
      hiddenState: null,
      finish: null,
      numCachedTokens: null,
    };
    this.byHandle.set(handle, fresh);
    return fresh;
  }

  /** Null is a step that had to wait for masks. */
  add(output: StepOutput | null): void {
    if (output === null) return;
    this.steps.push(output);
    for (const { handle, numCachedTokens } of output.prefilled)
      this.of(handle).numCachedTokens = numCachedTokens;
    output.handles.forEach((handle, i) => {
      const generated = this.of(handle);
      if (generated.finish !== null) throw new Error(`handle ${handle} got a token after its end`);
      generated.tokenIds.push(output.tokenIds[i]);
    });
    for (const { handle, tokens } of output.promptLogprobs) {
      this.of(handle).promptLogprobs.push(...tokens.map(({ logprob }) => logprob));
    }
    for (const { handle, values } of output.hiddenStates) {
      const generated = this.of(handle);
      if (generated.finish !== null || generated.hiddenState !== null)
        throw new Error(`handle ${handle} got a hidden state too many`);
      generated.hiddenState = [...values];
    }
    for (const { handle, reason } of output.finished) {
      const generated = this.of(handle);
      if (generated.finish !== null) throw new Error(`handle ${handle} ended twice`);
      generated.finish = reason;
    }
  }
}

/** Runs the loop until nothing is left to do. */
export function runToEnd(loop: EngineLoop, outputs = new Outputs()): Outputs {
  for (let steps = 0; loop.hasWork; steps++) {
    if (steps > 100_000) throw new Error('the loop makes no progress');
    outputs.add(loop.step());
  }
  return outputs;
}
