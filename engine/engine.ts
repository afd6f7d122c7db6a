// The engine without the server: `import { Engine } from 'quire'`. Continuous batching inside any Node
// program.

import { randomBytes } from 'node:crypto';
import { type BeamEngine, runBeamSearch } from './beam-run.ts';
import { nowMs } from './clock.ts';
import { Choice, CompletionStream } from './completion-stream.ts';
import { Detokenizer, wholeText } from './detokenizer.ts';
import type { AdapterDescription, EngineApi, EngineDescription, EngineHealth } from './engine-api.ts';
import { EngineControl } from './engine-control.ts';
import { AbortedError, EngineEndedError, RequestError } from './engine-errors.ts';
import { type EngineOptions, threadOptions } from './engine-options.ts';
import { EnginePort, type EngineReady } from './engine-port.ts';
import type { CompletionDelta, EmbedRequest, EngineObserver, GenerateRequest } from './generation.ts';
import type { Grammar, GrammarRequest, Vocabulary } from './grammar/grammar.ts';
import { GrammarPool } from './grammar/grammar-pool.ts';
import { MatcherThreads } from './grammar/matcher-threads.ts';
import { InFlight } from './in-flight.ts';
import { loadAdapter } from './lora-adapter.ts';
import type { EngineRequest, StepOutput } from './messages.ts';
import type { ModelConfig } from './model-config.ts';
import { ModelError } from './model-error.ts';
import { type LoadedModel, loadModel } from './model-files.ts';
import type { PackedCacheReport } from './native.ts';
import { openText } from './open-text.ts';
import type { ChatPrompt, EncodedPrompt, Truncation } from './prompt.ts';
import type { PromptPool } from './prompt-pool.ts';
import { checkEmbedRequest, checkRequest, endTokenIds } from './request-checks.ts';
import { defaultSamplingParams } from './sampling-params.ts';
import { loadDraftModel } from './speculation/load-draft.ts';
import { emptyStats, type StepStats } from './step-stats.ts';
import type { TokenBytes } from './token-bytes.ts';

export {
  Encoder,
  type EncoderApi,
  type EncoderDescription,
  EncoderQueueFullError,
} from './encoders/encoder.ts';
export type { EncoderInput, TokenizeTask } from './encoders/encoder-messages.ts';
export { cosine, normalize } from './encoders/pooling.ts';
export type { AdapterDescription, EngineApi, EngineDescription, EngineHealth } from './engine-api.ts';
export { ControlError, EngineControl } from './engine-control.ts';
export { AbortedError, EngineEndedError, RequestError } from './engine-errors.ts';
export { type EngineOptions, findBackend } from './engine-options.ts';
export type {
  CompletionDelta,
  EmbedRequest,
  EngineObserver,
  GenerateRequest,
  RequestRecord,
} from './generation.ts';
export { allows, type Grammar, type GrammarRequest } from './grammar/grammar.ts';
export { GrammarError } from './grammar/grammar-error.ts';
export { GrammarQueueFullError } from './grammar/grammar-pool.ts';
export type { ControlAction, FinishReason, TokenLogprobs } from './messages.ts';
export { ModelError } from './model-error.ts';
export { type CpuFeatures, type CudaDevices, cpuFeatures, findCudaDevices } from './native.ts';
export {
  type ChatMessage,
  type ChatPrompt,
  type EncodedPrompt,
  PromptError,
  type Truncation,
} from './prompt.ts';
export type { ReasoningParams } from './reasoning.ts';
export { defaultSamplingParams, type SamplingParams } from './sampling-params.ts';
export {
  type DraftModelConfig,
  maxSpeculativeTokens,
  type PromptLookupConfig,
  type SpeculativeConfig,
} from './speculation/speculative-config.ts';
export type { StepStats } from './step-stats.ts';

/** What the engine thread does for a request. */
interface Wanted {
  maxTokens: number;
  /** One token of a beam search. */
  isPart?: boolean;
  /** And no tokens. */
  wantsHiddenState?: boolean;
}

