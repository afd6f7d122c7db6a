// Writes a step's plan into the arena's arrays (native/batch.h). The only place where requests become
// numbers.

import { allowsMoreThan, maskWords } from './grammar/grammar.ts';
import { maxLogitBias, type NativeModel } from './native.ts';
import type { Request } from './request.ts';
import type { ScheduledRequest, StepPlan } from './scheduler.ts';

/** What one logits row of the step is for. */
export interface LogitsRow {
  request: Request;
  /**
   * The position whose token's log-probability the row reports; null for the row that samples the next token.
   */
  promptPosition: number | null;
  /** Drafted tokens before the one that it samples; a request's rows follow one another from 0 on. */
  numDrafted: number;
  /** The request's output tokens with the one that it samples. */
  numOutputTokens: number;
}

export interface StepRows {
  logitsRows: LogitsRow[];
  /** Requests that get the hidden state of their last token, by its row in the batch. */
  hiddenRows: Request[];
}

export interface BatchLayout {
  blockSize: number;
  /** Entries of one row of the block table. */
  maxBlocksPerSeq: number;
  vocabSize: number;
}

/** The tokens that a request's grammar allows after so many drafted ones, one bit each; null for all. */
export type MaskOf = (request: Request, numDrafted: number) => Uint32Array | null;

/** vLLM's floor: below it the division of logits by the temperature loses its meaning in f32. */
const minTemperature = 0.01;

/** What a step computes: its tokens, and where they lie. */
export function fillTokens(model: NativeModel, { scheduled }: StepPlan, layout: BatchLayout): void {
  const { batch } = model;
  let token = 0;
  batch.queryStartLoc[0] = 0;
  scheduled.forEach(({ request, start, numTokens }, seq) => {
    for (let i = 0; i < numTokens; i++) fillToken(model, request, token + i, start + i, layout);
    fillBlocks(model, request, layout);
    token += numTokens;
    batch.queryStartLoc[seq + 1] = token;
    batch.contextLens[seq] = start + numTokens;
    batch.seqRows[seq] = request.row as number;
    batch.loraRows[seq] = request.adapterSlot;
  });
}

/** What is made of a step's results. A request that has ended meanwhile has no rows. */
export function fillRows(
  model: NativeModel,
  { scheduled }: StepPlan,
  layout: BatchLayout,
  maskOf: MaskOf,
): StepRows {
  const logitsRows: LogitsRow[] = [];
  const hiddenRows: Request[] = [];
  let firstToken = 0;
  for (const one of scheduled) {
    const { request, numTokens, samples } = one;
    if (request.finishReason === null && !request.spec.wantsHiddenState) {
      fillLogitsRows(model, one, firstToken, logitsRows);
    } else if (request.finishReason === null && samples) {
      model.batch.hiddenRows[hiddenRows.length] = firstToken + numTokens - 1;
      hiddenRows.push(request);
    }
    firstToken += numTokens;
  }
  fillAdjustments(model, logitsRows, layout, maskOf);
  logitsRows.forEach(({ request, promptPosition }, row) => {
    if (promptPosition !== null) return;
    request.pendingRow = row;
    request.forgetMask();
  });
  return { logitsRows, hiddenRows };
}

/** What changes the logits of rows before they are sampled: masks, tokens seen, biases. */
export function fillAdjustments(
  model: NativeModel,
  rows: readonly LogitsRow[],
  layout: BatchLayout,
  maskOf: MaskOf,
): void {
  const masks = fillMasks(model, rows, layout, maskOf);
  fillLists(model, rows, layout, masks);
}

/** Stands for the token that the step launched before samples for the request. */
function pendingId({ pendingRow }: Request): number {
  return -1 - pendingRow;
}

function fillBlocks({ batch }: NativeModel, request: Request, { maxBlocksPerSeq }: BatchLayout): void {
  const row = (request.row as number) * maxBlocksPerSeq;
  for (let i = request.numBlocksInRow; i < request.blocks.length; i++) {
    batch.blockTable[row + i] = request.blocks[i];
  }
  request.numBlocksInRow = request.blocks.length;
}

