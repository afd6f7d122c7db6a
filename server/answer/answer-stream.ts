// One choice's answer on its way to the client: text in, events out.

import { type AnswerEvent, EventWriter } from './events.ts';
import { type AnswerContext, type AnswerFormat, isPlainText, readAnswer } from './formats.ts';
import { type Reading, TextInput } from './text-input.ts';

export interface AnswerOptions extends AnswerContext {
  /** parallel_tool_calls is false. */
  onlyOneCall: boolean;
}

export class AnswerStream {
  readonly #input = new TextInput();
  readonly #out: EventWriter;
  /** Nothing is read: text comes out at once, with all its white space. */
  readonly #isPlainText: boolean;
  readonly #reading: Reading<void>;
  /** Where the tokens begin of which it is not known yet what they belong to. */
  readonly #undecided: number[] = [];
  #numTokenCharacters = 0;
  #numReasoningTokens = 0;

  constructor(format: AnswerFormat, options: AnswerOptions) {
    this.#out = new EventWriter({
      tools: options.tools,
      onlyOneCall: options.onlyOneCall,
      callIds: format.tools?.callIds ?? 'long',
    });
    this.#isPlainText = isPlainText(format, options.readsCalls);
    this.#reading = readAnswer(format, this.#input, this.#out, options);
  }

  /**
   * Takes more text and returns what it makes certain. `tokenLengths`: characters of each of its tokens,
   * where
   * they are counted.
   */
  push(text: string, tokenLengths: readonly number[] = []): AnswerEvent[] {
    if (this.#isPlainText) return text === '' ? [] : [{ type: 'content', text }];
    this.#input.push(text);
    this.#reading.next();
    for (const length of tokenLengths) {
      this.#undecided.push(this.#numTokenCharacters);
      this.#numTokenCharacters += length;
    }
    this.#decide(this.#input.numSettled);
    return this.#out.take();
  }

  /** Nothing follows; what was held back comes out. */
  finish(): AnswerEvent[] {
    this.#input.end();
    this.#reading.next();
    this.#out.finish();
    this.#decide(Number.POSITIVE_INFINITY);
    return this.#out.take();
  }

  /**
   * Tokens of the reasoning, without its marks; of those whose lengths were given and whose text was read.
   */
  get numReasoningTokens(): number {
    return this.#numReasoningTokens;
  }

  #decide(numSettled: number): void {
    const firstOpen = this.#undecided.findIndex((at) => at >= numSettled);
    const decided = this.#undecided.splice(0, firstOpen < 0 ? this.#undecided.length : firstOpen);
    // A stop string cuts text whose tokens count.
    const last = this.#input.numRead - 1;
    this.#numReasoningTokens += decided.filter((at) => this.#out.isReasoned(Math.min(at, last))).length;
  }
}
