// How much of the engine batches may use at once. Whoever asks first gets first, so that batches take turns.

interface Asking {
  size: number;
  isAlone: boolean;
  granted: () => void;
}

export class Slots {
  readonly #capacity: number;
  readonly #load: { numSequences: number };
  readonly #asking: Asking[] = [];
  /** Whoever holds what is taken wanted nobody beside it. */
  #isAlone = false;

  /** `load` is kept up to date. */
  constructor(capacity: number, load: { numSequences: number }) {
    this.#capacity = capacity;
    this.#load = load;
  }

  /**
   * Resolves with true once there is room, and nobody else if `isAlone`, or with false when the signal fires
   * before.
   */
  take(size: number, signal: AbortSignal, isAlone = false): Promise<boolean> {
    if (signal.aborted) return Promise.resolve(false);
    return new Promise((resolve) => {
      const asking = { size, isAlone, granted: () => settle(true) };
      const leave = () => {
        this.#asking.splice(this.#asking.indexOf(asking), 1);
        settle(false);
        this.#grant();
      };
      const settle = (isGranted: boolean) => {
        signal.removeEventListener('abort', leave);
        resolve(isGranted);
      };
      signal.addEventListener('abort', leave);
      this.#asking.push(asking);
      this.#grant();
    });
  }

  release(size: number): void {
    this.#load.numSequences -= size;
    this.#grant();
  }

  /** One that is larger than everything gets everything. */
  #grant(): void {
    for (let next = this.#asking[0]; next !== undefined; next = this.#asking[0]) {
      const used = this.#load.numSequences;
      if (used > 0 && (next.isAlone || this.#isAlone || used + next.size > this.#capacity)) return;
      this.#asking.shift();
      this.#isAlone = next.isAlone;
      this.#load.numSequences += next.size;
      next.granted();
    }
  }
}
