// Text that arrives in pieces, for grammars written as if all of it were there: a grammar is a generator that
// yields where it needs more text. What it reads depends on the characters alone, never on the pieces.

/** Yields when the text so far does not decide, and returns what was read. */
export type Reading<T> = Generator<void, T, void>;

type Emit = (text: string) => void;

const isSpace = (character: string) => /\s/.test(character);

export class TextInput {
  /** Text from #base on; read up to #at. */
  #text = '';
  #at = 0;
  #base = 0;
  /** Text from here on stays for since(), nothing does when null; and what of it stands before #base. */
  #keptFrom: number | null = null;
  #kept = '';
  #isEnded = false;
  #isCut = false;

  push(text: string): void {
    if (this.#keptFrom !== null) this.#kept += this.#text.slice(this.#keptInText, this.#at);
    this.#text = this.#text.slice(this.#at) + text;
    this.#base += this.#at;
    this.#at = 0;
  }

  /** Nothing follows. */
  end(): void {
    this.#isEnded = true;
  }

  /** Characters read so far. */
  get numRead(): number {
    return this.#base + this.#at;
  }

  /** Characters read so far whose part is certain: an attempt at a call may still be given back. */
  get numSettled(): number {
    return this.#keptFrom ?? this.numRead;
  }

  /** The last value ran into the end of the text. */
  get isCut(): boolean {
    return this.#isCut;
  }

  /** From this many characters read on, the text stays available to since(). */
  keepFrom(numRead: number): void {
    this.#keptFrom = numRead;
    this.#kept = '';
  }

  release(): void {
    this.#keptFrom = null;
    this.#kept = '';
  }

  /** What was read since then, as it stood there. */
  since(numRead: number): string {
    const kept = this.#kept + this.#text.slice(this.#keptInText, this.#at);
    return kept.slice(numRead - (this.#keptFrom ?? numRead));
  }

  get #keptInText(): number {
    return Math.max(0, (this.#keptFrom ?? 0) - this.#base);
  }

  /** Gives back the last characters that were read, before anything else is read. */
  unread(numCharacters: number): void {
    this.#at -= numCharacters;
  }

  /**
   * Hands over the text before the first of the marks as it becomes certain, reads the mark and returns it;
   * null at the end. No mark may begin another.
   */
  *until(marks: readonly string[], emit: Emit): Reading<string | null> {
    for (;;) {
      let found = -1;
      let first = '';
      for (const mark of marks) {
        const at = this.#text.indexOf(mark, this.#at);
        if (at < 0 || (found >= 0 && found <= at)) continue;
        found = at;
        first = mark;
      }
      if (found >= 0) {
        this.#hand(found, emit);
        this.#at += first.length;
        return first;
      }
      const held = this.#isEnded ? 0 : longestBeginning(this.#text, this.#at, marks);
      this.#hand(this.#text.length - held, emit);
      if (this.#isEnded) return null;
      yield;
    }
  }

  /** Reads the mark that stands here and returns it, or null when none does. */
  *takeAny(marks: readonly string[]): Reading<string | null> {
    for (;;) {
      const mark = marks.find((candidate) => this.#text.startsWith(candidate, this.#at));
      if (mark !== undefined) {
        this.#at += mark.length;
        return mark;
      }
      const rest = this.#text.slice(this.#at, this.#at + 100);
      if (this.#isEnded || !marks.some((candidate) => candidate.startsWith(rest))) return null;
      yield;
    }
  }

  *take(mark: string): Reading<boolean> {
    return (yield* this.takeAny([mark])) !== null;
  }

  /** Reads of the text that stands here as much as is of the mark, which the end may cut. */
  *takeBeginning(mark: string): Reading<void> {
    for (const character of mark) if (!(yield* this.take(character))) return;
  }

  /** The next character, not read; '' at the end. */
  *peek(): Reading<string> {
    while (this.#at === this.#text.length && !this.#isEnded) yield;
    return this.#text[this.#at] ?? '';
  }

  /** Reads characters while they are of the kind. */
  *takeWhile(isKind: (character: string) => boolean): Reading<string> {
    let read = '';
    for (;;) {
      const start = this.#at;
      while (this.#at < this.#text.length && isKind(this.#text[this.#at])) this.#at++;
      read += this.#text.slice(start, this.#at);
      if (this.#at < this.#text.length || this.#isEnded) return read;
      yield;
    }
  }

  *skipSpace(): Reading<string> {
    return yield* this.takeWhile(isSpace);
  }

  /**
   * Hands over one JSON value as it comes, without judging it: a string, what stands between brackets, or a
   * word. Strings are in any of the quotes. False when the text ended before it was complete, or has none
   * here.
   */
  *value(emit: Emit, quotes = '"'): Reading<boolean> {
    const first = yield* this.peek();
    this.#isCut = first === '';
    if (first === '') return false;
    if (!quotes.includes(first) && !'{[('.includes(first)) {
      const word = yield* this.takeWhile((character) => !/[\s,\]})<]/.test(character));
      if (word !== '') emit(word);
      return word !== '';
    }
    const nesting = new Nesting(quotes);
    for (;;) {
      let at = this.#at;
      while (at < this.#text.length && !nesting.isClosed) nesting.push(this.#text[at++]);
      this.#hand(at, emit);
      if (nesting.isClosed) return true;
      if (this.#isEnded) {
        this.#isCut = true;
        return false;
      }
      yield;
    }
  }

  /** A JSON string, decoded; null when none stands here or it is broken. */
  *jsonString(): Reading<string | null> {
    if ((yield* this.peek()) !== '"') return null;
    const literal = yield* this.valueText();
    return literal === null ? null : parsedString(literal);
  }

  /** The text of one JSON value; null when the text ends before it does, or has none here. */
  *valueText(quotes = '"'): Reading<string | null> {
    let text = '';
    const isWhole = yield* this.value((piece) => {
      text += piece;
    }, quotes);
    return isWhole ? text : null;
  }

  #hand(end: number, emit: Emit): void {
    if (end > this.#at) emit(this.#text.slice(this.#at, end));
    this.#at = end;
  }
}

/** Follows brackets and quotes to the end of the value that the first character opens. */
class Nesting {
  readonly #quotes: string;
  #depth = 0;
  #quote = '';
  #isEscaped = false;
  isClosed = false;

  constructor(quotes: string) {
    this.#quotes = quotes;
  }

  push(character: string): void {
    if (this.#quote !== '') {
      if (this.#isEscaped) this.#isEscaped = false;
      else if (character === '\\') this.#isEscaped = true;
      else if (character === this.#quote) {
        this.#quote = '';
        this.isClosed = this.#depth === 0;
      }
    } else if (this.#quotes.includes(character)) this.#quote = character;
    else if ('{[('.includes(character)) this.#depth++;
    else if ('}])'.includes(character)) this.isClosed = --this.#depth === 0;
  }
}

function parsedString(literal: string): string | null {
  try {
    return JSON.parse(literal);
  } catch {
    return null;
  }
}

/** Length of the longest tail of the text, from `start` on, that some mark begins with. */
function longestBeginning(text: string, start: number, marks: readonly string[]): number {
  let longest = 0;
  for (const mark of marks) {
    for (let length = Math.min(mark.length - 1, text.length - start); length > longest; length--) {
      if (text.endsWith(mark.slice(0, length))) longest = length;
    }
  }
  return longest;
}
