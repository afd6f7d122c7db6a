// Drafts by a second, smaller model with the same tokens. Between two steps it computes what it lacks of each
// request, and then one token after another, all requests in one step each.
//
// It samples with the request's own parameters, seed and position: where its probabilities are near the
// model's, so is what it draws, at any temperature. What it draws decides nothing else: see drafter.ts.

import { type BatchLayout, fillAdjustments, fillSamplingRow, type LogitsRow } from '../batch.ts';
import type { NativeMemory, NativeModel } from '../native.ts';
import type { Request } from '../request.ts';
import { DraftCache } from './draft-cache.ts';
import type { Drafter, WantedDraft } from './drafter.ts';

export interface DraftModelOptions {
  /** Of a draft. */
  maxTokens: number;
  /** Of a request that is drafted for, the draft included. */
  maxModelLen: number;
  /** Of one step. A prompt that needs more gets its first draft some steps later. */
  maxNumBatchedTokens: number;
  /** The draft model's, with its own vocabulary and the main model's blocks. */
  layout: BatchLayout;
  /** The main model's. */
  vocabSize: number;
}

/** What one request gets of a step. */
interface Turn extends WantedDraft {
  start: number;
  end: number;
}

export class DraftModel implements Drafter {
  readonly maxTokens: number;
  readonly #model: NativeModel;
  readonly #options: DraftModelOptions;
  readonly #cache: DraftCache;
  /** Requests with tokens that the draft model does not have. */
  readonly #foreign = new WeakSet<Request>();

  constructor(model: NativeModel, options: DraftModelOptions) {
    this.maxTokens = options.maxTokens;
    this.#model = model;
    this.#options = options;
    this.#cache = new DraftCache(options.layout.blockSize);
  }

  get memory(): NativeMemory {
    return this.#model.memory;
  }

  allocateKvCache(numBlocks: number): void {
    this.#model.allocateKvCache(numBlocks);
  }

  freeKvCache(): void {
    this.#cache.clear();
    this.#model.freeKvCache();
  }

  propose(wanted: readonly WantedDraft[]): void {
    let turns = this.#catchUp(wanted);
    while (turns.length > 0) turns = this.#step(turns);
  }

  /**
   * What is missing of the requests, as far as it fits in one step, those that lack least first: a long
   * prompt keeps nobody waiting. In the order in which a batch wants them, single tokens first.
   */
  #catchUp(wanted: readonly WantedDraft[]): Turn[] {
    const { maxNumBatchedTokens, maxModelLen, layout } = this.#options;
    const fitting = wanted
      .map(({ request, limit }) => ({
        request,
        limit: Math.min(limit, maxModelLen - request.numTokens),
        numMissing: request.numTokens - this.#cache.numComputed(request),
      }))
      .filter(({ request, limit }) => limit > 0 && !this.#foreign.has(request))
      .sort((a, b) => a.numMissing - b.numMissing);
    const turns: Turn[] = [];
    let numLeft = maxNumBatchedTokens;
    for (const { request, limit } of fitting) {
      // Another request of this step may have filled a block that is shared.
      const start = this.#cache.numComputed(request);
      let end = Math.min(request.numTokens, start + numLeft);
      // Whole blocks, so that a shared one is filled by one request.
      if (end < request.numTokens) end -= end % layout.blockSize;
      if (end <= start || !this.#hasTokens(request, start, end)) continue;
      this.#cache.compute(request, end);
      this.#model.batch.blockTable.set(request.blocks, (request.row as number) * layout.maxBlocksPerSeq);
      turns.push({ request, limit, start, end });
      numLeft -= end - start;
    }
    return turns.sort((a, b) => a.end - a.start - (b.end - b.start));
  }

  #hasTokens(request: Request, start: number, end: number): boolean {
    const isKnown = request.tokens(start, end).every((id) => id < this.#options.layout.vocabSize);
    if (!isKnown) this.#foreign.add(request);
    return isKnown;
  }

  /** Those that drafted a token and may draft another come back for it. */
  #step(turns: readonly Turn[]): Turn[] {
    const { batch } = this.#model;
    const rows: LogitsRow[] = [];
    let token = 0;
    batch.queryStartLoc[0] = 0;
    turns.forEach(({ request, start, end }, seq) => {
      this.#fillTokens(request, start, end, token);
      token += end - start;
      batch.queryStartLoc[seq + 1] = token;
      batch.contextLens[seq] = end;
      batch.seqRows[seq] = request.row as number;
      batch.loraRows[seq] = -1;
      if (!samples(request, end)) return;
      fillSamplingRow(this.#model, request, rows.length, token - 1);
      batch.numLogprobs[rows.length] = -1;
      const numDrafted = request.numDraftTokens;
      const numOutputTokens = request.numOutputTokens + numDrafted + 1;
      rows.push({ request, promptPosition: null, numDrafted, numOutputTokens });
    });
    fillAdjustments(this.#model, rows, this.#options.layout, () => null);
    this.#model.launch(token, turns.length, rows.length);
    this.#model.collect();
    return turns
      .filter(({ request, end }) => samples(request, end))
      .flatMap((turn, row) => this.#take(turn, this.#model.batch.sampledTokenIds[row]));
  }

  #take({ request, limit, end }: Turn, tokenId: number): Turn[] {
    // The draft model's vocabulary may be the larger one.
    if (tokenId >= this.#options.vocabSize) return [];
    request.draft([...request.tokens(request.numTokens, end), tokenId]);
    if (request.numDraftTokens === limit) return [];
    this.#cache.compute(request, end + 1);
    return [{ request, limit, start: end, end: end + 1 }];
  }

  #fillTokens(request: Request, start: number, end: number, firstToken: number): void {
    const { batch } = this.#model;
    const { blockSize } = this.#options.layout;
    for (let position = start; position < end; position++) {
      const at = firstToken + position - start;
      const block = request.blocks[Math.floor(position / blockSize)];
      batch.tokenIds[at] = request.tokenAt(position);
      batch.positions[at] = position;
      batch.slotMapping[at] = block * blockSize + (position % blockSize);
    }
  }
}

/** A turn that ends with the newest token, known or drafted, samples the one after. */
function samples({ numTokens, numDraftTokens }: Request, end: number): boolean {
  return end === numTokens + numDraftTokens;
}
