// POST /v1/completions: one text, a list of texts, token ids, or a list of those; n choices each.

import type { FastifyInstance, FastifyReply } from 'fastify';
import type { CompletionDelta, EngineApi, Grammar, TokenLogprobs } from '../../engine/engine.ts';
import { RequestError } from '../../engine/engine.ts';
import { bestChoices, wantedBeams, wantedBestOf } from '../beams.ts';
import { type Caller, cacheSaltOf, callerOf, priorityOf } from '../caller.ts';
import { admit, type Context, fromRequestError } from '../context.ts';
import { ApiError } from '../errors.ts';
import { promptLogprobs, type TextLogprobs, textLogprobs } from '../logprobs.ts';
import { badWordTokens, clientFieldNames, refuseUnsupported, toSamplingParams } from '../sampling.ts';
import { type CompletionRequest, completionRequest } from '../schemas.ts';
import { SseStream, sseDone, sseEvent } from '../sse.ts';
import { checkAllowedTokens, compileGrammar, wantedGrammar } from '../structured-output.ts';
import { truncated } from '../truncation.ts';
import { UsageCount } from '../usage.ts';

/** OpenAI's and vLLM's default for this endpoint. */
const defaultMaxTokens = 16;

interface Envelope {
  id: string;
  created: number;
  model: string;
  system_fingerprint: string;
}

/** One prompt and the deltas of its choices. */
interface Run {
  /** Position among the request's prompts. */
  promptIndex: number;
  tokenIds: Int32Array;
  text: string;
  deltas: AsyncIterable<CompletionDelta>;
}

type Prompt = { tokenIds: Int32Array; text: string };

/** max_tokens 0 with echo: the prompt alone is wanted. One token is generated and left out. */
const wantsPromptOnly = (body: CompletionRequest) => body.max_tokens === 0;

async function encodePrompts({ engine }: Context, body: CompletionRequest): Promise<Prompt[]> {
  const { prompt } = body;
  const maxTokens = wantsPromptOnly(body) ? 1 : (body.max_tokens ?? defaultMaxTokens);
  const list = typeof prompt === 'string' || typeof prompt[0] === 'number' ? [prompt] : prompt;
  return Promise.all(
    (list as Array<string | number[]>).map(async (one) => {
      if (typeof one === 'string') {
        const encoded = await engine.encodeText(one, body.add_special_tokens ?? true);
        return truncated(engine, encoded, body, maxTokens);
      }
      const kept = truncated(engine, { tokenIds: Int32Array.from(one), text: '' }, body, maxTokens);
      const text = body.echo === true ? engine.decode(kept.tokenIds, body.skip_special_tokens ?? true) : '';
      return { ...kept, text };
    }),
  );
}

function startRuns(
  context: Context,
  caller: Caller,
  body: CompletionRequest,
  prompts: readonly Prompt[],
  badWords: number[][],
  adapter: string | null,
  grammar: Grammar | null,
): Run[] {
  const { engine } = context;
  const stop = new AbortController();
  const logprobs = body.logprobs ?? null;
  const bestOf = wantedBestOf(body);
  const sampling = toSamplingParams(
    body,
    engine.description.defaultSampling,
    wantsPromptOnly(body) ? 1 : (body.max_tokens ?? defaultMaxTokens),
    {
      n: bestOf,
      // The best are told by them.
      logprobs: bestOf > (body.n ?? 1) ? (logprobs ?? 0) : logprobs,
      promptLogprobs: body.prompt_logprobs ?? (body.echo === true ? logprobs : null),
      badWords,
    },
  );
  sampling.beams = wantedBeams(body, grammar !== null);
  try {
    return prompts.map((prompt, promptIndex) => ({
      ...prompt,
      promptIndex,
      deltas: engine.generate({
        requestId: prompts.length === 1 ? caller.id : `${caller.id}-${promptIndex}`,
        promptTokenIds: prompt.tokenIds,
        sampling,
        priority: priorityOf(caller, body.priority),
        cacheSalt: cacheSaltOf(caller, body.cache_salt),
        adapter,
        grammar,
        arrivalMs: caller.arrivalMs,
        signal: AbortSignal.any([caller.signal, stop.signal]),
      }),
    }));
  } catch (error) {
    // One bad prompt refuses the request; those before it have started.
    stop.abort();
    if (error instanceof RequestError) throw fromRequestError(error, clientFieldNames, 'prompt');
    throw error;
  }
}

