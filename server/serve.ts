// `quire serve`: finds the model, opens the engine, listens, and ends as its signals ask.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import pino, { type Logger } from 'pino';
import {
  Encoder,
  Engine,
  type EngineObserver,
  type EngineOptions,
  findBackend,
  findCudaDevices,
} from '../engine/engine.ts';
import { resolveModel } from '../engine/hub.ts';
import type { App } from './app.ts';
import { banner } from './banner.ts';
import type { AppOptions } from './context.ts';
import type { Metrics } from './metrics.ts';
import { helpOf, OptionError, type OptionValues, readOptions, serveOptions } from './options.ts';
import { logRequest } from './request-log.ts';

/** The package's own folder: two up from dist/server/, one up from server/. */
export const packageRoot = (() => {
  const here = dirname(fileURLToPath(import.meta.url));
  return resolve(here, here.includes(`${join('dist', 'server')}`) ? '../..' : '..');
})();

export const version: string = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')).version;

export const serveHelp = () =>
  helpOf(
    'quire serve [MODEL] [flags]',
    'Serves MODEL, a folder or a Hub id (name or name@revision); without one, the model that ships with quire.',
    serveOptions,
    true,
  );

const loopbackHosts = ['127.0.0.1', 'localhost', '::1', '[::1]'];

/** The model that ships with the package; quire-demo where there are several. */
function shippedModel(): string {
  const models = join(packageRoot, 'models');
  const names = existsSync(models)
    ? readdirSync(models).filter((name) => existsSync(join(models, name, 'config.json')))
    : [];
  const name = names.includes('quire-demo') ? 'quire-demo' : names[0];
  if (name === undefined) {
    throw new OptionError(
      'no model is named and models/ has none: npm start -- MODEL, where MODEL is a folder or a Hub id such as Qwen/Qwen2.5-0.5B-Instruct',
    );
  }
  return join(models, name);
}

async function createLogger(values: OptionValues): Promise<Logger> {
  const format = values['log-format'];
  const isPretty = format === 'pretty' || (format === 'auto' && process.stdout.isTTY === true);
  const level = values['log-level'] as string;
  if (!isPretty) return pino({ level });
  const { default: pretty } = await import('pino-pretty');
  return pino({ level }, pretty({ colorize: process.stdout.isTTY, sync: true }));
}

/** Downloads a draft model that is not here yet. */
async function speculationOf(text: string | null): Promise<EngineOptions['speculation']> {
  if (text === null) return null;
  const { findSpeculation } = await import('./speculative-config.ts');
  return findSpeculation(text, (line) => process.stderr.write(line));
}

export async function toEngineOptions(values: OptionValues, modelPath: string): Promise<EngineOptions> {
  const template = values['chat-template'] as string | null;
  if (template !== null && !existsSync(template))
    throw new OptionError(`--chat-template: ${template} does not exist`);
  return {
    model: modelPath,
    loadFormat: values['load-format'] as 'auto',
    backend: values.backend as 'cpu',
    gpuMemoryUtilization: values['gpu-memory-utilization'] as number,
    nullStepMs: values['null-step-time'] as number,
    dtype: values.dtype as 'auto',
    kvCacheDtype: values['kv-cache-dtype'] as 'auto',
    cpuActivations: values['cpu-activations'] as 'f32',
    quantization: values.quantization as 'auto',
    packedCache: values['packed-cache'] as string | null,
    batchInvariant: values['batch-invariant'] === true,
    maxModelLen: values['max-model-len'] as number | null,
    maxNumSeqs: values['max-num-seqs'] as number,
    maxNumBatchedTokens: values['max-num-batched-tokens'] as number,
    longPrefillTokenThreshold: values['long-prefill-token-threshold'] as number,
    blockSize: Number(values['block-size']),
    kvCacheBytes: values['kv-cache-memory'] as number | null,
    numBlocksOverride: values['num-gpu-blocks-override'] as number | null,
    enablePrefixCaching: values['enable-prefix-caching'] as boolean,
    maxLogprobs: values['max-logprobs'] as number,
    maxLoras: values['max-loras'] as number,
    grammarTimeoutMs: 1000 * (values['grammar-timeout'] as number),
    maxCpuLoras: values['max-cpu-loras'] as number,
    maxLoraRank: values['max-lora-rank'] as number,
    threads: values.threads as number | null,
    cpuAffinity: values['cpu-affinity'] as string | null,
    seed: values.seed as number | null,
    speculation: await speculationOf(values['speculative-config'] as string | null),
    cpuVariant: values.cpu === 'auto' ? null : (values.cpu as 'avx2'),
    chatTemplate: template === null ? null : readFileSync(template, 'utf8'),
  };
}

