// The engine without the server: `import { Engine } from 'quire'`. Continuous batching inside any Node program.

import type { CompletionDelta, EngineObserver, GenerateRequest } from './generation.ts';
import type { StepStats } from './messages.ts';
import type { ChatPrompt, EncodedPrompt } from './prompt-pool.ts';
import type { SamplingParams } from './sampling-params.ts';

export type { CompletionDelta, EngineObserver, GenerateRequest, RequestRecord } from './generation.ts';
export type { FinishReason, StepStats, TokenLogprobs } from './messages.ts';
export { type ChatMessage, type ChatPrompt, type EncodedPrompt, PromptError } from './prompt-pool.ts';
export { defaultSamplingParams, type SamplingParams } from './sampling-params.ts';

export interface EngineOptions {
  /** Folder with config.json, tokenizer.json and *.safetensors. */
  model: string;
  /** `dummy` makes seeded random weights from config.json alone. */
  loadFormat?: 'auto' | 'dummy';
  /** `null` answers tokens without arithmetic, to measure everything else; `reference` is the naive specification. */
  backend?: 'cpu' | 'reference' | 'null';
  /** Form of the weights in memory; `auto` keeps the file's. */
  dtype?: 'auto' | 'float32' | 'bfloat16' | 'float16';
  /** `auto` is float32 for float32 weights and bfloat16 otherwise. */
  kvCacheDtype?: 'auto' | 'float32' | 'bfloat16';
  /** Prompt plus output tokens of one request; default the model's own limit. */
  maxModelLen?: number | null;
  /** Requests in one step. Default 256. */
  maxNumSeqs?: number;
  /** Tokens in one step. Default 2048. */
  maxNumBatchedTokens?: number;
  /** Prefill tokens of one request in one step; 0 is no limit but maxNumBatchedTokens. */
  longPrefillTokenThreshold?: number;
  /** Tokens per KV block: 8, 16 or 32. Default 16. */
  blockSize?: number;
  /** Bytes for the KV cache; null takes what maxNumSeqs * maxModelLen could use, at most 40% of free memory. */
  kvCacheBytes?: number | null;
  /** Usable KV blocks, exactly; overrides kvCacheBytes. */
  numBlocksOverride?: number | null;
  enablePrefixCaching?: boolean;
  /** Alternatives per token a request may ask for. Default 20. */
  maxLogprobs?: number;
  /** Threads that compute; null is one per core. */
  threads?: number | null;
  /** Of dummy weights and of requests that bring none. Null draws one. */
  seed?: number | null;
  /** Jinja text that replaces the model's own chat template. */
  chatTemplate?: string | null;
  observer?: EngineObserver;
}

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
  hasChatTemplate: boolean;
  /** What the model's generation_config.json asks for where a request is silent. */
  defaultSampling: Partial<SamplingParams>;
}

/** The client's error: the request can never run. `param` is the offending field in SamplingParams or `prompt`. */
export class RequestError extends Error {
  override name = 'RequestError';
  readonly param: string;
  /** `context_length_exceeded` for prompts that are too long, else `invalid_value`. */
  readonly code: string;
  constructor(message: string, param: string, code = 'invalid_value') {
    super(message);
    this.param = param;
    this.code = code;
  }
}

/** How the step loop does. `late`: a step has been running, or the loop has not turned, for longer than it may. */
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
  /** Resolves with the cause when the engine dies; open requests have then ended with finish reason `error`. */
  readonly died: Promise<Error>;
  encodeText(text: string, addSpecialTokens: boolean): Promise<EncodedPrompt>;
  /** Throws PromptError when the template is missing or refuses the messages. */
  encodeChat(prompt: ChatPrompt): Promise<EncodedPrompt>;
  /** Text of ids, each in [0, vocabSize). */
  decode(tokenIds: Iterable<number>, skipSpecialTokens: boolean): string;
  /** One token alone, as logprobs report it: its bytes, and as text (U+FFFD for incomplete UTF-8). */
  tokenText(tokenId: number): { text: string; bytes: Uint8Array };
  /**
   * Starts n choices at once and returns their deltas in the order they come. Throws RequestError before anything runs.
   * Ending the iteration early, or request.signal, aborts what still runs.
   */
  generate(request: GenerateRequest): AsyncIterable<CompletionDelta>;
  /** Forgets every cached prefix that no running request holds. */
  resetPrefixCache(): void;
  health(maxHeartbeatAgeMs: number): EngineHealth;
  /** Aborts what runs and ends the threads. */
  close(): Promise<void>;
}