function fillToken(
  { batch }: NativeModel,
  request: Request,
  token: number,
  position: number,
  { blockSize }: BatchLayout,
): void {
  const block = request.blocks[Math.floor(position / blockSize)];
  const isKnown = position < request.numTokens + request.numDraftTokens;
  batch.tokenIds[token] = isKnown ? request.tokenAt(position) : pendingId(request);
  batch.positions[token] = position;
  batch.slotMapping[token] = block * blockSize + (position % blockSize);
}

/**
 * A row for every prompt token whose log-probability is wanted and not yet reported, and those that sample:
 * one after the newest token, and one after each drafted token.
 */
function fillLogitsRows(
  model: NativeModel,
  { request, start, numTokens, numDraftTokens, samples }: ScheduledRequest,
  firstToken: number,
  rows: LogitsRow[],
): void {
  const end = start + numTokens;
  if (request.wantsPromptLogprobs) {
    const last = Math.min(end, request.numPromptTokens - 1);
    for (let position = request.numPromptLogprobsDone; position <= last; position++) {
      // The token at `position` is predicted by the row before it.
      fillTargetRow(model, request, rows.length, firstToken + position - 1 - start, position);
      rows.push({ request, promptPosition: position, numDrafted: 0, numOutputTokens: 0 });
    }
    request.numPromptLogprobsDone = Math.max(request.numPromptLogprobsDone, last + 1);
  }
  // The one that the last row samples is planned as well.
  const numKnown = request.numPlannedOutputTokens - numDraftTokens;
  for (let numDrafted = 0; samples && numDrafted <= numDraftTokens; numDrafted++) {
    const token = firstToken + numTokens - 1 - numDraftTokens + numDrafted;
    fillSamplingRow(model, request, rows.length, token);
    rows.push({ request, promptPosition: null, numDrafted, numOutputTokens: numKnown + numDrafted });
  }
}

function fillTargetRow(
  { batch }: NativeModel,
  request: Request,
  row: number,
  token: number,
  position: number,
): void {
  batch.logitsRows[row] = token;
  batch.targetTokenIds[row] = request.tokenAt(position);
  batch.numLogprobs[row] = request.spec.numPromptLogprobs;
  batch.temperature[row] = 0;
  batch.grammarRows[row] = -1;
}

export function fillSamplingRow({ batch }: NativeModel, { spec }: Request, row: number, token: number): void {
  batch.logitsRows[row] = token;
  batch.targetTokenIds[row] = -1;
  batch.numLogprobs[row] = spec.numLogprobs;
  batch.temperature[row] = spec.temperature > 0 ? Math.max(spec.temperature, minTemperature) : 0;
  batch.topP[row] = spec.topP;
  batch.minP[row] = spec.minP;
  batch.topK[row] = spec.topK;
  batch.seeds[2 * row] = spec.seed[0];
  batch.seeds[2 * row + 1] = spec.seed[1];
  batch.repetitionPenalty[row] = spec.repetitionPenalty;
  batch.presencePenalty[row] = spec.presencePenalty;
  batch.frequencyPenalty[row] = spec.frequencyPenalty;
  batch.grammarRows[row] = -1;
}

/** What the grammar allows, or the request; the server lets none have both. */
function allowedOf({ allowedTokens }: Request, mask: Uint32Array | null): Uint32Array | null {
  return mask ?? allowedTokens;
}

/** The masks of the rows that sample under a grammar; neighbours with the same one share its place. */
function fillMasks(
  { batch }: NativeModel,
  rows: readonly LogitsRow[],
  { vocabSize }: BatchLayout,
  maskOf: MaskOf,
): Map<number, Uint32Array> {
  const masks = new Map<number, Uint32Array>();
  const numWords = maskWords(vocabSize);
  let numPlaces = 0;
  rows.forEach(({ request, promptPosition, numDrafted }, row) => {
    const mask = promptPosition === null ? allowedOf(request, maskOf(request, numDrafted)) : null;
    if (mask === null) return;
    if (masks.get(row - 1) !== mask) {
      const start = numPlaces++ * numWords;
      // A list of allowed tokens ends with its last.
      batch.grammarBitmask.fill(0, start, start + numWords);
      batch.grammarBitmask.set(mask.subarray(0, numWords), start);
    }
    batch.grammarRows[row] = numPlaces - 1;
    masks.set(row, mask);
  });
  return masks;
}