/** A request that runs: everything its answer is made from. */
interface Started {
  envelope: Envelope;
  runs: Run[];
  usage: UsageCount;
}

export function completionRoutes(app: FastifyInstance, context: Context): void {
  app.post('/v1/completions', { schema: { body: completionRequest } }, async (request, reply) => {
    const body = request.body as CompletionRequest;
    const started = await start(context, callerOf(request, reply), body);
    if (started === null) return reply.hijack();
    return body.stream === true ? stream(context, reply, body, started) : answer(context, body, started);
  });
}

/** The whole answer to a valid body, which does not stream. Null when the caller has gone meanwhile. */
export async function textCompletion(
  context: Context,
  caller: Caller,
  body: CompletionRequest,
): Promise<object | null> {
  const started = await start(context, caller, body);
  return started === null ? null : answer(context, body, started);
}

async function start(context: Context, caller: Caller, body: CompletionRequest): Promise<Started | null> {
  const { model, adapter } = admit(context, body.model, caller);
  const { best_of: _ranked, ...rest } = body;
  refuseUnsupported(rest);
  if (wantsPromptOnly(body) && body.echo !== true) {
    throw new ApiError(
      'invalid_value',
      'max_tokens: found 0, allowed: at least 1, or 0 with echo',
      'max_tokens',
    );
  }
  const wanted = wantedGrammar(body);
  checkAllowedTokens(body, wanted);
  const [prompts, badWords, grammar] = await Promise.all([
    encodePrompts(context, body),
    badWordTokens(context.engine, body.bad_words ?? []),
    compileGrammar(context.engine, wanted),
  ]);
  if (caller.signal.aborted) return null;
  const envelope: Envelope = {
    id: `cmpl-${caller.id}`,
    created: Math.floor(Date.now() / 1000),
    model,
    system_fingerprint: context.fingerprint,
  };
  return {
    envelope,
    runs: startRuns(context, caller, body, prompts, badWords, adapter, grammar),
    usage: new UsageCount(prompts.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0)),
  };
}

async function answer(
  context: Context,
  body: CompletionRequest,
  { envelope, runs, usage }: Started,
): Promise<object> {
  const choices = (await Promise.all(runs.map((run) => collect(context, body, run, usage)))).flat();
  return { ...envelope, object: 'text_completion', choices, usage: usage.value };
}

/** What echo puts before the answer, with its log-probabilities when they were asked for. */
function echoOf(
  { engine }: Context,
  body: CompletionRequest,
  run: Run,
  reported: readonly TokenLogprobs[] | null,
) {
  if (body.echo !== true) return { text: '', logprobs: null };
  const tokens = [{ tokenId: run.tokenIds[0], logprob: null }, ...(reported ?? [])];
  return { text: run.text, logprobs: shownLogprobs(engine, body, tokens, 0) };
}

/** Null where they were not asked for. */
function shownLogprobs(
  engine: EngineApi,
  { logprobs, return_tokens_as_token_ids: asIds }: CompletionRequest,
  tokens: Parameters<typeof textLogprobs>[1],
  firstOffset: number,
): TextLogprobs | null {
  return logprobs == null ? null : textLogprobs(engine, tokens, firstOffset, asIds === true);
}

function joined(first: TextLogprobs | null, second: TextLogprobs | null): TextLogprobs | null {
  if (first === null || second === null) return first ?? second;
  return {
    tokens: [...first.tokens, ...second.tokens],
    token_logprobs: [...first.token_logprobs, ...second.token_logprobs],
    top_logprobs: [...first.top_logprobs, ...second.top_logprobs],
    text_offset: [...first.text_offset, ...second.text_offset],
  };
}

async function collect(
  context: Context,
  body: CompletionRequest,
  run: Run,
  usage: UsageCount,
): Promise<object[]> {
  const deltas: CompletionDelta[][] = Array.from({ length: wantedBestOf(body) }, () => []);
  for await (const delta of run.deltas) {
    usage.add(run, delta, wantsPromptOnly(body) ? 0 : undefined);
    deltas[delta.index].push(delta);
  }
  const reported = deltas[0].find(({ promptLogprobs }) => promptLogprobs !== null)?.promptLogprobs ?? null;
  return bestChoices(deltas, body.n ?? 1).map((own, index) => {
    const last = own[own.length - 1];
    if (last.finishReason === 'error') throw new Error('the engine ended');
    const echo = echoOf(context, body, run, reported);
    const text = wantsPromptOnly(body) ? '' : own.map((delta) => delta.text).join('');
    const tokens = wantsPromptOnly(body) ? [] : own.flatMap(({ logprobs }) => logprobs ?? []);
    const generated = shownLogprobs(context.engine, body, tokens, echo.text.length);
    return {
      index: run.promptIndex * (body.n ?? 1) + index,
      text: echo.text + text,
      logprobs: joined(echo.logprobs, generated),
      finish_reason: last.finishReason,
      stop_reason: last.stopReason,
      ...(body.return_token_ids
        ? { token_ids: own.flatMap(({ tokenIds }) => tokenIds), prompt_token_ids: Array.from(run.tokenIds) }
        : {}),
      ...(body.prompt_logprobs == null || reported === null
        ? {}
        : { prompt_logprobs: promptLogprobs(context.engine, reported) }),
    };
  });
}

