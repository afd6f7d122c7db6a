// The engine without the server: `import { Engine } from 'quire'`. Continuous batching inside any Node
// program.

import { randomBytes } from 'node:crypto';
import { type BeamEngine, runBeamSearch } from './beam-run.ts';
import { nowMs } from './clock.ts';
import { Choice, CompletionStream } from './completion-stream.ts';
import { Detokenizer, wholeText } from './detokenizer.ts';
import { EngineControl } from './engine-control.ts';
import { EngineEndedError, RequestError } from './engine-errors.ts';
import { type EngineOptions, threadOptions } from './engine-options.ts';
import { EnginePort, type EngineReady } from './engine-port.ts';
import type { CompletionDelta, EngineObserver, GenerateRequest } from './generation.ts';
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
import type { ChatPrompt, EncodedPrompt } from './prompt.ts';
import type { PromptPool } from './prompt-pool.ts';
import { checkRequest, endTokenIds } from './request-checks.ts';
import type { SamplingParams } from './sampling-params.ts';
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
export { ControlError, EngineControl } from './engine-control.ts';
export { EngineEndedError, RequestError } from './engine-errors.ts';
export { type EngineOptions, findBackend } from './engine-options.ts';
export type { CompletionDelta, EngineObserver, GenerateRequest, RequestRecord } from './generation.ts';
export { allows, type Grammar, type GrammarRequest } from './grammar/grammar.ts';
export { GrammarError } from './grammar/grammar-error.ts';
export { GrammarQueueFullError } from './grammar/grammar-pool.ts';
export type { ControlAction, FinishReason, TokenLogprobs } from './messages.ts';
export { ModelError } from './model-error.ts';
export { type CpuFeatures, type CudaDevices, cpuFeatures, findCudaDevices } from './native.ts';
export { type ChatMessage, type ChatPrompt, type EncodedPrompt, PromptError } from './prompt.ts';
export type { ReasoningParams } from './reasoning.ts';
export { defaultSamplingParams, type SamplingParams } from './sampling-params.ts';
export {
  type DraftModelConfig,
  maxSpeculativeTokens,
  type PromptLookupConfig,
  type SpeculativeConfig,
} from './speculation/speculative-config.ts';
export type { StepStats } from './step-stats.ts';

export interface EngineDescription {
  modelPath: string;
  architecture: string;
  /** E.g. "cpu avx512". */
  kernels: string;
  vocabSize: number;
  maxModelLen: number;
  maxNumSeqs: number;
  maxLogprobs: number;
  blockSize: number;
  /** Usable KV blocks. */
  numBlocks: number;
  weightBytes: number;
  kvCacheBytes: number;
  /** Jinja text; null when the model has none and none was given. */
  chatTemplate: string | null;
  /** What the model's generation_config.json asks for where a request is silent. */
  defaultSampling: Partial<SamplingParams>;
}

export interface AdapterDescription {
  folder: string;
  rank: number;
}

/**
 * How the step loop does. `late`: a step has been running, or the loop has not turned, for longer than it
 * may.
 */
export interface EngineHealth {
  status: 'ok' | 'late' | 'dead';
  /** Milliseconds since the loop last turned. */
  heartbeatAgeMs: number;
}

/** What the server needs of an engine; the class below, or a fake in tests. */
export interface EngineApi {
  readonly description: EngineDescription;
  /** Gauges of the newest step. */
  readonly stats: StepStats;
  /**
   * Resolves with the cause when the engine dies; open requests have then ended with finish reason `error`.
   */
  readonly died: Promise<Error>;
  encodeText(text: string, addSpecialTokens: boolean): Promise<EncodedPrompt>;
  /** Throws PromptError when the template is missing or refuses the messages. */
  encodeChat(prompt: ChatPrompt): Promise<EncodedPrompt>;
  /** Text of ids, each in [0, vocabSize). */
  decode(tokenIds: Iterable<number>, skipSpecialTokens: boolean): string;
  /** One token alone, as logprobs report it: its bytes, and as text (U+FFFD for incomplete UTF-8). */
  tokenText(tokenId: number): { text: string; bytes: Uint8Array };
  /**
   * Compiles what an output must match, for generate(). Throws GrammarError when it is not valid, too large
   * or takes too long, GrammarQueueFullError when too many wait.
   */
  compileGrammar(request: GrammarRequest): Promise<Grammar>;
  /**
   * Starts n choices at once and returns their deltas in the order they come. Throws RequestError or
   * EngineEndedError before anything runs. Ending the iteration early, or request.signal, aborts what still
   * runs.
   */
  generate(request: GenerateRequest): AsyncIterable<CompletionDelta>;
  /** Ends the requests of these ids, or all (null). Returns how many choices that were. */
  abort(requestIds: readonly string[] | null): number;
  /** Pause, sleep and the prefix cache. */
  readonly control: Pick<EngineControl, 'ask' | 'isPaused' | 'isSleeping'>;
  /** Adapters by name. */
  readonly adapters: ReadonlyMap<string, AdapterDescription>;
  /**
   * Loads a LoRA adapter under a name that requests may use; one of the same name is replaced for new
   * requests. Throws ModelError when the folder has none that fits the model.
   */
  loadAdapter(name: string, folder: string): Promise<void>;
  /** Names of the adapters that requests run with, and of those that only waiting requests want. */
  adaptersInUse(): { running: string[]; waiting: string[] };
  /** False when there is none of the name. Requests that use it already run to their end. */
  unloadAdapter(name: string): boolean;
  health(maxHeartbeatAgeMs: number): EngineHealth;
  /** Aborts what runs and ends the threads. */
  close(): Promise<void>;
}