/** Milliseconds. Headers, thread and weights are one after the other, beside the tokenizer. */
export interface StartupTimes {
  headers: number;
  engineThread: number;
  weights: number;
  tokenizer: number;
}

type Startup = Omit<StartupTimes, 'tokenizer'> & { tokenizer: Promise<number> };

async function timed<T>(work: Promise<T>): Promise<{ result: T; ms: number }> {
  const startMs = nowMs();
  return { result: await work, ms: nowMs() - startMs };
}

/** The headers alone. */
async function readModels(
  options: EngineOptions,
): Promise<{ model: LoadedModel; draft: LoadedModel | null }> {
  const model = await loadModel(options.model, { loadFormat: options.loadFormat ?? 'auto' });
  return { model, draft: await loadDraftModel(options, model) };
}

/** int64 wrapped to its two words. */
function seedWords(seed: bigint): readonly [number, number] {
  const wrapped = BigInt.asUintN(64, seed);
  return [Number(wrapped & 0xffff_ffffn), Number(wrapped >> 32n)];
}

export class Engine implements EngineApi {
  readonly description: EngineDescription;
  readonly control: EngineControl;
  readonly died: Promise<Error>;
  readonly #startup: Startup;
  /**
   * What became of options.packedCache, for the draft model last; empty when it was not asked for, or nothing
   * is packed.
   */
  readonly packedCaches: readonly PackedCacheReport[];
  readonly #prompts: PromptPool;
  readonly #tokens: TokenBytes;
  readonly #port: EnginePort;
  readonly #grammarTimeoutMs: number;
  readonly #enablePrefixCaching: boolean;
  readonly #observer: EngineObserver;
  #grammars: { pool: GrammarPool; matchers: MatcherThreads } | null = null;
  readonly #inFlight: InFlight;
  readonly #eosTokenIds: readonly number[];
  readonly #modelConfig: ModelConfig;
  readonly #maxLoraRank: number;
  readonly #maxCpuLoras: number;
  readonly #adapters = new Map<string, AdapterDescription & { id: number }>();
  #nextAdapterId = 1;
  #lastStats = emptyStats();
  #nextHandle = 1;
  #nextSeed: bigint;

  /**
   * Loads the model, starts the threads and returns when the first request can run. Rejects with one clear
   * line.
   */
  static async open(options: EngineOptions): Promise<Engine> {
    const engine = await Engine.begin(options);
    await engine.ready();
    return engine;
  }

  /** The same up to where all is known of the engine, but prompts wait for `ready`. */
  static async begin(options: EngineOptions): Promise<Engine> {
    if (options.blockSize !== undefined && ![8, 16, 32].includes(options.blockSize)) {
      throw new ModelError(`blockSize: found ${options.blockSize}, allowed 8, 16, 32`);
    }
    const startMs = nowMs();
    const reading = timed(readModels(options));
    let onStep: (output: StepOutput) => void = () => {};
    // The engine thread reads the weights while the tokenizer is made ready.
    const [read, started, text] = await Promise.allSettled([
      reading,
      reading.then(({ result: { model, draft } }) =>
        timed(
          EnginePort.start(
            threadOptions(options, model, draft),
            new URL('./engine-thread.js', import.meta.url),
            (output) => onStep(output),
          ),
        ),
      ),
      openText(
        options,
        reading.then(({ result }) => result.model),
      ),
    ]);
    if (read.status === 'fulfilled' && started.status === 'fulfilled' && text.status === 'fulfilled') {
      const { port, ready } = started.value.result;
      const engine = new Engine(options, read.value.result.model, text.value, port, ready, {
        headers: read.value.ms,
        engineThread: started.value.ms - ready.openMs,
        weights: ready.openMs,
        tokenizer: text.value.prompts.ready.then(() => nowMs() - startMs),
      });
      onStep = (output) => engine.#onStep(output);
      return engine;
    }
    if (started.status === 'fulfilled') await started.value.result.port.close();
    if (text.status === 'fulfilled') await text.value.prompts.close();
    throw [read, text, started].find((part) => part.status === 'rejected')?.reason;
  }