type GivenOptions = Pick<AppOptions, 'servedModelNames' | 'encoders' | 'logger'> & { metrics: Metrics };

function toAppOptions(values: OptionValues, given: GivenOptions): AppOptions {
  const isLoopback = loopbackHosts.includes(values.host as string);
  return {
    ...given,
    apiKeys: values['api-key'] as string[],
    maxQueuedRequests: values['max-queued-requests'] as number,
    maxConnections: values['max-connections'] as number,
    maxWebSockets: values['max-websockets'] as number,
    bodyLimitBytes: values['body-limit'] as number,
    bodyTimeoutMs: 60_000,
    ssePingIntervalMs: (values['sse-ping-interval'] as number) * 1000,
    heartbeatTimeoutMs: (values['heartbeat-timeout'] as number) * 1000,
    allowedOrigins: values['allowed-origins'] as string[],
    // A page in a browser can reach loopback under any name it likes; the Host header tells.
    allowedHosts: isLoopback ? [...loopbackHosts, ...(values['allowed-hosts'] as string[])] : null,
    allowRuntimeLora: values['allow-runtime-lora'] === true,
    enableAdmin: values['enable-admin'] === true,
    storePath: values.store as string | null,
    responsesLimitBytes: values['responses-limit'] as number,
    maxStoreBytes: values['max-store-size'] as number,
    maxFileBytes: values['max-file-size'] as number,
    toolCallParser: values['tool-call-parser'] as string,
    reasoningParser: values['reasoning-parser'] as string,
    version,
  };
}

/** What was asked for in vain is said too. */
function explainPackedCaches({ packedCaches }: Engine, asked: string | null, logger: Logger): void {
  if (asked === null) return;
  if (packedCaches.length === 0) logger.info('--packed-cache: no weights of this model are packed here');
  for (const { isProblem, text } of packedCaches) logger[isProblem ? 'warn' : 'info'](text);
}

/** A build for GPUs that found none says why the model runs on the CPU. */
function explainBackend(asked: EngineOptions['backend'], logger: Logger): void {
  if (asked !== 'auto') return;
  const gpus = findCudaDevices();
  if (!gpus.isBuilt || findBackend(gpus) === 'cuda') return;
  logger.info(`running on the CPU: ${gpus.problem || 'no GPU here is supported'}`);
}

/** Finished requests are logged where there is a logger. */
function observerOf(metrics: Metrics, logger: Logger | null): EngineObserver {
  return {
    onStep: metrics.onStep.bind(metrics),
    onFirstToken: metrics.onFirstToken.bind(metrics),
    onInterToken: metrics.onInterToken.bind(metrics),
    onFinished: (record) => {
      metrics.onFinished(record);
      if (logger !== null) logRequest(logger, record);
    },
  };
}

async function loadAdapters(engine: Engine, modules: string[], modelNames: string[]): Promise<void> {
  for (const module of modules) {
    const [name, folder] = module.split(/=(.*)/s, 2);
    if (!name || !folder || modelNames.includes(name) || engine.adapters.has(name)) {
      throw new OptionError(
        `--lora-modules: found ${JSON.stringify(module)}, allowed: name=folder with a name of its own`,
      );
    }
    await engine.loadAdapter(name, folder);
  }
}

async function openEncoders(models: string[], taken: ReadonlySet<string>): Promise<Map<string, Encoder>> {
  const encoders = new Map<string, Encoder>();
  for (const model of models) {
    const [name, folder] = model.split(/=(.*)/s, 2);
    if (!name || !folder || taken.has(name) || encoders.has(name)) {
      throw new OptionError(
        `--embedding-model: found ${JSON.stringify(model)}, allowed: name=folder with a name of its own`,
      );
    }
    encoders.set(name, await Encoder.open(folder));
  }
  return encoders;
}

/** Where the time from the start of the process to the open port went; `quire bench startup` reads it. */
function logStartup(logger: Logger, phases: Record<string, number>): void {
  const startupMs = Object.fromEntries(
    Object.entries(phases).map(([phase, ms]) => [phase, Math.round(ms * 10) / 10]),
  );
  logger.info({ startupMs }, `ready after ${(performance.now() / 1000).toFixed(2)} s`);
}

async function listen({ fastify }: App, values: OptionValues): Promise<string> {
  try {
    return await fastify.listen({ host: values.host as string, port: values.port as number });
  } catch (error) {
    throw new OptionError(`cannot listen on ${values.host}:${values.port}: ${(error as Error).message}`);
  }
}

