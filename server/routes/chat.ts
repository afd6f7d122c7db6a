// POST /v1/chat/completions

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { CompletionDelta, EncodedPrompt, TokenLogprobs } from '../../engine/engine.ts';
import { RequestError } from '../../engine/engine.ts';
import { ChatAnswer } from '../answer/chat-answer.ts';
import { isPlainText, marksOf, promptEndOf } from '../answer/formats.ts';
import { contentText, toChatPrompt } from '../chat-prompt.ts';
import { admit, type Context, cacheSaltOf, clientGone, fromRequestError } from '../context.ts';
import { ApiError } from '../errors.ts';
import { chatLogprobs, promptLogprobs } from '../logprobs.ts';
import { clientFieldNames, refuseUnsupported, toSamplingParams } from '../sampling.ts';
import { type ChatRequest, chatRequest, type ToolField } from '../schemas.ts';
import { SseStream, sseDone, sseEvent } from '../sse.ts';
import { UsageCount } from '../usage.ts';

/** What every chunk and the answer carry. */
interface Envelope {
  id: string;
  created: number;
  model: string;
  system_fingerprint: string;
}

/** A request that runs: everything its answer is made from. */
interface Run {
  context: Context;
  body: ChatRequest;
  envelope: Envelope;
  deltas: AsyncIterable<CompletionDelta>;
  /** By choice. */
  answers: ChatAnswer[];
  /** Answers are text alone, without calls or reasoning in it. */
  isPlainText: boolean;
  usage: UsageCount;
}

/** The tools that the model may call. */
function usedTools({ tools, tool_choice: choice }: ChatRequest): readonly ToolField[] {
  return choice === 'none' ? [] : (tools ?? []);
}

function toAnswers(
  { answerFormat: format }: Context,
  body: ChatRequest,
  prompt: EncodedPrompt,
  n: number,
): ChatAnswer[] {
  const tools = usedTools(body);
  const last = body.messages.at(-1);
  const continued = body.continue_final_message === true ? contentText(last?.content, 'messages') : null;
  return Array.from(
    { length: n },
    () =>
      new ChatAnswer(format, {
        readsCalls: tools.length > 0,
        tools: new Map(tools.map(({ function: { name, parameters } }) => [name, parameters ?? {}])),
        promptEnd: promptEndOf(format, prompt.text, continued),
        onlyOneCall: body.parallel_tool_calls === false,
        showsReasoning: body.include_reasoning !== false,
        isLegacy: false,
        echo: '',
      }),
  );
}

function wantedLogprobs(body: ChatRequest): number | null {
  if (body.top_logprobs != null && body.logprobs !== true) {
    throw new ApiError(
      'invalid_value',
      'top_logprobs: found a value, allowed: only with logprobs true',
      'top_logprobs',
    );
  }
  return body.logprobs === true ? (body.top_logprobs ?? 0) : null;
}

export function chatRoutes(app: FastifyInstance, context: Context): void {
  app.post('/v1/chat/completions', { schema: { body: chatRequest } }, async (request, reply) => {
    const run = await startRun(context, request, reply, request.body as ChatRequest);
    if (run === null) return reply.hijack();
    return run.body.stream === true ? stream(run, reply) : answer(run);
  });
}

/** Null when the client has gone meanwhile. */
async function startRun(
  context: Context,
  request: FastifyRequest,
  reply: FastifyReply,
  body: ChatRequest,
): Promise<Run | null> {
  const { engine, answerFormat } = context;
  const { model, adapter } = admit(context, body.model);
  refuseUnsupported(body);
  const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? null;
  if (maxTokens === 0)
    throw new ApiError('invalid_value', 'max_tokens: found 0, allowed: at least 1', 'max_tokens');
  const tools = usedTools(body);
  const isPlain = isPlainText(answerFormat, tools.length > 0);
  const sampling = toSamplingParams(body, engine.description.defaultSampling, maxTokens, {
    logprobs: wantedLogprobs(body),
    promptLogprobs: body.prompt_logprobs ?? null,
    keptSpecialTokens: marksOf(answerFormat, tools.length > 0),
    textLengths: !isPlain,
  });
  const signal = clientGone(reply);
  const prompt = await engine.encodeChat(toChatPrompt(body, tools));
  if (signal.aborted) return null;
  let deltas: AsyncIterable<CompletionDelta>;
  try {
    deltas = engine.generate({
      requestId: request.id,
      promptTokenIds: prompt.tokenIds,
      sampling,
      priority: body.priority ?? 0,
      cacheSalt: cacheSaltOf(request, body.cache_salt),
      adapter,
      arrivalMs: request.arrivalMs,
      signal,
    });
  } catch (error) {
    if (error instanceof RequestError) throw fromRequestError(error, clientFieldNames, 'messages');
    throw error;
  }
  return {
    context,
    body,
    envelope: {
      id: `chatcmpl-${request.id}`,
      created: Math.floor(Date.now() / 1000),
      model,
      system_fingerprint: context.fingerprint,
    },
    deltas,
    answers: toAnswers(context, body, prompt, sampling.n),
    isPlainText: isPlain,
    usage: new UsageCount(prompt.tokenIds.length),
  };
}

