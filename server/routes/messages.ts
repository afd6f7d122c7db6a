// POST /v1/messages and /v1/messages/count_tokens, as Anthropic has them.

import type { FastifyInstance, FastifyReply } from 'fastify';
import type { CompletionDelta } from '../../engine/engine.ts';
import { readsReasoning } from '../answer/formats.ts';
import { brokenOff } from '../broken-off.ts';
import { callerOf } from '../caller.ts';
import { type ChatRun, encodePrompt, startChat } from '../chat-run.ts';
import { admit, type Context } from '../context.ts';
import { toChatRequest, toPromptFields } from '../messages/chat-request.ts';
import { anthropic, errorBody } from '../messages/dialect.ts';
import { MessageAnswer, type StreamEvent } from '../messages/message-answer.ts';
import {
  countTokensRequest,
  type MessagesRequest,
  messagesRequest,
  type PromptRequest,
} from '../messages/schemas.ts';
import { SseStream } from '../sse.ts';
import { UsageCount } from '../usage.ts';

/** A request that runs: everything its answer is made from. */
interface Run extends ChatRun {
  context: Context;
  requestId: string;
  maxTokens: number;
  answer: MessageAnswer;
  usage: UsageCount;
}

type Ending = Pick<CompletionDelta, 'finishReason' | 'stopReason'>;

export function messageRoutes(app: FastifyInstance, context: Context): void {
  const config = { dialect: anthropic };

  app.post('/v1/messages', { config, schema: { body: messagesRequest } }, async (request, reply) => {
    const body = request.body as MessagesRequest;
    const started = await startChat(
      context,
      callerOf(request, reply),
      toChatRequest(body, readsReasoning(context.answerFormat)),
    );
    if (started === null) return reply.hijack();
    const showsThinking = body.thinking?.display !== 'omitted';
    const run: Run = {
      ...started,
      context,
      requestId: request.id,
      maxTokens: body.max_tokens,
      answer: new MessageAnswer(started.format, { ...started.options, showsThinking }),
      usage: new UsageCount(started.prompt.tokenIds.length),
    };
    return body.stream === true ? stream(run, reply) : whole(run);
  });

  app.post('/v1/messages/count_tokens', { config, schema: { body: countTokensRequest } }, async (request) => {
    const body = toPromptFields(request.body as PromptRequest, readsReasoning(context.answerFormat));
    admit(context, body.model);
    const { tokenIds } = await encodePrompt(context, body);
    return { input_tokens: tokenIds.length };
  });
}

function take({ answer, usage }: Run, delta: CompletionDelta): StreamEvent[] {
  const events = answer.push(delta);
  usage.add(usage, delta);
  usage.numReasoningTokens = answer.numReasoningTokens;
  return events;
}

/** Anthropic counts what comes from the cache apart from the rest of the input. */
function usageOf({ usage }: Run): object {
  const { prompt_tokens, completion_tokens, prompt_tokens_details, completion_tokens_details } = usage.value;
  const cached = prompt_tokens_details.cached_tokens;
  return {
    input_tokens: prompt_tokens - cached,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cached,
    output_tokens: completion_tokens,
    output_tokens_details: { thinking_tokens: completion_tokens_details.reasoning_tokens },
  };
}

function endOf({ answer, usage, maxTokens }: Run, { finishReason, stopReason }: Ending): object {
  const isStopString = finishReason === 'stop' && typeof stopReason === 'string';
  const isFull = finishReason === 'length' && usage.value.completion_tokens < maxTokens;
  const reason = isStopString
    ? 'stop_sequence'
    : finishReason === 'length'
      ? isFull
        ? 'model_context_window_exceeded'
        : 'max_tokens'
      : answer.hasCalls
        ? 'tool_use'
        : 'end_turn';
  return { stop_reason: reason, stop_sequence: isStopString ? stopReason : null, stop_details: null };
}

const startOf = ({ requestId, model }: Run) => ({
  id: `msg_${requestId}`,
  type: 'message',
  role: 'assistant',
  model,
  container: null,
});

async function whole(run: Run): Promise<object> {
  let ending: Ending = { finishReason: null, stopReason: null };
  for await (const delta of run.deltas) {
    take(run, delta);
    ending = delta;
  }
  const failure = brokenOff(run.context, ending);
  if (failure !== null) throw failure;
  return { ...startOf(run), content: run.answer.content, ...endOf(run, ending), usage: usageOf(run) };
}

const sseEvent = (event: StreamEvent) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;

async function stream(run: Run, reply: FastifyReply): Promise<void> {
  const sse = new SseStream(reply, run.context.options.ssePingIntervalMs);
  let isFirst = true;
  for await (const delta of run.deltas) {
    const failure = brokenOff(run.context, delta);
    if (failure !== null) return sse.end(sseEvent(errorBody(failure, run.requestId) as StreamEvent));
    const events = take(run, delta);
    // Not before the first token: what came from the cache is known then.
    if (isFirst) events.unshift(messageStart(run), { type: 'ping' });
    isFirst = false;
    if (delta.finishReason !== null) {
      events.push({
        type: 'message_delta',
        delta: { ...endOf(run, delta), container: null },
        usage: usageOf(run),
      });
      return sse.end([...events, { type: 'message_stop' }].map(sseEvent).join(''));
    }
    const room = events.length === 0 ? undefined : sse.write(events.map(sseEvent).join(''));
    if (room !== undefined) await room;
    if (sse.isOver) return;
  }
}

function messageStart(run: Run): StreamEvent {
  const end = { stop_reason: null, stop_sequence: null, stop_details: null };
  return { type: 'message_start', message: { ...startOf(run), content: [], ...end, usage: usageOf(run) } };
}