  private constructor(
    options: EngineOptions,
    model: LoadedModel,
    { prompts, tokens }: { prompts: PromptPool; tokens: TokenBytes },
    port: EnginePort,
    ready: EngineReady,
    startup: Startup,
  ) {
    this.#startup = startup;
    // Whoever waits for `ready` hears of it.
    startup.tokenizer.catch(() => {});
    this.packedCaches = ready.packedCaches;
    this.#prompts = prompts;
    this.#tokens = tokens;
    this.#port = port;
    this.#grammarTimeoutMs = options.grammarTimeoutMs ?? 10_000;
    this.#eosTokenIds = model.eosTokenIds;
    this.#modelConfig = model.config;
    this.#maxLoraRank = options.maxLoraRank ?? 64;
    this.#maxCpuLoras = options.maxCpuLoras ?? 64;
    this.#nextSeed = options.seed == null ? randomBytes(8).readBigUInt64LE() : BigInt(options.seed);
    this.#observer = options.observer ?? {};
    this.#enablePrefixCaching = options.enablePrefixCaching ?? true;
    this.#inFlight = new InFlight(this.#observer, (handles) => this.#port.abort(handles));
    this.control = new EngineControl((id, action) => this.#port.control(id, action));
    this.description = {
      modelPath: model.modelPath,
      architecture: model.config.architecture,
      kernels: ready.description,
      vocabSize: model.config.vocabSize,
      hiddenSize: model.config.hiddenSize,
      maxModelLen: Math.min(ready.maxModelLen, ready.numBlocks * ready.blockSize),
      maxNumSeqs: options.maxNumSeqs ?? 256,
      maxLogprobs: options.maxLogprobs ?? 20,
      blockSize: ready.blockSize,
      numBlocks: ready.numBlocks,
      weightBytes: ready.weightBytes,
      kvCacheBytes: ready.kvCacheBytes,
      chatTemplate: prompts.chatTemplate,
      defaultSampling: model.defaultSampling,
    };
    this.died = Promise.race([port.died, prompts.died]);
    this.died.then(() => {
      this.#inFlight.endAll('error');
      this.control.end(new EngineEndedError('the engine has ended'));
    });
  }

  /** Rejects with one clear line, and then the engine is closed. */
  async ready(): Promise<StartupTimes> {
    try {
      return { ...this.#startup, tokenizer: await this.#startup.tokenizer };
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  get stats(): StepStats {
    const numOpen = this.#inFlight.size;
    if (numOpen === 0) return emptyStats();
    // Requests that the loop has not seen yet wait too.
    return {
      ...this.#lastStats,
      numWaiting: Math.max(this.#lastStats.numWaiting, numOpen - this.#lastStats.numRunning),
    };
  }

  /** Choices that have not ended, or whose end the engine has not confirmed. */
  get numOpenRequests(): number {
    return this.#inFlight.size;
  }

  encodeText(text: string, addSpecialTokens: boolean, truncation?: Truncation): Promise<EncodedPrompt> {
    return this.#prompts.encodeText(text, addSpecialTokens, truncation);
  }

  encodeChat(prompt: ChatPrompt): Promise<EncodedPrompt> {
    return this.#prompts.encodeChat(prompt);
  }

  decode(tokenIds: Iterable<number>, skipSpecialTokens: boolean): string {
    return this.#tokens.decode(tokenIds, skipSpecialTokens);
  }

  tokenText(tokenId: number): { text: string; bytes: Uint8Array } {
    return this.#tokens.tokenText(tokenId);
  }

  async compileGrammar(request: GrammarRequest): Promise<Grammar> {
    if (this.#inFlight.isOver) throw new EngineEndedError('the engine has ended');
    this.#grammars ??= this.#openGrammars();
    return this.#grammars.pool.compile(request);
  }

  /** With the first grammar: most engines never see one, and it takes the vocabulary once more. */
  #openGrammars(): { pool: GrammarPool; matchers: MatcherThreads } {
    const { vocabSize } = this.description;
    const tokens = this.#tokens.inByteAlphabet().slice(0, vocabSize);
    const vocabulary: Vocabulary = { tokens, vocabSize, stopTokenIds: this.#eosTokenIds };
    const matchers = new MatcherThreads({
      vocabulary,
      maxNumSeqs: this.description.maxNumSeqs,
      engineSignals: this.#port.signals,
      // What compiled once in time does so again, on a busy machine too.
      compileTimeoutMs: 4 * this.#grammarTimeoutMs,
      onLane: (lane, thread) => this.#port.setMatcherLane(lane, thread),
    });
    return { pool: new GrammarPool({ vocabulary, timeoutMs: this.#grammarTimeoutMs }), matchers };
  }

  generate(request: GenerateRequest): AsyncIterable<CompletionDelta> {
    const { sampling } = request;
    const maxTokens = this.#check(request);
    if (sampling.beams === null) return this.#start(request, { maxTokens });
    const limits = {
      width: sampling.n,
      lengthPenalty: sampling.beams.lengthPenalty,
      maxTokens,
      endTokenIds: endTokenIds(sampling, this.#eosTokenIds),
    };
    const engine: BeamEngine = {
      generate: (part) => this.#start(part, { maxTokens: this.#check(part), isPart: true }),
      textOf: (tokenIds) => wholeText(this.#tokens, request.promptTokenIds, sampling, tokenIds),
      onFinished: (record) => this.#observer.onFinished?.(record),
    };
    return runBeamSearch(engine, request, limits);
  }

  async embed(request: EmbedRequest): Promise<Float32Array> {
    this.#checkUse(request);
    checkEmbedRequest(request, this.description);
    // A seed of its own, so that those of other requests do not move.
    const sampling = { ...defaultSamplingParams, seed: 0n };
    const stream = this.#start({ ...request, sampling }, { maxTokens: 1, wantsHiddenState: true });
    for await (const _end of stream);
    if (stream.hiddenState !== null) return stream.hiddenState;
    request.signal?.throwIfAborted();
    this.#checkUse(request);
    throw new AbortedError('the request was aborted');
  }

  #checkUse({ adapter }: EmbedRequest): void {
    if (this.#inFlight.isOver) throw new EngineEndedError('the engine has ended');
    if (adapter != null) this.#adapterId(adapter);
  }

  /** Output tokens the request may have. Throws what makes it impossible. */
  #check(request: GenerateRequest): number {
    this.#checkUse(request);
    return checkRequest(request, {
      ...this.description,
      enablePrefixCaching: this.#enablePrefixCaching,
      eosTokenIds: this.#eosTokenIds,
    });
  }

  #start(request: GenerateRequest, wanted: Wanted): CompletionStream {
    const { sampling } = request;
    if (request.grammar != null) this.#grammars?.matchers.ensure(request.grammar.lane);
    const handles: number[] = [];
    const abort = () => this.#inFlight.abort(handles);
    const stream = new CompletionStream(sampling.n, abort);
    const facts = {
      requestId: request.requestId,
      n: sampling.n,
      adapter: request.adapter ?? null,
      maxTokens: wanted.maxTokens,
      isPart: wanted.isPart ?? false,
      numPromptTokens: request.promptTokenIds.length,
      arrivalMs: request.arrivalMs ?? nowMs(),
    };
    const seed = sampling.seed ?? this.#drawSeed();
    const stopTokens = endTokenIds(sampling, this.#eosTokenIds);
    for (let index = 0; index < sampling.n; index++) {
      const handle = this.#nextHandle++;
      handles.push(handle);
      const detokenizer = new Detokenizer(this.#tokens, request.promptTokenIds, sampling);
      this.#inFlight.add(new Choice(handle, index, detokenizer, sampling, stopTokens), stream, facts);
      this.#port.add(this.#engineRequest(handle, request, wanted, facts.arrivalMs, seed + BigInt(index)));
    }
    if (request.signal !== undefined) stream.abortOn(request.signal);
    return stream;
  }

  get adapters(): ReadonlyMap<string, AdapterDescription> {
    return this.#adapters;
  }

  async loadAdapter(name: string, folder: string): Promise<void> {
    const { rank, tensors } = await loadAdapter(folder, this.#modelConfig, this.#maxLoraRank);
    if (!this.unloadAdapter(name) && this.#adapters.size >= this.#maxCpuLoras) {
      throw new ModelError(
        `${this.#adapters.size} adapters are in memory, allowed ${this.#maxCpuLoras} (--max-cpu-loras): unload one first`,
      );
    }
    // Never the same number twice: it also keeps cached prefixes of different weights apart.
    const id = this.#nextAdapterId++;
    this.#port.addAdapter(id, tensors);
    this.#adapters.set(name, { folder, rank, id });
  }

  adaptersInUse(): { running: string[]; waiting: string[] } {
    return this.#inFlight.adaptersInUse();
  }

  unloadAdapter(name: string): boolean {
    const adapter = this.#adapters.get(name);
    if (adapter === undefined) return false;
    this.#adapters.delete(name);
    this.#port.removeAdapter(adapter.id);
    return true;
  }

  abort(requestIds: readonly string[] | null): number {
    return this.#inFlight.abortRequests(requestIds);
  }

  health(maxHeartbeatAgeMs: number): EngineHealth {
    const age = this.#port.heartbeatAgeMs();
    if (age === null) return { status: 'dead', heartbeatAgeMs: Number.POSITIVE_INFINITY };
    return { status: age > maxHeartbeatAgeMs ? 'late' : 'ok', heartbeatAgeMs: age };
  }

  async close(): Promise<void> {
    this.#inFlight.endAll('abort');
    this.control.end(new EngineEndedError('the engine was closed'));
    await Promise.all([
      this.#port.close(),
      this.#prompts.close(),
      this.#grammars?.pool.close(),
      this.#grammars?.matchers.close(),
    ]);
  }

  #onStep(output: StepOutput): void {
    this.#lastStats = output.stats;
    this.control.onResults(output.controls);
    this.#inFlight.onStep(output);
  }

  #engineRequest(
    handle: number,
    { promptTokenIds, sampling, priority, cacheSalt, adapter, grammar }: GenerateRequest,
    { maxTokens, wantsHiddenState = false }: Wanted,
    arrivalMs: number,
    seed: bigint,
  ): EngineRequest {
    const adapterId = adapter == null ? null : this.#adapterId(adapter);
    return {
      handle,
      adapterId,
      // A copy: the port transfers it, and n choices need one each.
      promptTokenIds: promptTokenIds.slice(),
      arrivalMs,
      priority: priority ?? 0,
      cacheSalt: adapterId === null ? (cacheSalt ?? '') : `adapter ${adapterId} ${cacheSalt ?? ''}`,
      temperature: sampling.temperature,
      topP: sampling.topP,
      topK: sampling.topK,
      minP: sampling.minP,
      repetitionPenalty: sampling.repetitionPenalty,
      presencePenalty: sampling.presencePenalty,
      frequencyPenalty: sampling.frequencyPenalty,
      logitBias: sampling.logitBias,
      badWords: sampling.badWords,
      allowedTokenIds: sampling.allowedTokenIds,
      reasoning: sampling.reasoning,
      seed: seedWords(seed),
      maxTokens,
      minTokens: Math.min(sampling.minTokens, maxTokens),
      eosTokenIds: sampling.ignoreEos ? [] : this.#eosTokenIds,
      stopTokenIds: sampling.stopTokenIds,
      numLogprobs: sampling.logprobs ?? -1,
      numPromptLogprobs: sampling.promptLogprobs ?? -1,
      grammar: grammar ?? null,
      wantsHiddenState,
    };
  }

  #adapterId(name: string): number {
    const adapter = this.#adapters.get(name);
    if (adapter === undefined) throw new RequestError(`the adapter ${name} is not loaded`, 'adapter');
    return adapter.id;
  }

  #drawSeed(): bigint {
    // Distinct for every request, and the same sequence again under the same --seed.
    this.#nextSeed = BigInt.asUintN(64, this.#nextSeed * 6364136223846793005n + 1442695040888963407n);
    return this.#nextSeed;
  }
}
