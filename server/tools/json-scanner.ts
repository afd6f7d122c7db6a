// Finds the end of one JSON value that arrives piece by piece, without parsing it.

export class JsonScanner {
  #depth = 0;
  #inString = false;
  #escaped = false;
  #started = false;
  #isDone = false;

  /** The value is complete. */
  get isDone(): boolean {
    return this.#isDone;
  }

  /** Takes more text, the value's first character first; returns how much of it belongs to the value. */
  push(text: string): number {
    for (let i = 0; i < text.length; i++) {
      if (this.#isDone) return i;
      this.#next(text[i]);
      // A bare number or word ends before what cannot be part of it.
      if (this.#isDone && this.#depth < 0) return i;
    }
    return text.length;
  }

  #next(character: string): void {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (character === '\\') this.#escaped = true;
      else if (character === '"') {
        this.#inString = false;
        this.#isDone = this.#depth === 0;
      }
      return;
    }
    if (character === '"') this.#inString = true;
    else if (character === '{' || character === '[') this.#depth++;
    else if (character === '}' || character === ']') {
      this.#depth--;
      this.#isDone = this.#depth <= 0;
    } else if (this.#depth === 0 && this.#started && /[\s,<]/.test(character)) {
      this.#depth = -1;
      this.#isDone = true;
    }
    this.#started = true;
  }
}
