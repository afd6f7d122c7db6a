// The distinct tokens of one sequence and how often each occurs in its output, as the flat lists penalties
// need.

export class TokenCounts {
  readonly #indexOf = new Map<number, number>();
  #ids: Int32Array = new Int32Array(64);
  #counts: Int32Array = new Int32Array(64);
  #size = 0;

  constructor(promptTokenIds: Int32Array) {
    for (const tokenId of promptTokenIds) this.#find(tokenId);
  }

  get size(): number {
    return this.#size;
  }

  /** [size] distinct ids in order of first appearance. */
  get ids(): Int32Array {
    return this.#ids.subarray(0, this.#size);
  }

  /** [size] occurrences in the output; 0 for tokens of the prompt alone. */
  get counts(): Int32Array {
    return this.#counts.subarray(0, this.#size);
  }

  /**
   * Writes both lists, as they will be when `next` is part of the output too, into the given ones from `start`
   * on; returns their end. They need room for size + next.length entries.
   */
  write(ids: Int32Array, counts: Int32Array, start: number, next: Int32Array): number {
    ids.set(this.ids, start);
    counts.set(this.counts, start);
    let end = start + this.#size;
    for (const tokenId of next) {
      const known = this.#indexOf.get(tokenId);
      let at = known === undefined ? start + this.#size : start + known;
      if (known === undefined) while (at < end && ids[at] !== tokenId) at++;
      if (at === end) {
        ids[end] = tokenId;
        counts[end++] = 0;
      }
      counts[at]++;
    }
    return end;
  }

  addOutput(tokenId: number): void {
    this.#counts[this.#find(tokenId)]++;
  }

  #find(tokenId: number): number {
    const known = this.#indexOf.get(tokenId);
    if (known !== undefined) return known;
    if (this.#size === this.#ids.length) {
      const grow = (list: Int32Array) => {
        const grown = new Int32Array(2 * list.length);
        grown.set(list);
        return grown;
      };
      this.#ids = grow(this.#ids);
      this.#counts = grow(this.#counts);
    }
    const index = this.#size++;
    this.#ids[index] = tokenId;
    this.#indexOf.set(tokenId, index);
    return index;
  }
}