/**
 * Serves until a signal or the engine's death. Resolves with the exit code; throws what kept it from
 * starting.
 */
export async function runServe(args: readonly string[]): Promise<number> {
  const importsMs = performance.now();
  const { model, values } = readOptions(args, process.env);
  const logger = await createLogger(values);
  const named = model ?? shippedModel();
  const defaultName = model ?? basename(named);
  const modelPath = await resolveModel(named, process.env, (line) => process.stderr.write(line));
  const names =
    (values['served-model-name'] as string[]).length > 0
      ? (values['served-model-name'] as string[])
      : [defaultName];
  const options = await toEngineOptions(values, modelPath);
  // Complete before the first request: the metrics are loaded as the routes are, while the engine's threads
  // read the weights and the tokenizer.
  const observer: EngineObserver = {};
  const [engine, { Metrics }, { buildApp }] = await Promise.all([
    Engine.begin({ ...options, observer }),
    import('./metrics.ts'),
    import('./app.ts'),
  ]);
  const metrics = new Metrics(names[0], options.maxModelLen ?? 1_000_000);
  Object.assign(observer, observerOf(metrics, values['disable-log-requests'] === true ? null : logger));
  await loadAdapters(engine, values['lora-modules'] as string[], names);
  metrics.setEngine(engine.description, options.enablePrefixCaching ?? true);
  if (options.speculation != null) metrics.setSpeculation(options.speculation.numSpeculativeTokens);
  metrics.setQueue(() => engine.stats.numWaiting);
  metrics.setSleepState(() => engine.control.isSleeping);
  metrics.setAdapters(values['max-loras'] as number, () => engine.adaptersInUse());
  const taken = new Set([...names, ...engine.adapters.keys()]);
  const encoders = await openEncoders(values['embedding-model'] as string[], taken);
  const openedMs = performance.now();
  const app = await buildApp(
    engine,
    toAppOptions(values, { servedModelNames: names, encoders, metrics, logger }),
  );
  const routesMs = performance.now() - openedMs;
  const startup = await engine.ready();
  const url = await listen(app, values);
  logStartup(logger, { imports: importsMs, ...startup, routes: routesMs });
  explainPackedCaches(engine, options.packedCache ?? null, logger);
  explainBackend(options.backend, logger);
  process.stdout.write(banner(engine.description, names[0], url, values));
  if (!loopbackHosts.includes(values.host as string) && (values['api-key'] as string[]).length === 0) {
    logger.warn(
      `listening on ${values.host} without an API key: everyone who reaches this port may use it (--api-key)`,
    );
  }
  return untilEnd(app, engine, [...encoders.values()], logger, (values['shutdown-timeout'] as number) * 1000);
}

async function untilEnd(
  app: App,
  engine: Engine,
  encoders: readonly Encoder[],
  logger: Logger,
  drainMs: number,
): Promise<number> {
  const signal = new Promise<NodeJS.Signals>((resolveSignal) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, resolveSignal);
  });
  const end = await Promise.race([signal, engine.died]);
  if (end instanceof Error) {
    logger.fatal(`the engine ended: ${end.message}`);
    await closeWithin(app, 1000);
    return 1;
  }
  setTimeout(endAtNextSignal, sameSignalMs).unref();
  logger.info(`${end}: draining for at most ${drainMs / 1000} s`);
  app.drain();
  await drained(() => engine.numOpenRequests === 0 && encoders.every(({ isIdle }) => isIdle), drainMs);
  await Promise.all([engine.close(), ...encoders.map((encoder) => encoder.close())]);
  await closeWithin(app, 1000);
  return 0;
}

/** npm passes on to its child what their process group got already: the same signal, twice. */
const sameSignalMs = 200;

/** As a shell would have it. */
function endAtNextSignal(): void {
  process.once('SIGTERM', () => process.exit(143));
  process.once('SIGINT', () => process.exit(130));
}

async function drained(isIdle: () => boolean, limitMs: number): Promise<void> {
  const end = Date.now() + limitMs;
  while (!isIdle() && Date.now() < end) await new Promise((done) => setTimeout(done, 20));
}

/** Answers under way get a moment to reach their clients; idle connections do not hold the process. */
async function closeWithin({ fastify }: App, limitMs: number): Promise<void> {
  fastify.server.closeIdleConnections();
  const timer = setTimeout(() => fastify.server.closeAllConnections(), limitMs);
  await fastify.close();
  clearTimeout(timer);
}
