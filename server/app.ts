// The HTTP application over an engine. It never listens: that is serve.ts's, and tests inject.

import { createHash, randomBytes } from 'node:crypto';
import cors from '@fastify/cors';
import swagger from '@fastify/swagger';
import websocket from '@fastify/websocket';
import fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import { nowMs } from '../engine/clock.ts';
import type { EngineApi } from '../engine/engine.ts';
import { answerFormat } from './answer/formats.ts';
import { agreedProtocol, checkHost, Keys } from './auth.ts';
import { Batches } from './batches/batches.ts';
import {
  answerParserError,
  closeSilent,
  Incoming,
  limitBodyTime,
  limitConnections,
  uploadTimeoutMs,
  writeError,
} from './connections.ts';
import type { AppOptions, Context } from './context.ts';
import { dialectOf } from './dialect.ts';
import { ApiError } from './errors.ts';
import { knownError } from './known-error.ts';
import { checkNesting } from './nesting.ts';
import { openApiOptions } from './openapi.ts';
import { Responses } from './responses/responses.ts';
import { adapterRoutes } from './routes/adapters.ts';
import { adminRoutes } from './routes/admin.ts';
import { batchRoutes } from './routes/batches.ts';
import { chatRoutes } from './routes/chat.ts';
import { classifyRoutes } from './routes/classify.ts';
import { completionRoutes } from './routes/completions.ts';
import { embeddingRoutes } from './routes/embeddings.ts';
import { fileRoutes } from './routes/files.ts';
import { messageRoutes } from './routes/messages.ts';
import { modelRoutes } from './routes/models.ts';
import { ollamaRoutes } from './routes/ollama.ts';
import { operationRoutes } from './routes/operations.ts';
import { responseRoutes } from './routes/responses.ts';
import { scoreRoutes } from './routes/scores.ts';
import { socketRoutes } from './routes/sockets.ts';
import { tokenizeRoutes } from './routes/tokenize.ts';
import { unsupportedRoutes } from './routes/unsupported.ts';
import { openDatabase } from './store/database.ts';
import { toApiError, validatorOf } from './validation.ts';
import { closeClients, Sockets } from './websocket/sockets.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The body is a file, and may take longer than others. */
    isUpload?: true;
  }
}

export interface App {
  fastify: FastifyInstance;
  /** What lines of batches have in the engine now. */
  batchLoad: Context['batchLoad'];
  /** From now on new work is refused; what runs goes on. */
  drain(): void;
}

/** Routes that answer without a key: what load balancers ask. */
const openRoutes: ReadonlySet<string> = new Set(['/health', '/ping']);
const methodsToTry = ['GET', 'POST', 'DELETE'] as const;

/** The client's own id when it is sane, else a fresh one; it names the request in logs and answers. */
function requestId({ headers }: { headers: Record<string, unknown> }): string {
  const given = headers['x-request-id'];
  return typeof given === 'string' && /^[\x21-\x7e]{1,128}$/.test(given)
    ? given
    : randomBytes(16).toString('hex');
}

function mediaTypesOf({ routeOptions }: FastifyRequest): string {
  const { consumes } = (routeOptions.schema ?? {}) as { consumes?: string[] };
  return (consumes ?? ['application/json']).join(', ');
}

function asApiError(error: FastifyError | Error, request: FastifyRequest): ApiError {
  const known = knownError(error);
  if (known !== null) return known;
  const { validation, code } = error as FastifyError;
  if (validation !== undefined) return toApiError(validation);
  switch (code) {
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new ApiError('unsupported_media_type', `content-type: allowed: ${mediaTypesOf(request)}`);
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new ApiError(
        'body_too_large',
        `the body is larger than ${request.server.initialConfig.bodyLimit} bytes`,
      );
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
      return new ApiError('malformed_json', 'the body is empty, expected a JSON object');
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new ApiError('malformed_json', `the body is not JSON: ${error.message}`);
  }
  if (error instanceof SyntaxError)
    return new ApiError('malformed_json', `the body is not JSON: ${error.message}`);
  const status = (error as FastifyError).statusCode ?? 500;
  if (status >= 400 && status < 500) return new ApiError('invalid_value', error.message);
  return new ApiError('internal_error', `internal error, see the server's log for request ${request.id}`);
}

function answerErrors(app: FastifyInstance): void {
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const apiError = asApiError(error, request);
    if (apiError.status >= 500 && apiError.errorName === 'internal_error')
      request.log.error({ err: error }, 'request failed');
    if (apiError.retryAfter !== null) reply.header('retry-after', String(apiError.retryAfter));
    if (apiError.errorName === 'draining') reply.header('connection', 'close');
    reply.code(apiError.status).send(dialectOf(request).errorBody(apiError, request.id));
  });
  app.setNotFoundHandler((request) => {
    const path = request.url.split('?')[0];
    const others = methodsToTry.filter((method) => app.findRoute({ method, url: path }) !== null);
    if (others.length > 0) {
      throw new ApiError(
        'method_not_allowed',
        `${request.method} ${path} does not exist, ${others.join(', ')} does`,
      );
    }
    throw new ApiError(
      'unknown_route',
      `${request.method} ${path.slice(0, 200)} does not exist, see /openapi.json`,
    );
  });
}

function guard(app: FastifyInstance, options: AppOptions): void {
  const keys = new Keys(options.apiKeys);
  app.decorateRequest('arrivalMs', 0);
  app.decorateRequest('keySalt', '');
  app.decorateRequest('owner', '');
  app.addHook('onRequest', async (request, reply) => {
    request.arrivalMs = nowMs();
    reply.header('x-request-id', request.id);
    const { idHeader } = dialectOf(request);
    if (idHeader !== undefined) reply.header(idHeader, request.id);
    checkHost(request, options.allowedHosts);
    // By the matched route, never by the raw path.
    const route = request.routeOptions.url;
    if (route !== undefined && openRoutes.has(route)) return;
    request.owner = keys.check(request);
    request.keySalt = options.apiKeys.length > 1 ? request.owner : '';
  });
  app.addHook('preValidation', async ({ body }) => checkNesting(body, null));
}

