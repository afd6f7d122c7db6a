// An encoder beside the language model: an embedder, a cross-encoder or a classifier. One thread makes
// tokens, one runs the model, and requests that come meanwhile share its next run.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import Tinypool from 'tinypool';
import { defaultThreads } from '../cpu-cores.ts';
import { ModelError } from '../model-error.ts';
import { PromptError } from '../prompt.ts';
import { BatchQueue, type Waiting } from './batch-queue.ts';
import { type EncoderFiles, readEncoder } from './encoder-files.ts';
import type {
  EncoderInput,
  OnnxOpened,
  OnnxOptions,
  OnnxOutputs,
  OnnxTask,
  TokenizeTask,
} from './encoder-messages.ts';

export type EncoderDescription = OnnxOpened &
  Pick<
    EncoderFiles,
    | 'folder'
    | 'architecture'
    | 'vocabSize'
    | 'maxTokens'
    | 'labels'
    | 'activation'
    | 'pooling'
    | 'normalizes'
    | 'prompts'
    | 'defaultPrompt'
    | 'matryoshkaDimensions'
  >;

/** More tokens wait for the encoder than may. */
export class EncoderQueueFullError extends Error {
  override name = 'EncoderQueueFullError';
}

/** What the server needs of an encoder. */
export interface EncoderApi {
  readonly description: EncoderDescription;
  /** Tokens of each input, in order. Rejects with PromptError when one takes too long. */
  tokenize(tasks: readonly TokenizeTask[], signal: AbortSignal): Promise<EncoderInput[]>;
  /**
   * A classifier's logits, or an embedder's pooled states, of each input. Every input has 1 to `maxTokens`
   * tokens of the vocabulary. Rejects with EncoderQueueFullError, or the signal's reason.
   */
  run(inputs: readonly EncoderInput[], signal: AbortSignal): Promise<Float32Array[]>;
  /** Nobody waits for it. */
  readonly isIdle: boolean;
  close(): Promise<void>;
}

/** On a CPU larger batches only make everyone wait longer. */
const maxBatchTokens = 2048;
const maxWaitingTokens = 1 << 22;
const tokenizeTimeoutMs = 30_000;
/** Texts of one request that are under way to the tokenizer at once. */
const tokenizeWindow = 32;

/** Under test the sources use what the build put into dist/: threads cannot run TypeScript. */
function workerFile(name: string): string {
  const beside = new URL(`./${name}.js`, import.meta.url);
  const built = new URL(`../../dist/engine/encoders/${name}.js`, import.meta.url);
  const file = existsSync(beside) ? beside : built;
  if (!existsSync(file)) throw new Error(`${fileURLToPath(file)} does not exist: run npm run build:ts`);
  return fileURLToPath(file);
}

/** One thread, one task after another. */
const oneThread = { minThreads: 1, maxThreads: 1, concurrentTasksPerWorker: 1 };

export class Encoder implements EncoderApi {
  readonly description: EncoderDescription;
  readonly #tokenizer: Tinypool;
  readonly #model: Tinypool;
  readonly #queue = new BatchQueue(maxBatchTokens);
  #isRunning = false;
  #numOpen = 0;

  /** Reads the folder, starts the threads and tries both. Throws ModelError in one line. */
  static async open(folder: string): Promise<Encoder> {
    const files = await readEncoder(folder);
    const tokenizer = new Tinypool({
      ...oneThread,
      filename: workerFile('tokenize-worker'),
      workerData: files.tokenizer,
    });
    const workerData: OnnxOptions = {
      onnxPath: files.onnxPath,
      padTokenId: files.padTokenId,
      pooling: files.pooling,
      // The rest is the language model's.
      numThreads: Math.max(1, Math.floor(defaultThreads() / 2)),
    };
    const model = new Tinypool({ ...oneThread, filename: workerFile('onnx-worker'), workerData });
    try {
      const opened = await openModel(model, files);
      const encoder = new Encoder(files, opened, tokenizer, model);
      await encoder.#check(files);
      return encoder;
    } catch (error) {
      await Promise.all([tokenizer.destroy(), model.destroy()]);
      throw error;
    }
  }

  private constructor(files: EncoderFiles, opened: OnnxOpened, tokenizer: Tinypool, model: Tinypool) {
    const { onnxPath: _onnx, tokenizer: _text, padTokenId: _pad, ...rest } = files;
    this.description = { ...rest, ...opened };
    this.#tokenizer = tokenizer;
    this.#model = model;
  }

