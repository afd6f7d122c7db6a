// What every route works with, and the checks every request for tokens passes before anything runs.

import type { EncoderApi, EngineApi, RequestError } from '../engine/engine.ts';
import type { AnswerFormat } from './answer/formats.ts';
import type { Caller } from './caller.ts';
import { ApiError } from './errors.ts';
import type { Database } from './store/database.ts';

export interface AppOptions {
  /** Names requests may use; the first is the one answers carry. */
  servedModelNames: readonly string[];
  /** Embedders, cross-encoders and classifiers beside the language model, by the names that requests use. */
  encoders: ReadonlyMap<string, EncoderApi>;
  apiKeys: readonly string[];
  /** Requests that may wait for their first step; more are refused with 429. */
  maxQueuedRequests: number;
  /** Connections at once, WebSockets included; more are closed. */
  maxConnections: number;
  /** WebSockets at once; more are refused. Of several API keys one may have half of them. */
  maxWebSockets: number;
  bodyLimitBytes: number;
  /** Time that a body may take to come in, but for uploads of files, in ms. */
  bodyTimeoutMs: number;
  /** Silence after which a stream gets a comment, and the time between pings of a WebSocket, in ms. */
  ssePingIntervalMs: number;
  /** Age of the step loop's heartbeat at which /health says 503, in ms. */
  heartbeatTimeoutMs: number;
  /** Origins that browsers may call from; empty allows none. */
  allowedOrigins: readonly string[];
  /** Host names the server answers to; null is any. */
  allowedHosts: readonly string[] | null;
  /** Clients may load and unload adapters. */
  allowRuntimeLora: boolean;
  /** Operators may end requests, stop steps and give the KV cache's memory back. */
  enableAdmin: boolean;
  /** File that keeps what clients store, or null for memory. */
  storePath: string | null;
  /** Bytes of stored responses at most. */
  responsesLimitBytes: number;
  /** Size of the store, and of one file in it, at most. */
  maxStoreBytes: number;
  maxFileBytes: number;
  /** How answers write tool calls and reasoning: a parser's name, auto or none (server/answer/formats.ts). */
  toolCallParser: string;
  reasoningParser: string;
  /** The exposition text of /metrics. */
  metrics: { contentType: string; render(): Promise<string> };
  version: string;
  /** Fastify's logger option. */
  logger: import('fastify').FastifyBaseLogger | null;
}

export interface Context {
  engine: EngineApi;
  options: AppOptions;
  answerFormat: AnswerFormat;
  /** What clients store. */
  database: Database;
  /** Seconds since the epoch at which the server started; what /v1/models calls created. */
  startedAt: number;
  /** Hash of version and model, for system_fingerprint. */
  fingerprint: string;
  isDraining(): boolean;
  /** What lines of batches have in the engine now. */
  batchLoad: { numSequences: number };
}

export interface Admitted {
  /** The model's name in answers. */
  model: string;
  /** The adapter that `model` names, or null. */
  adapter: string | null;
}

/** What a request means by its model. Throws when the server does not serve it. */
export function findModel({ engine, options }: Context, model: string | null | undefined): Admitted {
  const [name] = options.servedModelNames;
  const adapter = model != null && engine.adapters.has(model) ? model : null;
  if (model != null && adapter === null && !options.servedModelNames.includes(model)) {
    const served = [...options.servedModelNames, ...engine.adapters.keys()].join(', ');
    throw new ApiError(
      'model_not_found',
      `model: found ${JSON.stringify(model.slice(0, 200))}, served: ${served}`,
      'model',
    );
  }
  return { model: adapter ?? name, adapter };
}

/** Throws when the server cannot take the request now, or does not serve the model. */
export function admit(context: Context, model: string | null | undefined, caller?: Caller): Admitted {
  const { engine, options, isDraining, batchLoad } = context;
  const admitted = findModel(context, model);
  if (isDraining()) throw new ApiError('draining', 'the server is shutting down');
  if (engine.health(Number.POSITIVE_INFINITY).status === 'dead')
    throw new ApiError('engine_dead', 'the engine has ended');
  if (caller?.isBatchLine === true) return admitted;
  // Which of a batch's lines wait is not known here; none of them takes a place from anyone.
  const numWaiting = engine.stats.numWaiting - batchLoad.numSequences;
  if (numWaiting >= options.maxQueuedRequests) {
    throw new ApiError(
      'queue_full',
      `${numWaiting} requests wait already, at most ${options.maxQueuedRequests} may`,
    );
  }
  return admitted;
}

/** The engine's refusal in the client's words. */
export function fromRequestError(
  error: RequestError,
  names: Record<string, string>,
  promptField: string,
): ApiError {
  const param = error.param === 'prompt' ? promptField : (names[error.param] ?? error.param);
  const name = error.code === 'context_length_exceeded' ? 'context_length_exceeded' : 'invalid_value';
  return new ApiError(name, name === 'invalid_value' ? `${param}: ${error.message}` : error.message, param);
}
