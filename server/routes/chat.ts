// POST /v1/chat/completions

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ChatMessage, ChatPrompt, CompletionDelta, TokenLogprobs } from '../../engine/engine.ts';
import { RequestError } from '../../engine/engine.ts';
import { admit, type Context, cacheSaltOf, clientGone, fromRequestError } from '../context.ts';
import { ApiError } from '../errors.ts';
import { chatLogprobs, promptLogprobs } from '../logprobs.ts';
import { clientFieldNames, refuseUnsupported, toSamplingParams } from '../sampling.ts';
import { type ChatRequest, chatRequest, type MessageField } from '../schemas.ts';
import { SseStream, sseDone, sseEvent } from '../sse.ts';
import { compileGrammar, wantedGrammar } from '../structured-output.ts';
import { ToolAnswer } from '../tools/answer.ts';
import { templateToolCalls } from '../tools/messages.ts';
import { formatOfTemplate } from '../tools/tool-call-stream.ts';
import { toolGrammar } from '../tools/tool-grammar.ts';
import { UsageCount } from '../usage.ts';

/** What every chunk and the answer carry. */
interface Envelope {
  id: string;
  created: number;
  model: string;
  system_fingerprint: string;
}

interface Choice {
  answer: ToolAnswer;
  tokenIds: number[];
  logprobs: TokenLogprobs[] | null;
  promptLogprobs: TokenLogprobs[] | null;
  finishReason: string | null;
  stopReason: string | number | null;
}

/** Content parts become one text, and OpenAI's newer `developer` the `system` that templates know. */
export function toTemplateMessages(messages: readonly MessageField[]): ChatMessage[] {
  return messages.map((message, i) => {
    const field = `messages.${i}.content`;
    const parts = message.content;
    if (parts == null && message.role !== 'assistant') {
      throw new ApiError(
        'invalid_value',
        `${field}: found nothing, allowed: a string or a list of text parts`,
        field,
      );
    }
    const content = Array.isArray(parts)
      ? parts.map((part, j) => textOf(part, `${field}.${j}`)).join('\n')
      : (parts ?? '');
    return {
      ...message,
      role: message.role === 'developer' ? 'system' : message.role,
      content,
      ...templateToolCalls(message, `messages.${i}`),
    };
  });
}

function textOf(part: { type: string; text?: string | null }, field: string): string {
  if (part.type === 'text' && typeof part.text === 'string') return part.text;
  const found =
    part.type === 'text' ? 'a text part without text' : `a part of type ${JSON.stringify(part.type)}`;
  throw new ApiError(
    'unsupported_value',
    `${field}: found ${found}, supported: {"type": "text", "text": ...}`,
    field,
  );
}

function usesTools({ tools, tool_choice: choice }: ChatRequest): boolean {
  return tools != null && tools.length > 0 && choice !== 'none';
}

/** Takes the text of one choice apart: with tools by the format of the chat template, else not at all. */
function toolAnswer({ engine }: Context, body: ChatRequest): ToolAnswer {
  const format = usesTools(body) ? formatOfTemplate(engine.description.chatTemplate) : null;
  return new ToolAnswer(format, body.parallel_tool_calls === false);
}

function finishReasonOf(reason: string | null, answer: ToolAnswer): string | null {
  return reason === 'stop' && answer.shownCalls.length > 0 ? 'tool_calls' : reason;
}

function messageOf(answer: ToolAnswer): object {
  const calls = answer.shownCalls;
  return {
    role: 'assistant',
    content: answer.content,
    refusal: null,
    // Left out when there are none: an empty list confuses clients that loop over it.
    ...(calls.length > 0 ? { tool_calls: calls } : {}),
  };
}