function countUsage({ usage, answers }: Run, delta: CompletionDelta): void {
  usage.add(usage, delta);
  usage.numReasoningTokens = answers.reduce((sum, { numReasoningTokens }) => sum + numReasoningTokens, 0);
}

/** What is known of one choice beside its message. */
interface Choice {
  tokenIds: number[];
  logprobs: TokenLogprobs[] | null;
  promptLogprobs: TokenLogprobs[] | null;
  finishReason: CompletionDelta['finishReason'];
  stopReason: CompletionDelta['stopReason'];
}

async function answer(run: Run): Promise<object> {
  const { body, envelope, answers, usage } = run;
  const { engine } = run.context;
  const choices = answers.map(
    (): Choice => ({
      tokenIds: [],
      logprobs: null,
      promptLogprobs: null,
      finishReason: null,
      stopReason: null,
    }),
  );
  for await (const delta of run.deltas) {
    const choice = choices[delta.index];
    answers[delta.index].push(delta);
    for (const id of delta.tokenIds) choice.tokenIds.push(id);
    if (delta.logprobs !== null) choice.logprobs = [...(choice.logprobs ?? []), ...delta.logprobs];
    choice.promptLogprobs ??= delta.promptLogprobs;
    choice.finishReason = delta.finishReason ?? choice.finishReason;
    choice.stopReason = delta.stopReason ?? choice.stopReason;
    countUsage(run, delta);
  }
  if (choices.some(({ finishReason }) => finishReason === 'error')) throw new Error('the engine ended');
  const reported = choices[0].promptLogprobs;
  return {
    ...envelope,
    object: 'chat.completion',
    choices: choices.map((choice, index) => ({
      index,
      message: answers[index].message,
      logprobs:
        choice.logprobs === null ? null : { content: chatLogprobs(engine, choice.logprobs), refusal: null },
      finish_reason: answers[index].finishReason(choice.finishReason),
      stop_reason: choice.stopReason,
      ...(body.return_token_ids ? { token_ids: choice.tokenIds } : {}),
    })),
    usage: usage.value,
    ...(reported === null ? {} : { prompt_logprobs: promptLogprobs(engine, reported) }),
  };
}

async function stream(run: Run, reply: FastifyReply): Promise<void> {
  const { context, body, envelope, answers, usage } = run;
  const sse = new SseStream(reply, context.options.ssePingIntervalMs);
  const withUsage = body.stream_options?.include_usage === true;
  const continuous = withUsage && body.stream_options?.continuous_usage_stats === true;
  const base = { ...envelope, object: 'chat.completion.chunk' };
  const usageField = () => (withUsage ? { usage: continuous ? usage.value : null } : {});
  const event = (choice: object) => sseEvent({ ...base, choices: [choice], ...usageField() });

  // The usual chunk has text and nothing else: only the text is serialised anew.
  const plain = answers.map((_, index) => {
    const choice = { index, delta: { content: '\u0000' }, logprobs: null, finish_reason: null };
    const [head, tail] = event(choice).split('"\\u0000"');
    return { head, tail };
  });
  const isPlain = run.isPlainText && body.logprobs !== true && body.return_token_ids !== true && !continuous;
  const greeted = new Set<number>();
  for await (const delta of run.deltas) {
    if (delta.finishReason === 'error') {
      sse.end(sseEvent(new ApiError('internal_error', 'internal error').body));
      return;
    }
    const { index } = delta;
    const isFirst = !greeted.has(index);
    greeted.add(index);
    const hello = { index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null };
    let events = isFirst ? event(hello) : '';
    if (isPlain && !isFirst && delta.finishReason === null) {
      usage.add(usage, delta);
      if (delta.text !== '') events += plain[index].head + JSON.stringify(delta.text) + plain[index].tail;
    } else {
      const choices = fullChoices(run, delta);
      countUsage(run, delta);
      events += choices.map(event).join('');
    }
    const room = sse.write(events);
    if (room !== undefined) await room;
    if (sse.isOver) return;
  }
  const last = withUsage ? sseEvent({ ...base, choices: [], usage: usage.value }) : '';
  sse.end(last + sseDone);
}

/** The chunks of one delta: one, or more when it holds parts of tool calls, or none when all is held. */
function fullChoices({ context, body, answers }: Run, delta: CompletionDelta): object[] {
  const { engine } = context;
  const isLast = delta.finishReason !== null;
  const answer = answers[delta.index];
  const parts = answer.push(delta);
  const carriesMore = isLast || delta.logprobs !== null || body.return_token_ids === true;
  if (parts.length === 0 && carriesMore) parts.push(isLast ? {} : { content: '' });
  return parts.map((part, i) => {
    const choice = { index: delta.index, delta: part, logprobs: null, finish_reason: null };
    if (i < parts.length - 1) return choice;
    return {
      ...choice,
      logprobs: delta.logprobs === null ? null : { content: chatLogprobs(engine, delta.logprobs) },
      finish_reason: answer.finishReason(delta.finishReason),
      ...(isLast ? { stop_reason: delta.stopReason } : {}),
      ...(body.return_token_ids ? { token_ids: delta.tokenIds } : {}),
      ...(delta.promptLogprobs === null
        ? {}
        : { prompt_logprobs: promptLogprobs(engine, delta.promptLogprobs) }),
    };
  });
}