/** Before guard(): an upgrade that a hook refuses has its connection closed only by hooks that ran before. */
async function registerSockets(app: FastifyInstance, options: AppOptions): Promise<void> {
  await app.register(websocket, {
    options: { maxPayload: options.bodyLimitBytes, handleProtocols: agreedProtocol },
    preClose: closeClients,
    // The socket is closing already, unless the fault is ours.
    errorHandler: (error, socket, request) => {
      request.log.debug({ err: error }, 'socket');
      if (socket.readyState === socket.OPEN) socket.close(1011, 'internal error');
    },
  });
  app.websocketServer.on('wsClientError', ({ message }, socket) => {
    writeError(socket, new ApiError('malformed_request', `the upgrade to a WebSocket: ${message}`));
  });
}

/** Before guard(): what a browser asks beforehand has no key, and pages are to read why they are refused. */
async function answerBrowsers(app: FastifyInstance, origins: readonly string[]): Promise<void> {
  const exposedHeaders = ['x-request-id', 'request-id', 'retry-after'];
  await app.register(cors, { origin: [...origins], methods: ['GET', 'POST', 'DELETE'], exposedHeaders });
}

/** JSON, or nothing where nothing is wanted: clients name the type of a body that they leave out. */
function readBodies(app: FastifyInstance): void {
  app.removeContentTypeParser('text/plain');
  app.addHook('preParsing', async ({ headers: { 'content-encoding': encoding = 'identity' } }, _, body) => {
    if (encoding === 'identity') return body;
    const found = JSON.stringify(encoding.slice(0, 100));
    throw new ApiError(
      'unsupported_media_type',
      `content-encoding: found ${found}, allowed: bodies as they are`,
    );
  });
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '' && request.routeOptions.schema?.body === undefined) done(null, undefined);
    else parse(request, body, done);
  });
}

function createFastify(options: AppOptions): FastifyInstance {
  return fastify({
    ...(options.logger === null ? { logger: false } : { loggerInstance: options.logger }),
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: options.bodyLimitBytes,
    http: { IncomingMessage: Incoming },
    requestTimeout: uploadTimeoutMs,
    clientErrorHandler: answerParserError,
    genReqId: requestId as never,
    frameworkErrors: (error, request, reply) => {
      (reply as FastifyReply).code(400).send(asApiError(error, request as FastifyRequest).body);
    },
    routerOptions: { maxParamLength: 1000 },
  }) as FastifyInstance;
}

/** Everything but listening. The engine stays the caller's: close() does not close it. */
export async function buildApp(engine: EngineApi, options: AppOptions): Promise<App> {
  let isDraining = false;
  const app = createFastify(options);
  const context: Context = {
    engine,
    options,
    answerFormat: answerFormat(
      engine.description.chatTemplate,
      options.toolCallParser,
      options.reasoningParser,
    ),
    database: openDatabase(options.storePath, options.maxStoreBytes),
    startedAt: Math.floor(Date.now() / 1000),
    fingerprint: `fp_${createHash('sha256').update(`${options.version}/${engine.description.modelPath}`).digest('hex').slice(0, 12)}`,
    isDraining: () => isDraining,
    batchLoad: { numSequences: 0 },
  };
  limitConnections(app, options.maxConnections);
  closeSilent(app);
  app.setValidatorCompiler(({ schema, httpPart }) => validatorOf(schema as object, httpPart));
  answerErrors(app);
  await registerSockets(app, options);
  readBodies(app);
  if (options.allowedOrigins.length > 0) await answerBrowsers(app, options.allowedOrigins);
  guard(app, options);
  limitBodyTime(app, options.bodyTimeoutMs);
  await app.register(swagger, openApiOptions(options.version));
  app.get('/openapi.json', async () => app.swagger());
  chatRoutes(app, context);
  completionRoutes(app, context);
  messageRoutes(app, context);
  await app.register(async (scope) => ollamaRoutes(scope, context));
  unsupportedRoutes(app);
  embeddingRoutes(app, context);
  scoreRoutes(app, context);
  classifyRoutes(app, context);
  modelRoutes(app, context);
  tokenizeRoutes(app, context);
  operationRoutes(app, context);
  const responses = new Responses(context);
  responseRoutes(app, context, responses);
  const batches = new Batches(context, responses, app.log);
  await fileRoutes(app, context, batches.files);
  batchRoutes(app, context, batches);
  const { ssePingIntervalMs: pingIntervalMs, maxWebSockets: maxSockets, apiKeys } = options;
  const maxSocketsOfOne = apiKeys.length > 1 ? Math.ceil(maxSockets / 2) : maxSockets;
  const sockets = new Sockets({ pingIntervalMs, maxSockets, maxSocketsOfOne });
  socketRoutes(app, context, responses, sockets);
  app.addHook('onClose', async () => {
    await Promise.all([responses.settled(), batches.stop()]);
    context.database.close();
  });
  if (options.allowRuntimeLora) adapterRoutes(app, context);
  if (options.enableAdmin) adminRoutes(app, context);
  batches.start();
  return {
    fastify: app,
    batchLoad: context.batchLoad,
    drain: () => {
      isDraining = true;
      sockets.drain();
      // What waits behind a pause has to come to its end too.
      for (const action of ['resume', 'wakeUp'] as const) engine.control.ask(action).catch(() => {});
      // What is broken off runs again after the next start.
      void batches.stop();
    },
  };
}