function toChatPrompt(body: ChatRequest): ChatPrompt {
  const continueFinalMessage = body.continue_final_message ?? false;
  const addGenerationPrompt = body.add_generation_prompt ?? !continueFinalMessage;
  if (continueFinalMessage && addGenerationPrompt) {
    const field = 'continue_final_message';
    throw new ApiError(
      'invalid_value',
      `${field}: found true, allowed: false while add_generation_prompt is true`,
      field,
    );
  }
  return {
    messages: toTemplateMessages(body.messages),
    tools: usesTools(body) ? (body.tools ?? undefined) : undefined,
    documents: body.documents ?? undefined,
    addGenerationPrompt,
    continueFinalMessage,
    templateVariables: body.chat_template_kwargs ?? undefined,
    addSpecialTokens: body.add_special_tokens ?? false,
  };
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
  const { engine } = context;
  app.post('/v1/chat/completions', { schema: { body: chatRequest } }, async (request, reply) => {
    const arrivalMs = request.arrivalMs;
    const body = request.body as ChatRequest;
    const { model, adapter } = admit(context, body.model);
    refuseUnsupported(body);
    const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? null;
    if (maxTokens === 0)
      throw new ApiError('invalid_value', 'max_tokens: found 0, allowed: at least 1', 'max_tokens');
    const sampling = toSamplingParams(body, engine.description.defaultSampling, maxTokens, {
      logprobs: wantedLogprobs(body),
      promptLogprobs: body.prompt_logprobs ?? null,
    });
    const signal = clientGone(reply);
    const format = formatOfTemplate(engine.description.chatTemplate)?.name ?? null;
    const wanted = toolGrammar(body, format, wantedGrammar(body));
    const [prompt, grammar] = await Promise.all([
      engine.encodeChat(toChatPrompt(body)),
      compileGrammar(engine, wanted),
    ]);
    if (signal.aborted) return reply.hijack();
    const usage = new UsageCount(prompt.tokenIds.length);
    let deltas: AsyncIterable<CompletionDelta>;
    try {
      deltas = engine.generate({
        requestId: request.id,
        promptTokenIds: prompt.tokenIds,
        sampling,
        priority: body.priority ?? 0,
        cacheSalt: cacheSaltOf(request, body.cache_salt),
        adapter,
        grammar,
        arrivalMs,
        signal,
      });
    } catch (error) {
      if (error instanceof RequestError) throw fromRequestError(error, clientFieldNames, 'messages');
      throw error;
    }
    const envelope: Envelope = {
      id: `chatcmpl-${request.id}`,
      created: Math.floor(Date.now() / 1000),
      model,
      system_fingerprint: context.fingerprint,
    };
    if (body.stream === true) return stream(context, reply, body, envelope, deltas, usage);
    return answer(context, request, body, envelope, deltas, usage, sampling.n);
  });
}

async function answer(
  context: Context,
  request: FastifyRequest,
  body: ChatRequest,
  envelope: Envelope,
  deltas: AsyncIterable<CompletionDelta>,
  usage: UsageCount,
  n: number,
): Promise<object> {
  const { engine } = context;
  const choices = Array.from(
    { length: n },
    (): Choice => ({
      answer: toolAnswer(context, body),
      tokenIds: [],
      logprobs: null,
      promptLogprobs: null,
      finishReason: null,
      stopReason: null,
    }),
  );
  for await (const delta of deltas) {
    const choice = choices[delta.index];
    choice.answer.push(delta.text, delta.finishReason !== null);
    for (const id of delta.tokenIds) choice.tokenIds.push(id);
    if (delta.logprobs !== null) choice.logprobs = [...(choice.logprobs ?? []), ...delta.logprobs];
    choice.promptLogprobs ??= delta.promptLogprobs;
    choice.finishReason = delta.finishReason ?? choice.finishReason;
    choice.stopReason = delta.stopReason ?? choice.stopReason;
    usage.add(request, delta);
  }
  if (choices.some(({ finishReason }) => finishReason === 'error')) throw new Error('the engine ended');
  const reported = choices[0].promptLogprobs;
  return {
    ...envelope,
    object: 'chat.completion',
    choices: choices.map((choice, index) => ({
      index,
      message: messageOf(choice.answer),
      logprobs:
        choice.logprobs === null ? null : { content: chatLogprobs(engine, choice.logprobs), refusal: null },
      finish_reason: finishReasonOf(choice.finishReason, choice.answer),
      stop_reason: choice.stopReason,
      ...(body.return_token_ids ? { token_ids: choice.tokenIds } : {}),
    })),
    usage: usage.value,
    ...(reported === null ? {} : { prompt_logprobs: promptLogprobs(engine, reported) }),
  };
}

