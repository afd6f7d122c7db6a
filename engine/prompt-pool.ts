// Prompts become token ids in worker threads (tinypool), so that a 100,000-token prompt never blocks the HTTP
// thread.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import Tinypool from 'tinypool';
import { readTemplate, type TemplateSource } from './chat-template.ts';
import { EngineEndedError } from './engine-errors.ts';
import { ModelError } from './model-error.ts';
import { type ChatPrompt, type EncodedPrompt, PromptError, type Truncation } from './prompt.ts';
import type { PromptResult, PromptTask, PromptWorkerData } from './prompt-worker.ts';
import type { TokenizerFile } from './tokenizer-file.ts';

export interface PromptPoolOptions {
  modelPath: string;
  tokenizer: TokenizerFile;
  /** Jinja text instead of the model's own template. */
  chatTemplate: string | null;
  /** Worker threads; 1 by default, which leaves the cores to the kernels. */
  threads?: number;
  /** A prompt that takes longer fails, and its worker with it. Default 30,000. */
  timeoutMs?: number;
}

/** Without a prompt, until the worker reads merges that none has needed; about a second for heavy ones. */
const idleMs = 2000;

/**
 * The built worker: threads cannot run TypeScript, so under test the sources use what the build put into
 * dist/.
 */
function workerFile(): string {
  const beside = fileURLToPath(new URL('./prompt-worker.js', import.meta.url));
  const built = fileURLToPath(new URL('../dist/engine/prompt-worker.js', import.meta.url));
  const file = existsSync(beside) ? beside : built;
  if (!existsSync(file)) throw new Error(`${file} does not exist: run npm run build:ts`);
  return file;
}

export class PromptPool {
  readonly #pool: Tinypool;
  readonly #source: TemplateSource;
  readonly #timeoutMs: number;
  readonly #path: string;
  /** One worker was tried. Rejects with ModelError in one line when the tokenizer is broken. */
  readonly ready: Promise<void>;
  /** Resolves with the same line when merges turn out to be broken later: no prompt can be encoded then. */
  readonly died: Promise<Error>;
  #end: (reason: Error) => void = () => {};
  #isOver = false;
  #numRunning = 0;
  #idle: NodeJS.Timeout | null = null;
  #readsMerges = false;

  private constructor(
    source: TemplateSource,
    { tokenizer, threads = 1, timeoutMs = 30_000 }: PromptPoolOptions,
  ) {
    this.#source = source;
    this.#timeoutMs = timeoutMs;
    this.#pool = new Tinypool({
      filename: workerFile(),
      workerData: { tokenizer, source } satisfies PromptWorkerData,
      minThreads: threads,
      maxThreads: threads,
      concurrentTasksPerWorker: 1,
    });
    this.#path = tokenizer.path;
    this.died = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.ready = this.#run({ type: 'try' }).then(
      () => {},
      async (error: Error) => {
        // Or it would start the next worker, to fail like this one.
        await this.close();
        throw this.#unusable(error.message);
      },
    );
    // Whoever waits for it hears of it too.
    this.ready.catch(() => {});
  }

  /** Starts the workers; `ready` tells when one can be used. */
  static async start(options: PromptPoolOptions): Promise<PromptPool> {
    return new PromptPool(await readTemplate(options.modelPath, options.chatTemplate), options);
  }

  /** Jinja text; null when the model has none. */
  get chatTemplate(): string | null {
    return this.#source.template;
  }

  /** As transformers' tokenizer(text, add_special_tokens). */
  encodeText(text: string, addSpecialTokens: boolean, truncation?: Truncation): Promise<EncodedPrompt> {
    return this.#run({ type: 'text', text, addSpecialTokens, truncation });
  }

  /** Throws PromptError when there is no template, or when it refuses the messages. */
  encodeChat(prompt: ChatPrompt): Promise<EncodedPrompt> {
    return this.#run({ type: 'chat', prompt });
  }

  async close(): Promise<void> {
    this.#isOver = true;
    if (this.#idle !== null) clearTimeout(this.#idle);
    await this.#pool.destroy();
  }

  async #run(task: PromptTask): Promise<EncodedPrompt> {
    if (this.#isOver) throw new EngineEndedError('the engine has ended');
    if (this.#idle !== null) clearTimeout(this.#idle);
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), this.#timeoutMs);
    this.#numRunning++;
    try {
      const result: PromptResult = await this.#pool.run(task, { signal: abort.signal });
      if ('error' in result) throw new PromptError(result.error);
      if ('brokenMerges' in result) return this.#endWith(result.brokenMerges);
      return result;
    } catch (error) {
      if (!abort.signal.aborted) throw error;
      throw new PromptError(`the prompt took longer than ${this.#timeoutMs} ms to render and tokenize`);
    } finally {
      clearTimeout(timer);
      this.#numRunning--;
      this.#waitUntilIdle();
    }
  }

  #waitUntilIdle(): void {
    if (this.#numRunning > 0 || this.#readsMerges || this.#isOver) return;
    this.#idle = setTimeout(() => {
      this.#readsMerges = true;
      // Broken merges are told by `died`; when there was no time, the prompt that needs them reads them.
      this.#run({ type: 'merges' }).catch(() => {});
    }, idleMs).unref();
  }

  #endWith(brokenMerges: string): never {
    this.#isOver = true;
    this.#end(this.#unusable(brokenMerges));
    throw new EngineEndedError('the engine has ended');
  }

  #unusable(reason: string): ModelError {
    return new ModelError(`${this.#path} cannot be used: ${reason}`);
  }
}
