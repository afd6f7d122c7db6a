// A beam search over an engine: each beam's next token is a request of its own, for one token and its
// likeliest alternatives. What they have in common is in the prefix cache, so that such a request computes
// what is not in a full block yet: up to a block of tokens where a plain step computes one.

import type { Beam, BeamLimits, EndedBeam } from './beam-search.ts';
import { BeamSearch } from './beam-search.ts';
import { nowMs } from './clock.ts';
import type { CompletionDelta, GenerateRequest, RequestRecord } from './generation.ts';
import type { FinishReason, TokenLogprobs } from './messages.ts';
import { defaultSamplingParams } from './sampling-params.ts';

/** What a beam search needs of an engine. */
export interface BeamEngine {
  generate(request: GenerateRequest): AsyncIterable<CompletionDelta>;
  /** Text of an output of the request. */
  textOf(tokenIds: readonly number[]): { text: string; lengths: number[] };
  onFinished(record: RequestRecord): void;
}

/** One delta for each of the beams, best first, when all is known. */
export async function* runBeamSearch(
  engine: BeamEngine,
  request: GenerateRequest,
  limits: BeamLimits,
): AsyncGenerator<CompletionDelta> {
  const arrivalMs = request.arrivalMs ?? nowMs();
  const search = new BeamSearch(limits);
  const numLogprobs = Math.max(search.numWanted, request.sampling.logprobs ?? 0);
  let numCachedTokens: number | null = null;
  let problem: FinishReason | null = null;
  while (search.running.length > 0 && problem === null) {
    const parts = await Promise.all(
      search.running.map((beam) => step(engine, { ...request, arrivalMs }, beam, numLogprobs)),
    );
    numCachedTokens ??= parts[0].numCachedTokens;
    problem = parts.find(({ token }) => token === null)?.finishReason ?? null;
    if (problem === null) search.advance(parts.map(({ token }) => alternatives(token, search.numWanted)));
  }
  const nothing = { tokens: [], logprob: 0, score: 0, isStopped: false };
  for (let index = 0; index < limits.width; index++) {
    const beam = problem === null ? search.ended[index] : nothing;
    const delta = deltaOf(engine, request, beam, index, numCachedTokens ?? 0);
    if (problem !== null) Object.assign(delta, { finishReason: problem, stopReason: null });
    engine.onFinished(recordOf(request, limits, delta, arrivalMs));
    yield delta;
  }
}

interface Part {
  /** Null when it ended without one: aborted, or the engine died. */
  token: TokenLogprobs | null;
  numCachedTokens: number;
  finishReason: FinishReason;
}

/** The likeliest token after a beam, with alternatives. */
async function step(
  engine: BeamEngine,
  request: GenerateRequest,
  beam: Beam,
  numLogprobs: number,
): Promise<Part> {
  const promptTokenIds = new Int32Array(request.promptTokenIds.length + beam.tokens.length);
  promptTokenIds.set(request.promptTokenIds);
  beam.tokens.forEach(({ tokenId }, i) => {
    promptTokenIds[request.promptTokenIds.length + i] = tokenId;
  });
  const sampling = {
    ...defaultSamplingParams,
    temperature: 0,
    maxTokens: 1,
    ignoreEos: true,
    logprobs: numLogprobs,
  };
  const part: Part = { token: null, numCachedTokens: 0, finishReason: 'error' };
  for await (const delta of engine.generate({ ...request, promptTokenIds, sampling })) {
    part.token ??= delta.logprobs?.[0] ?? null;
    part.numCachedTokens = delta.numCachedTokens;
    part.finishReason = delta.finishReason ?? part.finishReason;
  }
  return part;
}

/** The same report, as if each of the likeliest tokens had been sampled. */
function alternatives(token: TokenLogprobs | null, count: number): TokenLogprobs[] {
  if (token === null) return [];
  return token.topTokenIds.slice(0, count).map((tokenId, i) => ({
    ...token,
    tokenId,
    logprob: token.topLogprobs[i],
    rank: i + 1,
  }));
}

function deltaOf(
  engine: BeamEngine,
  { sampling }: GenerateRequest,
  { tokens, isStopped }: EndedBeam,
  index: number,
  numCachedTokens: number,
): CompletionDelta {
  const tokenIds = tokens.map(({ tokenId }) => tokenId);
  const last = tokenIds.at(-1) ?? -1;
  const isShown = !isStopped || sampling.includeStopStrInOutput;
  const { text, lengths } = engine.textOf(isShown ? tokenIds : tokenIds.slice(0, -1));
  if (!isShown) lengths.push(0);
  const numTop = sampling.logprobs ?? 0;
  const logprobs = tokens.map((token) => ({
    ...token,
    topTokenIds: token.topTokenIds.slice(0, numTop),
    topLogprobs: token.topLogprobs.slice(0, numTop),
  }));
  return {
    index,
    text,
    tokenIds,
    logprobs: sampling.logprobs === null ? null : logprobs,
    textLengths: sampling.textLengths ? lengths : null,
    promptLogprobs: null,
    finishReason: isStopped ? 'stop' : 'length',
    stopReason: isStopped && sampling.stopTokenIds.includes(last) ? last : null,
    numCachedTokens,
  };
}

function recordOf(
  request: GenerateRequest,
  { width, maxTokens }: BeamLimits,
  { index, numCachedTokens, tokenIds, finishReason }: CompletionDelta,
  arrivalMs: number,
): RequestRecord {
  return {
    requestId: request.requestId,
    index,
    n: width,
    maxTokens,
    numPromptTokens: request.promptTokenIds.length,
    numCachedTokens,
    numOutputTokens: tokenIds.length,
    numPreemptions: 0,
    arrivalMs,
    scheduledMs: null,
    firstTokenMs: null,
    lastTokenMs: null,
    finishedMs: nowMs(),
    finishReason: finishReason ?? 'error',
  };
}
