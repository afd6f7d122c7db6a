// Token ids -> text, as they come. One per choice.
//
// Text leaves only when it is certain: bytes that may still become a character are held back, and so is text
// that may be the beginning of a stop string.

import type { SamplingParams } from './sampling-params.ts';
import type { TokenBytes } from './token-bytes.ts';

/** Where a stop string ended the text. */
export interface TextStop {
  stopString: string;
  /** Output tokens up to and with the one that completed it. */
  numTokens: number;
}

export type DetokenizerOptions = Pick<
  SamplingParams,
  'stop' | 'includeStopStrInOutput' | 'skipSpecialTokens' | 'keptSpecialTokens' | 'minTokens'
>;

export class Detokenizer {
  readonly #tokens: TokenBytes;
  readonly #options: DetokenizerOptions;
  /** Special tokens that are not left out. */
  readonly #kept: ReadonlySet<number | undefined>;
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  /** Text that is not out yet: a possible beginning of a stop string. */
  #held = '';
  #numTokens = 0;
  /** The next token starts the text: nothing of the prompt or the output comes before it. */
  #isFirst: boolean;
  #stop: TextStop | null = null;

  /**
   * promptTokenIds are what the output continues: with any ordinary token before it, the first output token
   * keeps its space.
   */
  constructor(tokens: TokenBytes, promptTokenIds: Iterable<number>, options: DetokenizerOptions) {
    this.#tokens = tokens;
    this.#options = options;
    this.#kept = new Set(options.keptSpecialTokens.map((text) => tokens.addedTokenId(text)));
    this.#isFirst = true;
    for (const id of promptTokenIds) {
      if (tokens.isSpecial(id)) continue;
      this.#isFirst = false;
      break;
    }
  }

  /** Set once a stop string was found; nothing comes out after it. */
  get stopped(): TextStop | null {
    return this.#stop;
  }

  /** Takes the next tokens and returns the text that is certain now. `lengths` gets that of each token. */
  push(tokenIds: Iterable<number>, lengths: number[] = []): string {
    let out = '';
    for (const tokenId of tokenIds) {
      if (this.#stop !== null) break;
      this.#numTokens++;
      const text = this.#textOf(tokenId);
      lengths.push(text.length);
      if (text !== '') out += this.#filter(text);
    }
    return out;
  }

  /** The end without a stop string: what was held back comes out, an incomplete character as U+FFFD. */
  finish(): string {
    if (this.#stop !== null) return '';
    const rest = this.#held + this.#decoder.decode();
    this.#held = '';
    return rest;
  }

  #textOf(tokenId: number): string {
    const { skipSpecialTokens } = this.#options;
    if (skipSpecialTokens && this.#tokens.isSpecial(tokenId) && !this.#kept.has(tokenId)) return '';
    const bytes = this.#tokens.bytesOf(tokenId, this.#isFirst);
    let text = this.#decoder.decode(bytes, { stream: true });
    if (this.#isFirst && this.#tokens.stripsFirstSpace && text.startsWith(' ')) text = text.slice(1);
    if (bytes.length > 0) this.#isFirst = false;
    return text;
  }

  /** Cuts at the stop string that is complete first; holds back the longest tail that may become one. */
  #filter(text: string): string {
    const { stop, minTokens, includeStopStrInOutput } = this.#options;
    if (stop.length === 0) return text;
    // Text of the first minTokens tokens can neither be a stop string nor begin one.
    if (this.#numTokens <= minTokens) return text;
    const joined = this.#held + text;
    let found: { start: number; end: number; stopString: string } | null = null;
    for (const stopString of stop) {
      const start = joined.indexOf(stopString);
      const end = start + stopString.length;
      if (start >= 0 && (found === null || end < found.end)) found = { start, end, stopString };
    }
    if (found !== null) {
      this.#stop = { stopString: found.stopString, numTokens: this.#numTokens };
      this.#held = '';
      return joined.slice(0, includeStopStrInOutput ? found.end : found.start);
    }
    const certain = joined.length - longestBeginning(joined, stop);
    this.#held = joined.slice(certain);
    return joined.slice(0, certain);
  }
}

/** Text of a whole output at once, and what each token adds to it. */
export function wholeText(
  tokens: TokenBytes,
  promptTokenIds: Iterable<number>,
  options: DetokenizerOptions,
  tokenIds: readonly number[],
): { text: string; lengths: number[] } {
  const detokenizer = new Detokenizer(tokens, promptTokenIds, options);
  const lengths: number[] = [];
  const text = detokenizer.push(tokenIds, lengths);
  return { text: text + detokenizer.finish(), lengths };
}

/** Length of the longest tail of `text` that some stop string begins with. */
function longestBeginning(text: string, stop: readonly string[]): number {
  let longest = 0;
  for (const stopString of stop) {
    for (let length = Math.min(stopString.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stopString.slice(0, length))) longest = length;
    }
  }
  return longest;
}
