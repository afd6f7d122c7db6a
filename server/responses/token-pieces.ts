// Deltas cut at the ends of tokens, so that it is certain to which text a log-probability belongs, however
// the engine's deltas fall.

import type { CompletionDelta, TokenLogprobs } from '../../engine/engine.ts';

export interface TokenPiece {
  text: string;
  /** Of the piece's tokens, where they are counted. */
  lengths: readonly number[];
  logprobs: readonly TokenLogprobs[];
}

interface WaitingToken {
  length: number;
  logprobs: TokenLogprobs;
}

export class TokenPieces {
  #text = '';
  readonly #tokens: WaitingToken[] = [];

  /** The pieces that a delta completes. */
  push({ text, textLengths, logprobs, finishReason }: CompletionDelta): TokenPiece[] {
    if (textLengths === null || logprobs === null) {
      return [{ text, lengths: textLengths ?? [], logprobs: logprobs ?? [] }];
    }
    this.#text += text;
    // Text that ends an answer in the middle of a character has lengths without a token of its own.
    logprobs.forEach((token, i) => {
      this.#tokens.push({ length: textLengths[i] ?? 0, logprobs: token });
    });
    const pieces: TokenPiece[] = [];
    while (this.#tokens.length > 0 && this.#tokens[0].length <= this.#text.length) pieces.push(this.#take());
    if (finishReason !== null) pieces.push(...this.#rest());
    return pieces;
  }

  #take(): TokenPiece {
    const { length, logprobs } = this.#tokens.shift() as WaitingToken;
    const text = this.#text.slice(0, length);
    this.#text = this.#text.slice(length);
    return { text, lengths: [length], logprobs: [logprobs] };
  }

  /** A stop string cut the text: of the tokens it fell into, the first is still seen in part. */
  #rest(): TokenPiece[] {
    const tokens = this.#tokens.splice(0);
    if (this.#text === '' && tokens.length === 0) return [];
    const logprobs = this.#text === '' ? [] : tokens.slice(0, 1).map((token) => token.logprobs);
    return [{ text: this.#text, lengths: tokens.map(({ length }) => length), logprobs }];
  }
}

/** The tokens of which it is not known yet whether they belong to a message's text. */
export class ContentTokens {
  #pieces: TokenPiece[] = [];

  push(piece: TokenPiece): void {
    if (piece.logprobs.length > 0) this.#pieces.push(piece);
  }

  /** They belong to something else. */
  drop(): void {
    this.#pieces = [];
  }

  /** Those of this text, which is the newest; what stands before it was a mark. */
  take(content: string): TokenLogprobs[] {
    const text = this.#pieces.map((piece) => piece.text).join('');
    const from = text.lastIndexOf(content);
    const to = from + content.length;
    let at = 0;
    const taken: TokenLogprobs[] = [];
    const later: TokenPiece[] = [];
    for (const piece of this.#pieces) {
      const end = at + piece.text.length;
      if (from < 0 || at >= to) later.push(piece);
      else if (end > from || at === from) taken.push(...piece.logprobs);
      at = end;
    }
    this.#pieces = from < 0 ? [] : later;
    return taken;
  }
}