async function stream(
  context: Context,
  reply: FastifyReply,
  body: CompletionRequest,
  { envelope, runs, usage }: Started,
): Promise<void> {
  const sse = new SseStream(reply, context.options.ssePingIntervalMs);
  const withUsage = body.stream_options?.include_usage === true;
  const base = { ...envelope, object: 'text_completion' };
  const results = await Promise.all(runs.map((run) => streamRun(context, sse, body, base, run, usage)));
  if (results.includes('failed')) {
    sse.end(sseEvent(new ApiError('internal_error', 'internal error').body));
    return;
  }
  const last = withUsage ? sseEvent({ ...base, choices: [], usage: usage.value }) : '';
  sse.end(last + sseDone);
}

async function streamRun(
  context: Context,
  sse: SseStream,
  body: CompletionRequest,
  base: object,
  run: Run,
  usage: UsageCount,
): Promise<'done' | 'failed' | 'gone'> {
  const withUsage = body.stream_options?.include_usage === true;
  const continuous = withUsage && body.stream_options?.continuous_usage_stats === true;
  const event = (choice: object) =>
    sseEvent({
      ...base,
      choices: [choice],
      ...(withUsage ? { usage: continuous ? usage.value : null } : {}),
    });
  const isPlain =
    body.logprobs == null && body.return_token_ids !== true && body.echo !== true && !continuous;
  const plain = Array.from({ length: body.n ?? 1 }, (_, i) => {
    const index = run.promptIndex * (body.n ?? 1) + i;
    const [head, tail] = event({ index, text: '\u0000', logprobs: null, finish_reason: null }).split(
      '"\\u0000"',
    );
    return { head, tail };
  });
  /** Characters of each choice that are out, for text_offset; absent before its first chunk. */
  const offsets = new Map<number, number>();
  for await (const delta of run.deltas) {
    usage.add(run, delta, wantsPromptOnly(body) ? 0 : undefined);
    if (delta.finishReason === 'error') return 'failed';
    const { index } = delta;
    const events =
      isPlain && delta.finishReason === null && delta.promptLogprobs === null
        ? plain[index].head + JSON.stringify(delta.text) + plain[index].tail
        : event(fullChoice(context, body, run, delta, offsets));
    const room = isPlain && delta.text === '' && delta.finishReason === null ? undefined : sse.write(events);
    if (room !== undefined) await room;
    if (sse.isOver) return 'gone';
  }
  return 'done';
}

function fullChoice(
  context: Context,
  body: CompletionRequest,
  run: Run,
  delta: CompletionDelta,
  offsets: Map<number, number>,
): object {
  const isFirst = !offsets.has(delta.index);
  const echo = isFirst ? echoOf(context, body, run, delta.promptLogprobs) : { text: '', logprobs: null };
  const offset = (offsets.get(delta.index) ?? 0) + echo.text.length;
  const text = wantsPromptOnly(body) ? '' : delta.text;
  const tokens = wantsPromptOnly(body) ? [] : (delta.logprobs ?? []);
  offsets.set(delta.index, offset + text.length);
  const generated = shownLogprobs(context.engine, body, tokens, offset);
  return {
    index: run.promptIndex * (body.n ?? 1) + delta.index,
    text: echo.text + text,
    logprobs: joined(echo.logprobs, generated),
    finish_reason: delta.finishReason,
    ...(delta.finishReason === null ? {} : { stop_reason: delta.stopReason }),
    ...(body.return_token_ids ? { token_ids: delta.tokenIds } : {}),
    ...(isFirst && body.prompt_logprobs != null && delta.promptLogprobs !== null
      ? { prompt_logprobs: promptLogprobs(context.engine, delta.promptLogprobs) }
      : {}),
  };
}