async function stream(
  context: Context,
  reply: FastifyReply,
  body: ChatRequest,
  envelope: Envelope,
  deltas: AsyncIterable<CompletionDelta>,
  usage: UsageCount,
): Promise<void> {
  const sse = new SseStream(reply, context.options.ssePingIntervalMs);
  const withUsage = body.stream_options?.include_usage === true;
  const continuous = withUsage && body.stream_options?.continuous_usage_stats === true;
  const base = { ...envelope, object: 'chat.completion.chunk' };
  const usageField = () => (withUsage ? { usage: continuous ? usage.value : null } : {});
  const event = (choice: object) => sseEvent({ ...base, choices: [choice], ...usageField() });

  // The usual chunk has text and nothing else: only the text is serialised anew.
  const plain = Array.from({ length: body.n ?? 1 }, (_, index) => {
    const [head, tail] = event({
      index,
      delta: { content: '\u0000' },
      logprobs: null,
      finish_reason: null,
    }).split('"\\u0000"');
    return { head, tail };
  });
  const isPlain = body.logprobs !== true && body.return_token_ids !== true && !continuous && !usesTools(body);
  const answers = plain.map(() => toolAnswer(context, body));
  const greeted = new Set<number>();
  for await (const delta of deltas) {
    usage.add(reply, delta);
    if (delta.finishReason === 'error') {
      sse.end(sseEvent(new ApiError('internal_error', 'internal error').body));
      return;
    }
    const { index } = delta;
    let events = '';
    if (!greeted.has(index)) {
      greeted.add(index);
      events += event({
        index,
        delta: { role: 'assistant', content: '' },
        logprobs: null,
        finish_reason: null,
      });
    }
    if (isPlain && delta.finishReason === null) {
      if (delta.text !== '') events += plain[index].head + JSON.stringify(delta.text) + plain[index].tail;
    } else {
      events += fullChoices(context, body, delta, answers[index]).map(event).join('');
    }
    const room = sse.write(events);
    if (room !== undefined) await room;
    if (sse.isOver) return;
  }
  const last = withUsage ? sseEvent({ ...base, choices: [], usage: usage.value }) : '';
  sse.end(last + sseDone);
}

/** The chunks of one delta: one, or more when it holds parts of tool calls, or none when all is held. */
function fullChoices(
  { engine }: Context,
  body: ChatRequest,
  delta: CompletionDelta,
  answer: ToolAnswer,
): object[] {
  const isLast = delta.finishReason !== null;
  const parts = answer.push(delta.text, isLast);
  const carriesMore = isLast || delta.logprobs !== null || body.return_token_ids === true;
  if (parts.length === 0 && carriesMore) parts.push(isLast ? {} : { content: '' });
  return parts.map((part, i) => {
    const choice = { index: delta.index, delta: part, logprobs: null, finish_reason: null };
    if (i < parts.length - 1) return choice;
    return {
      ...choice,
      logprobs: delta.logprobs === null ? null : { content: chatLogprobs(engine, delta.logprobs) },
      finish_reason: finishReasonOf(delta.finishReason, answer),
      ...(isLast ? { stop_reason: delta.stopReason } : {}),
      ...(body.return_token_ids ? { token_ids: delta.tokenIds } : {}),
      ...(delta.promptLogprobs === null
        ? {}
        : { prompt_logprobs: promptLogprobs(engine, delta.promptLogprobs) }),
    };
  });
}
