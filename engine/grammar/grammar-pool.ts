// Grammars are compiled in worker threads, each within a time limit, and remembered by what was asked for.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import Tinypool from 'tinypool';
import type { CompileResult } from './compile-worker.ts';
import { type Grammar, type GrammarRequest, heavyLane, lightLane, type Vocabulary } from './grammar.ts';
import { GrammarError } from './grammar-error.ts';

export interface GrammarPoolOptions {
  vocabulary: Vocabulary;
  /** A grammar that takes longer to compile is refused. */
  timeoutMs: number;
}

/** Characters of a request, as JSON. */
const maxRequestLength = 256 * 1024;
/** Grammars that may wait for a thread. */
const maxWaiting = 1000;
const numThreads = 2;
/** Grammars remembered; each has a mask of a bit for each token. */
const maxRemembered = 1000;
/** What takes longer to compile is matched apart from the rest. */
const heavyCompileMs = 250;

/** Under test the sources use what the build put into dist/: threads cannot run TypeScript. */
export function grammarWorker(name: string): URL {
  const beside = new URL(`./${name}.js`, import.meta.url);
  if (existsSync(beside)) return beside;
  const built = new URL(`../../dist/engine/grammar/${name}.js`, import.meta.url);
  if (!existsSync(built)) throw new Error(`${fileURLToPath(built)} does not exist: run npm run build:ts`);
  return built;
}

/** Too many grammars wait to be compiled. */
export class GrammarQueueFullError extends Error {
  override name = 'GrammarQueueFullError';
}

export class GrammarPool {
  readonly #pool: Tinypool;
  readonly #timeoutMs: number;
  /** In the order of their last use, least recent first. Failures are not kept. */
  readonly #grammars = new Map<string, Promise<Grammar>>();
  #numCompiling = 0;
  readonly #waiting: Array<() => void> = [];

  constructor({ vocabulary, timeoutMs }: GrammarPoolOptions) {
    this.#timeoutMs = timeoutMs;
    // Threads start with the first grammar.
    this.#pool = new Tinypool({
      filename: fileURLToPath(grammarWorker('compile-worker')),
      workerData: vocabulary,
      minThreads: 0,
      maxThreads: numThreads,
      concurrentTasksPerWorker: 1,
      idleTimeout: 60_000,
    });
  }

  /** Throws GrammarError, or GrammarQueueFullError. */
  compile(request: GrammarRequest): Promise<Grammar> {
    const text = JSON.stringify(request);
    if (text.length > maxRequestLength) {
      throw new GrammarError(`found ${text.length} characters, allowed: at most ${maxRequestLength}`);
    }
    const key = createHash('sha256').update(text).digest('base64');
    const known = this.#grammars.get(key);
    if (known !== undefined) this.#grammars.delete(key);
    else if (this.#waiting.length >= maxWaiting) {
      throw new GrammarQueueFullError(`${maxWaiting} grammars wait to be compiled, no more may`);
    }
    const grammar = known ?? this.#compileNew(key, text);
    this.#grammars.set(key, grammar);
    if (this.#grammars.size > maxRemembered) {
      for (const [oldest] of this.#grammars) {
        this.#grammars.delete(oldest);
        break;
      }
    }
    return grammar;
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }

  async #compileNew(key: string, text: string): Promise<Grammar> {
    try {
      // The time limit begins when a thread is free.
      if (this.#numCompiling >= numThreads) await new Promise<void>((resolve) => this.#waiting.push(resolve));
      else this.#numCompiling++;
      try {
        return await this.#run(key, text);
      } finally {
        const next = this.#waiting.shift();
        if (next !== undefined) next();
        else this.#numCompiling--;
      }
    } catch (error) {
      this.#grammars.delete(key);
      throw error;
    }
  }

  async #run(key: string, text: string): Promise<Grammar> {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), this.#timeoutMs);
    try {
      const result: CompileResult = await this.#pool.run(text, { signal: abort.signal });
      if ('error' in result) throw new GrammarError(result.error);
      const { source, firstMask, compileMs } = result;
      return { key, source, firstMask, lane: compileMs > heavyCompileMs ? heavyLane : lightLane };
    } catch (error) {
      if (!abort.signal.aborted) throw error;
      throw new GrammarError(`compiling it takes longer than ${this.#timeoutMs / 1000} s`);
    } finally {
      clearTimeout(timer);
    }
  }
}
