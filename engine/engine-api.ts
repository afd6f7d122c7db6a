// What the server needs of an engine, and sees of it.

import type { EngineControl } from './engine-control.ts';
import type { CompletionDelta, EmbedRequest, GenerateRequest } from './generation.ts';
import type { Grammar, GrammarRequest } from './grammar/grammar.ts';
import type { ChatPrompt, EncodedPrompt, Truncation } from './prompt.ts';
import type { SamplingParams } from './sampling-params.ts';
import type { StepStats } from './step-stats.ts';

export interface EngineDescription {
  modelPath: string;
  architecture: string;
  /** E.g. "cpu avx512". */
  kernels: string;
  vocabSize: number;
  hiddenSize: number;
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

/** The class Engine, or a fake in tests. */
export interface EngineApi {
  readonly description: EngineDescription;
  /** Gauges of the newest step. */
  readonly stats: StepStats;
  /**
   * Resolves with the cause when the engine dies; open requests have then ended with finish reason `error`.
   */
  readonly died: Promise<Error>;
  /** `truncation` drops tokens at one end, but no special ones. */
  encodeText(text: string, addSpecialTokens: boolean, truncation?: Truncation): Promise<EncodedPrompt>;
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
  /**
   * The hidden state of the prompt's last token after the model's last norm, [hiddenSize], as it is: see
   * normalize. The prompt may fill the context. Rejects with RequestError or EngineEndedError, with the
   * signal's reason, or with AbortedError.
   */
  embed(request: EmbedRequest): Promise<Float32Array>;
  /** Ends the requests of these ids, or all (null). Returns how many choices and embeddings that were. */
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
