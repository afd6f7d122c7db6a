// Beam search: of all continuations of the kept texts (beams) the likeliest are kept, token by token. The
// same choices as transformers' with early_stopping False.

import type { TokenLogprobs } from './messages.ts';

export interface Beam {
  /** Output so far. */
  tokens: readonly TokenLogprobs[];
  /** Log-probability of all of them together. */
  logprob: number;
}

export interface EndedBeam extends Beam {
  /** logprob / length ** lengthPenalty. */
  score: number;
  /** Its last token is one of those that end an output; else it is as long as it may be. */
  isStopped: boolean;
}

export interface BeamLimits {
  /** Beams that are kept, and given in the end. */
  width: number;
  /** Above 0 favours long outputs, below 0 short ones. */
  lengthPenalty: number;
  /** At least 1. */
  maxTokens: number;
  /** Tokens that end an output. */
  endTokenIds: ReadonlySet<number>;
}

export class BeamSearch {
  readonly #limits: BeamLimits;
  #running: Beam[] = [{ tokens: [], logprob: 0 }];
  /** Best first, at most width. */
  #ended: EndedBeam[] = [];
  #length = 0;

  constructor(limits: BeamLimits) {
    this.#limits = limits;
  }

  /** Likeliest first; every one wants its next token. Empty when the search is over. */
  get running(): readonly Beam[] {
    return this.#running;
  }

  /** Best first. */
  get ended(): readonly EndedBeam[] {
    return this.#ended;
  }

  /**
   * Continuations of each that have to be known: with the ones that end an output left out, width remain, as
   * many as the next step may want.
   */
  get numWanted(): number {
    return this.#limits.width + this.#limits.endTokenIds.size;
  }

  /** next[i]: the likeliest continuations of running[i]. */
  advance(next: ReadonlyArray<readonly TokenLogprobs[]>): void {
    const { width, maxTokens, endTokenIds } = this.#limits;
    this.#length++;
    const candidates = this.#running
      .flatMap(({ tokens, logprob }, i) =>
        next[i].map((token) => ({ tokens: [...tokens, token], token, logprob: logprob + token.logprob })),
      )
      .sort((a, b) => b.logprob - a.logprob);
    const isLast = this.#length === maxTokens;
    const ends = ({ token }: { token: TokenLogprobs }) => endTokenIds.has(token.tokenId);
    const ended = candidates.slice(0, width).filter((candidate) => isLast || ends(candidate));
    this.#end(ended.map((candidate) => ({ ...candidate, isStopped: ends(candidate) })));
    this.#running = isLast ? [] : candidates.filter((candidate) => !ends(candidate)).slice(0, width);
    if (!this.#canImprove()) this.#running = [];
  }

  #scoreOf(logprob: number): number {
    return logprob / this.#length ** this.#limits.lengthPenalty;
  }

  #end(beams: ReadonlyArray<Beam & { isStopped: boolean }>): void {
    const scored = beams.map(({ tokens, logprob, isStopped }) => ({
      tokens,
      logprob,
      isStopped,
      score: this.#scoreOf(logprob),
    }));
    this.#ended = [...this.#ended, ...scored].sort((a, b) => b.score - a.score).slice(0, this.#limits.width);
  }

  /** Some that ended may yet be beaten by the likeliest that runs, taken as if it ended now. */
  #canImprove(): boolean {
    const [best] = this.#running;
    const worst = this.#ended.at(-1);
    if (best === undefined) return false;
    if (worst === undefined || this.#ended.length < this.#limits.width) return true;
    return this.#scoreOf(best.logprob) > worst.score;
  }
}
