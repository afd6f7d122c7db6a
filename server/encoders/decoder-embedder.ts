// The language model itself as an encoder, for one request: the hidden state of each input's last token, by
// the engine that writes answers meanwhile.

import {
  type EncoderApi,
  type EncoderDescription,
  type EncoderInput,
  type EngineApi,
  RequestError,
  type TokenizeTask,
} from '../../engine/engine.ts';
import { type Caller, cacheSaltOf, priorityOf } from '../caller.ts';
import { fromRequestError } from '../context.ts';

/** Inputs of one request that the engine has at once: others get their turn between them. */
const maxInputsAtOnce = 32;

/** Sequences that a request of so many inputs takes at once. */
export function numSequencesOf(numInputs: number, { description }: EngineApi): number {
  return Math.min(numInputs, maxInputsAtOnce, description.maxNumSeqs);
}

export function describeDecoder(
  { description, adapters }: EngineApi,
  adapter: string | null,
): EncoderDescription {
  const { modelPath, architecture, vocabSize, hiddenSize, maxModelLen } = description;
  return {
    kind: 'embedder',
    folder: adapter === null ? modelPath : (adapters.get(adapter)?.folder ?? modelPath),
    architecture,
    vocabSize,
    size: hiddenSize,
    maxTokens: maxModelLen,
    labels: [],
    activation: 'none',
    pooling: 'last',
    normalizes: true,
    prompts: {},
    defaultPrompt: null,
    matryoshkaDimensions: null,
  };
}

export class DecoderEmbedder implements EncoderApi {
  readonly description: EncoderDescription;
  readonly #engine: EngineApi;
  readonly #adapter: string | null;
  readonly #caller: Caller;
  readonly #priority: number;

  constructor(
    engine: EngineApi,
    adapter: string | null,
    caller: Caller,
    priority: number | null | undefined,
  ) {
    this.description = describeDecoder(engine, adapter);
    this.#engine = engine;
    this.#adapter = adapter;
    this.#caller = caller;
    this.#priority = priorityOf(caller, priority);
  }

  tokenize(tasks: readonly TokenizeTask[], signal: AbortSignal): Promise<EncoderInput[]> {
    return this.#each(tasks, signal, async ({ text, addSpecialTokens, maxTokens, truncationSide: side }) => {
      const truncation = maxTokens === null ? undefined : { maxTokens, side };
      const { tokenIds } = await this.#engine.encodeText(text, addSpecialTokens, truncation);
      return { tokenIds, typeIds: new Uint8Array(tokenIds.length) };
    });
  }

  run(inputs: readonly EncoderInput[], signal: AbortSignal): Promise<Float32Array[]> {
    return this.#each(inputs, signal, ({ tokenIds }, given) => this.#embed(tokenIds, given));
  }

  async #embed(promptTokenIds: Int32Array, signal: AbortSignal): Promise<Float32Array> {
    const { id, arrivalMs } = this.#caller;
    try {
      return await this.#engine.embed({
        requestId: id,
        promptTokenIds,
        priority: this.#priority,
        cacheSalt: cacheSaltOf(this.#caller, null),
        adapter: this.#adapter,
        arrivalMs,
        signal,
      });
    } catch (error) {
      if (error instanceof RequestError) throw fromRequestError(error, { adapter: 'model' }, 'input');
      throw error;
    }
  }

  /** In order, a few at a time. The first that fails ends the others. */
  async #each<T, R>(
    items: readonly T[],
    signal: AbortSignal,
    work: (item: T, signal: AbortSignal) => Promise<R>,
  ): Promise<R[]> {
    const results: R[] = new Array(items.length);
    const failed = new AbortController();
    const given = AbortSignal.any([signal, failed.signal]);
    let next = 0;
    const worker = async () => {
      while (next < items.length) {
        given.throwIfAborted();
        const i = next++;
        results[i] = await work(items[i], given);
      }
    };
    const workers = Array.from({ length: numSequencesOf(items.length, this.#engine) }, worker);
    try {
      await Promise.all(workers);
    } catch (error) {
      failed.abort(error);
      throw error;
    }
    return results;
  }

  /** Whether anyone waits, and when it ends, is the engine's matter. */
  readonly isIdle = true;

  async close(): Promise<void> {}
}
