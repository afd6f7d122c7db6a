// What an operator asks of the step loop, and whether it is done: the HTTP thread's end.

import type { ControlAction, ControlResult } from './messages.ts';

/** What was asked cannot be done now; nothing has changed. */
export class ControlError extends Error {
  override name = 'ControlError';
}

interface Asked {
  action: ControlAction;
  done: () => void;
  failed: (error: Error) => void;
}

export class EngineControl {
  readonly #post: (id: number, action: ControlAction) => void;
  readonly #asked = new Map<number, Asked>();
  #nextId = 1;
  #end: Error | null = null;
  #isPaused = false;
  #isSleeping = false;

  constructor(post: (id: number, action: ControlAction) => void) {
    this.#post = post;
  }

  /** No step is started; requests wait. */
  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** The KV cache's memory is given back; requests wait. */
  get isSleeping(): boolean {
    return this.#isSleeping;
  }

  /**
   * Resolves when it is so; no step is under way at that moment. Rejects with ControlError, or with the
   * engine's end.
   */
  ask(action: ControlAction): Promise<void> {
    if (this.#end !== null) return Promise.reject(this.#end);
    const id = this.#nextId++;
    return new Promise((done, failed) => {
      this.#asked.set(id, { action, done, failed });
      this.#post(id, action);
    });
  }

  onResults(results: readonly ControlResult[]): void {
    for (const { id, problem } of results) {
      const asked = this.#asked.get(id);
      this.#asked.delete(id);
      if (problem !== null) {
        asked?.failed(new ControlError(problem));
        continue;
      }
      if (asked?.action === 'pause' || asked?.action === 'resume') this.#isPaused = asked.action === 'pause';
      if (asked?.action === 'sleep' || asked?.action === 'wakeUp')
        this.#isSleeping = asked.action === 'sleep';
      asked?.done();
    }
  }

  /** The engine is gone. */
  end(cause: Error): void {
    this.#end ??= cause;
    for (const { failed } of this.#asked.values()) failed(this.#end);
    this.#asked.clear();
  }
}