  get isIdle(): boolean {
    return this.#numOpen === 0;
  }

  async tokenize(tasks: readonly TokenizeTask[], signal: AbortSignal): Promise<EncoderInput[]> {
    const inputs: EncoderInput[] = [];
    for (let i = 0; i < tasks.length; i += tokenizeWindow) {
      signal.throwIfAborted();
      const window = tasks.slice(i, i + tokenizeWindow);
      inputs.push(...(await Promise.all(window.map((task) => this.#tokenize(task)))));
    }
    return inputs;
  }

  async run(inputs: readonly EncoderInput[], signal: AbortSignal): Promise<Float32Array[]> {
    signal.throwIfAborted();
    const numTokens = inputs.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0);
    if (this.#queue.numTokens > 0 && this.#queue.numTokens + numTokens > maxWaitingTokens) {
      throw new EncoderQueueFullError(
        `${this.#queue.numTokens} tokens wait for this encoder already, at most ${maxWaitingTokens} may`,
      );
    }
    const items: Waiting[] = [];
    const outputs = inputs.map(
      (input) => new Promise<Float32Array>((resolve, reject) => items.push({ input, resolve, reject })),
    );
    const leave = () => {
      this.#queue.remove(new Set(items));
      for (const { reject } of items) reject(signal.reason);
    };
    signal.addEventListener('abort', leave, { once: true });
    this.#numOpen++;
    this.#queue.add(items);
    this.#runAll();
    try {
      return await Promise.all(outputs);
    } finally {
      this.#numOpen--;
      signal.removeEventListener('abort', leave);
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#tokenizer.destroy(), this.#model.destroy()]);
  }

  async #runAll(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    for (let batch = this.#queue.take(); batch.length > 0; batch = this.#queue.take())
      await this.#runBatch(batch);
    this.#isRunning = false;
  }

  async #runBatch(batch: readonly Waiting[]): Promise<void> {
    const { size } = this.description;
    try {
      const task: OnnxTask = { type: 'run', inputs: batch.map(({ input }) => input) };
      const outputs: OnnxOutputs = await this.#model.run(task);
      if (outputs.length !== batch.length * size)
        throw new Error(`${batch.length} inputs have ${outputs.length} outputs of ${size}`);
      for (const [i, { resolve }] of batch.entries()) resolve(outputs.slice(i * size, (i + 1) * size));
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  async #tokenize(task: TokenizeTask): Promise<EncoderInput> {
    const timeout = AbortSignal.timeout(tokenizeTimeoutMs);
    try {
      return await this.#tokenizer.run(task, { signal: timeout });
    } catch (error) {
      if (!timeout.aborted) throw error;
      throw new PromptError(`the input took longer than ${tokenizeTimeoutMs} ms to tokenize`);
    }
  }

  /** The files have to fit one another. */
  async #check({ folder, labels, vocabSize, prompts }: EncoderFiles): Promise<void> {
    const { kind, size } = this.description;
    if (kind === 'classifier' && labels.length !== size)
      throw new ModelError(`${folder}: config.json names ${labels.length} labels, the model has ${size}`);
    const texts = ['quire', ...Object.values(prompts)];
    const task = { pair: null, maxTokens: null, truncationSide: 'right', addSpecialTokens: true } as const;
    let inputs: EncoderInput[];
    try {
      inputs = await this.tokenize(
        texts.map((text) => ({ ...task, text })),
        new AbortController().signal,
      );
    } catch (error) {
      throw new ModelError(`${folder}/tokenizer.json cannot be used: ${oneLine(error)}`);
    }
    const outside = inputs.flatMap(({ tokenIds }) => [...tokenIds]).find((id) => id >= vocabSize);
    if (outside !== undefined) {
      throw new ModelError(
        `${folder}: tokenizer.json makes the token ${outside}, the model's vocabulary has ${vocabSize}`,
      );
    }
  }
}

async function openModel(model: Tinypool, { onnxPath }: EncoderFiles): Promise<OnnxOpened> {
  try {
    return await model.run({ type: 'open' } satisfies OnnxTask);
  } catch (error) {
    const line = oneLine(error);
    // An optional dependency: npm leaves it out where it cannot be installed.
    if (line.startsWith("Cannot find package 'onnxruntime-node'"))
      throw new ModelError(
        'encoders need onnxruntime-node: ONNXRUNTIME_NODE_INSTALL=skip npm install onnxruntime-node',
      );
    throw new ModelError(`${onnxPath} cannot be used: ${line}`);
  }
}

function oneLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0];
}
