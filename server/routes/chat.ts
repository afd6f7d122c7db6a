// POST /v1/chat/completions

import type { FastifyInstance, FastifyReply } from 'fastify';
import type { CompletionDelta, TokenLogprobs } from '../../engine/engine.ts';
import { ChatAnswer } from '../answer/chat-answer.ts';
import { type Caller, callerOf } from '../caller.ts';
import { type ChatRun, echoOf, startChat } from '../chat-run.ts';
import { isLegacy, withTools } from '../chat-tools.ts';
import type { Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import { chatLogprobs, promptLogprobs } from '../logprobs.ts';
import { type ChatRequest, chatRequest } from '../schemas.ts';
import { SseStream, sseDone, sseEvent } from '../sse.ts';
import { UsageCount } from '../usage.ts';

/** What every chunk and the answer carry. */
interface Envelope {
  id: string;
  created: number;
  model: string;
  system_fingerprint: string;
  service_tier?: string;
}

/** A request that runs: everything its answer is made from. */
interface Run extends ChatRun {
  context: Context;
  body: ChatRequest;
  envelope: Envelope;
  /** By choice. */
  answers: ChatAnswer[];
  usage: UsageCount;
}

export function chatRoutes(app: FastifyInstance, context: Context): void {
  app.post('/v1/chat/completions', { schema: { body: chatRequest } }, async (request, reply) => {
    const body = request.body as ChatRequest;
    const run = await startRun(context, callerOf(request, reply), body);
    if (run === null) return reply.hijack();
    return body.stream === true ? stream(run, reply) : answer(run);
  });
}

/** The whole answer to a valid body, which does not stream. Null when the caller has gone meanwhile. */
export async function chatCompletion(
  context: Context,
  caller: Caller,
  body: ChatRequest,
): Promise<object | null> {
  const run = await startRun(context, caller, body);
  return run === null ? null : answer(run);
}

async function startRun(context: Context, caller: Caller, given: ChatRequest): Promise<Run | null> {
  const body = withTools(given);
  const started = await startChat(context, caller, body);
  if (started === null) return null;
  const options = {
    ...started.options,
    showsReasoning: body.include_reasoning !== false,
    isLegacy: isLegacy(given),
    // A message has room for one function_call.
    onlyOneCall: started.options.onlyOneCall || isLegacy(given),
    echo: echoOf(body),
  };
  return {
    ...started,
    context,
    body,
    envelope: envelopeOf(context, caller, body, started.model),
    answers: Array.from({ length: body.n ?? 1 }, () => new ChatAnswer(started.format, options)),
    usage: new UsageCount(started.prompt.tokenIds.length),
  };
}

function envelopeOf(context: Context, caller: Caller, body: ChatRequest, model: string): Envelope {
  return {
    id: `chatcmpl-${caller.id}`,
    created: Math.floor(Date.now() / 1000),
    model,
    system_fingerprint: context.fingerprint,
    // There is one tier, and it is said only to those who ask.
    ...(body.service_tier == null ? {} : { service_tier: 'default' }),
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
      logprobs: shownLogprobs(run, choice.logprobs),
      finish_reason: answers[index].finishReason(choice.finishReason),
      stop_reason: choice.stopReason,
      ...(body.return_token_ids ? { token_ids: choice.tokenIds } : {}),
    })),
    usage: usage.value,
    ...promptFields(run),
    ...(reported === null ? {} : { prompt_logprobs: promptLogprobs(engine, reported) }),
  };
}

/** return_token_ids: those of the prompt. */
function promptFields({ body, prompt }: ChatRun & { body: ChatRequest }): object {
  return body.return_token_ids === true ? { prompt_token_ids: Array.from(prompt.tokenIds) } : {};
}

async function stream(run: Run, reply: FastifyReply): Promise<void> {
  const { context, body, envelope, answers, usage } = run;
  const sse = new SseStream(reply, context.options.ssePingIntervalMs);
  const withUsage = body.stream_options?.include_usage === true;
  const continuous = withUsage && body.stream_options?.continuous_usage_stats === true;
  const base = { ...envelope, object: 'chat.completion.chunk' };
  const usageField = () => (withUsage ? { usage: continuous ? usage.value : null } : {});
  const event = (choice: object, more: object = {}) =>
    sseEvent({ ...base, ...more, choices: [choice], ...usageField() });

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
    let events = isFirst ? event(hello, promptFields(run)) : '';
    if (isPlain && !isFirst && delta.finishReason === null) {
      usage.add(usage, delta);
      if (delta.text !== '') events += plain[index].head + JSON.stringify(delta.text) + plain[index].tail;
    } else {
      const choices = fullChoices(run, delta);
      countUsage(run, delta);
      events += choices.map((choice) => event(choice)).join('');
    }
    const room = sse.write(events);
    if (room !== undefined) await room;
    if (sse.isOver) return;
  }
  const last = withUsage ? sseEvent({ ...base, choices: [], usage: usage.value }) : '';
  sse.end(last + sseDone);
}

/** The chunks of one delta: one, or more when it holds parts of tool calls, or none when all is held. */
function fullChoices(run: Run, delta: CompletionDelta): object[] {
  const { context, body, answers } = run;
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
      logprobs: shownLogprobs(run, delta.logprobs),
      finish_reason: answer.finishReason(delta.finishReason),
      ...(isLast ? { stop_reason: delta.stopReason } : {}),
      ...(body.return_token_ids ? { token_ids: delta.tokenIds } : {}),
      ...(delta.promptLogprobs === null
        ? {}
        : { prompt_logprobs: promptLogprobs(engine, delta.promptLogprobs) }),
    };
  });
}

function shownLogprobs({ context, body }: Run, tokens: CompletionDelta['logprobs']): object | null {
  if (tokens === null) return null;
  const content = chatLogprobs(context.engine, tokens, body.return_tokens_as_token_ids === true);
  return { content, refusal: null };
}