/**
 * The sparse lists: tokens seen (where a penalty needs them) and logit_bias, with stop tokens forbidden
 * before minTokens.
 */
function fillLists(
  model: NativeModel,
  rows: readonly LogitsRow[],
  { vocabSize }: BatchLayout,
  masks: ReadonlyMap<number, Uint32Array>,
): void {
  const numCounts = rows.reduce((sum, row) => sum + numCountsOf(row), 0);
  if (numCounts > model.batch.tokenCountIds.length) model.reserveTokenCounts(2 * numCounts);
  const { batch } = model;
  let count = 0;
  let bias = 0;
  batch.tokenCountStart[0] = 0;
  batch.logitBiasStart[0] = 0;
  rows.forEach((row, i) => {
    const { request, promptPosition, numDrafted } = row;
    if (promptPosition === null && request.tokenCounts !== null) {
      const drafted = request.tokens(request.numTokens, request.numTokens + numDrafted);
      count = request.tokenCounts.write(batch.tokenCountIds, batch.tokenCounts, count, drafted);
      if (isFedBack(request)) {
        batch.tokenCountIds[count] = pendingId(request);
        batch.tokenCounts[count++] = 1;
      }
    }
    if (promptPosition === null) {
      for (const [tokenId, value] of biasOf(row, masks.get(i))) {
        // A draft model may have fewer ids.
        if (tokenId >= vocabSize) continue;
        batch.logitBiasIds[bias] = tokenId;
        batch.logitBiasValues[bias++] = value;
      }
    }
    batch.tokenCountStart[i + 1] = count;
    batch.logitBiasStart[i + 1] = bias;
  });
}

/** The token before the one that this step samples (pending already) is not known either. */
function isFedBack({ numPendingTokens, numDraftTokens }: Request): boolean {
  return numPendingTokens > 1 + numDraftTokens;
}

function numCountsOf({ request, promptPosition, numDrafted }: LogitsRow): number {
  if (promptPosition !== null || request.tokenCounts === null) return 0;
  return request.tokenCounts.size + numDrafted + (isFedBack(request) ? 1 : 0);
}

/** Outweighs every logit, and leaves room for the arithmetic of f32. */
const forcingBias = 1e9;

function biasOf(
  { request, numDrafted, numOutputTokens }: LogitsRow,
  mask: Uint32Array | undefined,
): ReadonlyArray<readonly [number, number]> {
  const { spec } = request;
  const mayStop = numOutputTokens > spec.minTokens;
  // Reasoning before what a grammar holds does not end the output.
  const mayEnd = mayStop && (mask !== undefined || spec.grammar === null);
  const ends = [...(mayEnd ? [] : spec.eosTokenIds), ...(mayStop ? [] : spec.stopTokenIds)];
  const unwanted = [...ends, ...request.forbiddenTokenIds(numDrafted)];
  // Where nothing else is allowed, neither minTokens nor bad words can be had.
  const forbidden = mask === undefined || allowsMoreThan(mask, unwanted) ? unwanted : [];
  const forced = request.reasoning?.forcedTokenId ?? null;
  if (forbidden.length === 0 && forced === null) return spec.logitBias;
  const all: Array<readonly [number, number]> = [...spec.logitBias];
  for (const id of forbidden) if (id !== forced) all.push([id, Number.NEGATIVE_INFINITY]);
  if (forced !== null) all.push([forced, forcingBias]);
  if (all.length > maxLogitBias) throw new Error(`${all.length} logit_bias entries exceed ${maxLogitBias}`);
  return all;
}