/** Milliseconds. The thread and the weights are one after the other, beside the tokenizer. */
export interface StartupTimes {
  headers: number;
  engineThread: number;
  weights: number;
  tokenizer: number;
}

async function timed<T>(work: Promise<T>): Promise<{ result: T; ms: number }> {
  const startMs = nowMs();
  return { result: await work, ms: nowMs() - startMs };
}

/** int64 wrapped to its two words. */
function seedWords(seed: bigint): readonly [number, number] {
  const wrapped = BigInt.asUintN(64, seed);
  return [Number(wrapped & 0xffff_ffffn), Number(wrapped >> 32n)];
}

export class Engine implements EngineApi {
  readonly description: EngineDescription;
  readonly control: EngineControl;
  readonly startup: StartupTimes;
  /** What became of options.packedCache; null when it was not asked for, or no weights are packed. */
  readonly packedCache: PackedCacheReport | null;
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
    if (options.blockSize !== undefined && ![8, 16, 32].includes(options.blockSize)) {
      throw new ModelError(`blockSize: found ${options.blockSize}, allowed 8, 16, 32`);
    }
    const startMs = nowMs();
    const model = await loadModel(options.model, { loadFormat: options.loadFormat ?? 'auto' });
    const draft = await loadDraftModel(options, model);
    const headersMs = nowMs() - startMs;
    let onStep: (output: StepOutput) => void = () => {};
    // The engine thread reads the weights while the tokenizer is made ready.
    const [started, text] = await Promise.allSettled([
      timed(
        EnginePort.start(
          threadOptions(options, model, draft),
          new URL('./engine-thread.js', import.meta.url),
          (output) => onStep(output),
        ),
      ),
      timed(openText(options, model)),
    ]);
    if (started.status === 'fulfilled' && text.status === 'fulfilled') {
      const { port, ready } = started.value.result;
      const engine = new Engine(options, model, text.value.result, port, ready, {
        headers: headersMs,
        engineThread: started.value.ms - ready.openMs,
        weights: ready.openMs,
        tokenizer: text.value.ms,
      });
      onStep = (output) => engine.#onStep(output);
      return engine;
    }
    if (started.status === 'fulfilled') await started.value.result.port.close();
    if (text.status === 'fulfilled') await text.value.result.prompts.close();
    throw [text, started].find((part) => part.status === 'rejected')?.reason;
  }

  private constructor(
    options: EngineOptions,
    model: LoadedModel,
    { prompts, tokens }: { prompts: PromptPool; tokens: TokenBytes },
    port: EnginePort,
    ready: EngineReady,
    startup: StartupTimes,
  ) {
    this.startup = startup;
    this.packedCache = ready.packedCache;
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
    port.died.then(() => {
      this.#inFlight.endAll('error');
      this.control.end(new EngineEndedError('the engine has ended'));
    });
  }

  get died(): Promise<Error> {
    return this.#port.died;
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

  encodeText(text: string, addSpecialTokens: boolean): Promise<EncodedPrompt> {
    return this.#prompts.encodeText(text, addSpecialTokens);
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
    if (sampling.beams === null) return this.#start(request, maxTokens, false);
    const limits = {
      width: sampling.n,
      lengthPenalty: sampling.beams.lengthPenalty,
      maxTokens,
      endTokenIds: endTokenIds(sampling, this.#eosTokenIds),
    };
    const engine: BeamEngine = {
      generate: (part) => this.#start(part, this.#check(part), true),
      textOf: (tokenIds) => wholeText(this.#tokens, request.promptTokenIds, sampling, tokenIds),
      onFinished: (record) => this.#observer.onFinished?.(record),
    };
    return runBeamSearch(engine, request, limits);
  }

  /** Output tokens the request may have. Throws what makes it impossible. */
  #check(request: GenerateRequest): number {
    if (this.#inFlight.isOver) throw new EngineEndedError('the engine has ended');
    if (request.adapter != null) this.#adapterId(request.adapter);
    return checkRequest(request, {
      ...this.description,
      enablePrefixCaching: this.#enablePrefixCaching,
      eosTokenIds: this.#eosTokenIds,
    });
  }

  #start(request: GenerateRequest, maxTokens: number, isPart: boolean): CompletionStream {
    const { sampling } = request;
    if (request.grammar != null) this.#grammars?.matchers.ensure(request.grammar.lane);
    const handles: number[] = [];
    const abort = () => this.#inFlight.abort(handles);
    const stream = new CompletionStream(sampling.n, abort);
    const facts = {
      requestId: request.requestId,
      n: sampling.n,
      adapter: request.adapter ?? null,
      maxTokens,
      isPart,
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
      this.#port.add(this.#engineRequest(handle, request, maxTokens, facts.arrivalMs, seed + BigInt(index)));
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
    maxTokens: number,
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
