// Ollama's routes, so that its clients work: /api/chat, /api/generate, and what they ask before.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { nowMs } from '../../engine/clock.ts';
import type { CompletionDelta } from '../../engine/engine.ts';
import { answerFormat, readsReasoning } from '../answer/formats.ts';
import { brokenOff } from '../broken-off.ts';
import { callerOf } from '../caller.ts';
import { type ChatRun, startChat } from '../chat-run.ts';
import { admit, type Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import { chatLogprobs } from '../logprobs.ts';
import { isNothing, nothing, OllamaAnswer, type Said } from '../ollama/answer.ts';
import { fromChat, fromGenerate, isLoad } from '../ollama/chat-request.ts';
import { errorBody, ollama } from '../ollama/dialect.ts';
import { describeAll, describeInFull, describeRunning, servedName } from '../ollama/models.ts';
import {
  type OllamaChatRequest,
  type OllamaGenerateRequest,
  type OllamaShowRequest,
  ollamaChatRequest,
  ollamaGenerateRequest,
  ollamaShowRequest,
} from '../ollama/schemas.ts';
import { ResponseStream } from '../response-stream.ts';
import { ollamaEmbeddingRoutes } from './ollama-embeddings.ts';

/** How a route says what is said. */
type Words = (said: Said) => object;

/** A request that runs, and its times, monotonic ms. */
interface Run extends ChatRun {
  context: Context;
  /** The client's name for the model. */
  name: string;
  words: Words;
  answer: OllamaAnswer;
  arrivalMs: number;
  startedMs: number;
  firstTokenMs: number | null;
  numOutputTokens: number;
}

export function ollamaRoutes(app: FastifyInstance, context: Context): void {
  const config = { dialect: ollama };
  readJsonOfForms(app);
  ollamaEmbeddingRoutes(app, context);
  app.get('/', { config }, async (_request, reply) =>
    reply.type('text/plain').send('Ollama is running: its API, by quire\n'),
  );
  app.get('/api/version', { config }, async () => ({ version: context.options.version }));
  app.get('/api/tags', { config }, async () => ({ models: describeAll(context) }));
  app.get('/api/ps', { config }, async () => ({ models: describeRunning(context) }));

  app.post('/api/show', { config, schema: { body: ollamaShowRequest } }, async (request) => {
    const { model, name } = request.body as OllamaShowRequest;
    const asked = model ?? name ?? '';
    if (asked === '') throw new ApiError('invalid_value', 'model is missing, expected a name', 'model');
    admit(context, servedName(context, asked));
    return describeInFull(context);
  });

  app.post('/api/chat', { config, schema: { body: ollamaChatRequest } }, async (request, reply) => {
    const body = request.body as OllamaChatRequest;
    const model = servedName(context, body.model);
    if (isLoad(body)) return loaded(context, body.model, chatWords);
    const chat = fromChat(body, model, readsReasoning(context.answerFormat));
    const started = await startChat(context, callerOf(request, reply), chat);
    return answer(context, request, reply, body, chatWords, started);
  });

  app.post('/api/generate', { config, schema: { body: ollamaGenerateRequest } }, async (request, reply) => {
    const body = request.body as OllamaGenerateRequest;
    const model = servedName(context, body.model);
    if (isLoad(body)) return loaded(context, body.model, generateWords);
    const chat = fromGenerate(body, model, readsReasoning(context.answerFormat));
    const started = await (body.raw === true
      ? startChat(asText(context), callerOf(request, reply), chat, () =>
          context.engine.encodeText(body.prompt ?? '', true),
        )
      : startChat(context, callerOf(request, reply), chat));
    return answer(context, request, reply, body, generateWords, started);
  });
}

/**
 * curl calls every body a form, and Ollama's pages show it so. Browsers send forms to any server without
 * asking it first: theirs, which name an origin, are refused.
 */
function readJsonOfForms(app: FastifyInstance): void {
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string' },
    (request, body, done) => {
      if (request.headers.origin === undefined) return parseJson(request, body as string, done);
      done(new ApiError('unsupported_media_type', 'content-type: allowed: application/json'));
    },
  );
}

/** Nothing is read in answers to raw prompts. */
const asText = (context: Context): Context => ({
  ...context,
  answerFormat: answerFormat(null, 'none', 'none'),
});

const chatWords: Words = ({ content, thinking, calls }) => ({
  message: {
    role: 'assistant',
    content,
    ...(thinking === '' ? {} : { thinking }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  },
});

const generateWords: Words = ({ content, thinking }) => ({
  response: content,
  ...(thinking === '' ? {} : { thinking }),
});

const headOf = (name: string) => ({ model: name, created_at: new Date().toISOString() });

function loaded(context: Context, name: string, words: Words): object {
  admit(context, servedName(context, name));
  return { ...headOf(name), ...words(nothing()), done: true, done_reason: 'load' };
}

function answer(
  context: Context,
  { arrivalMs }: FastifyRequest,
  reply: FastifyReply,
  body: OllamaChatRequest | OllamaGenerateRequest,
  words: Words,
  started: ChatRun | null,
): unknown {
  if (started === null) return reply.hijack();
  const run: Run = {
    ...started,
    context,
    name: body.model,
    words,
    answer: new OllamaAnswer(started.format, started.options),
    arrivalMs,
    startedMs: nowMs(),
    firstTokenMs: null,
    numOutputTokens: 0,
  };
  return body.stream === false ? whole(run) : stream(run, reply);
}

function take(run: Run, delta: CompletionDelta): { said: Said; logprobs: object[] } {
  if (delta.tokenIds.length > 0) run.firstTokenMs ??= nowMs();
  run.numOutputTokens += delta.tokenIds.length;
  const logprobs = delta.logprobs === null ? [] : chatLogprobs(run.context.engine, delta.logprobs);
  return { said: run.answer.push(delta), logprobs };
}

/** Durations in nanoseconds. The model is loaded already, so that what loads is the prompt. */
function endOf(run: Run, { finishReason }: CompletionDelta): object {
  const { arrivalMs, startedMs, numOutputTokens, prompt } = run;
  const endMs = nowMs();
  const firstTokenMs = run.firstTokenMs ?? endMs;
  const nanoseconds = (fromMs: number, toMs: number) => Math.round((toMs - fromMs) * 1e6);
  return {
    done: true,
    done_reason: finishReason,
    total_duration: nanoseconds(arrivalMs, endMs),
    load_duration: nanoseconds(arrivalMs, startedMs),
    prompt_eval_count: prompt.tokenIds.length,
    prompt_eval_duration: nanoseconds(startedMs, firstTokenMs),
    eval_count: numOutputTokens,
    eval_duration: nanoseconds(firstTokenMs, endMs),
  };
}

const logprobsField = (logprobs: object[]) => (logprobs.length === 0 ? {} : { logprobs });

async function whole(run: Run): Promise<object> {
  const all = nothing();
  const logprobs: object[] = [];
  for await (const delta of run.deltas) {
    const failure = brokenOff(run.context, delta);
    if (failure !== null) throw failure;
    const { said, logprobs: own } = take(run, delta);
    all.content += said.content;
    all.thinking += said.thinking;
    all.calls.push(...said.calls);
    logprobs.push(...own);
    if (delta.finishReason === null) continue;
    return { ...headOf(run.name), ...run.words(all), ...logprobsField(logprobs), ...endOf(run, delta) };
  }
  throw new Error('the engine gave no end');
}

async function stream(run: Run, reply: FastifyReply): Promise<void> {
  const line = (fields: object) => `${JSON.stringify({ ...headOf(run.name), ...fields })}\n`;
  const lines = new ResponseStream(reply, {
    contentType: 'application/x-ndjson',
    pingIntervalMs: run.context.options.ssePingIntervalMs,
    // Lines have no comments: one that says nothing.
    ping: () => line({ ...run.words(nothing()), done: false }),
  });
  for await (const delta of run.deltas) {
    const failure = brokenOff(run.context, delta);
    if (failure !== null) return lines.end(`${JSON.stringify(errorBody(failure))}\n`);
    const { said, logprobs } = take(run, delta);
    const isSilent = isNothing(said) && logprobs.length === 0;
    const next = isSilent ? '' : line({ ...run.words(said), ...logprobsField(logprobs), done: false });
    if (delta.finishReason !== null)
      return lines.end(next + line({ ...run.words(nothing()), ...endOf(run, delta) }));
    const room = isSilent ? undefined : lines.write(next);
    if (room !== undefined) await room;
    if (lines.isOver) return;
  }
}
