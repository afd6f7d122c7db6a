// A chat request on its way into the engine, whichever route it came by: its prompt, its sampling, and how
// its answers are read.

import { type CompletionDelta, type EncodedPrompt, RequestError } from '../engine/engine.ts';
import type { AnswerOptions } from './answer/answer-stream.ts';
import { type AnswerFormat, isPlainText, marksOf, promptEndOf } from './answer/formats.ts';
import { reasoningParams } from './answer/thinking.ts';
import { wantedBeams } from './beams.ts';
import { type Caller, cacheSaltOf, priorityOf } from './caller.ts';
import { contentText, toChatPrompt } from './chat-prompt.ts';
import { usedTools } from './chat-tools.ts';
import { admit, type Context, fromRequestError } from './context.ts';
import { ApiError } from './errors.ts';
import { badWordTokens, clientFieldNames, refuseUnsupported, toSamplingParams } from './sampling.ts';
import type { ChatRequest } from './schemas.ts';
import { checkAllowedTokens, compileGrammar, holdsFromStart, wantedGrammar } from './structured-output.ts';
import { toolGrammar } from './tools/tool-grammar.ts';
import { truncated } from './truncation.ts';

export interface ChatRun {
  /** The name that answers carry. */
  model: string;
  prompt: EncodedPrompt;
  /** Of all n choices. */
  deltas: AsyncIterable<CompletionDelta>;
  /** What an AnswerStream reads a choice with. */
  format: AnswerFormat;
  options: AnswerOptions;
  /** Answers are text alone, without calls or reasoning in it. */
  isPlainText: boolean;
}

/** The messages in the chat template, with the tools that may be called. */
export function encodePrompt({ engine, answerFormat }: Context, body: ChatRequest): Promise<EncodedPrompt> {
  return engine.encodeChat(toChatPrompt(body, usedTools(body), answerFormat.tools?.callIds));
}

/**
 * Starts the choices. Null when the caller has gone meanwhile; throws ApiError for what cannot run. `render`
 * makes the prompt where that is not the messages in the chat template.
 */
export async function startChat(
  context: Context,
  caller: Caller,
  body: ChatRequest,
  render?: () => Promise<EncodedPrompt>,
): Promise<ChatRun | null> {
  const { engine, answerFormat: format } = context;
  const { model, adapter } = admit(context, body.model, caller);
  refuseUnsupported(body);
  const maxTokens = wantedMaxTokens(body);
  const tools = usedTools(body);
  const readsCalls = tools.length > 0;
  const isPlain = isPlainText(format, readsCalls);
  const sampling = toSamplingParams(body, engine.description.defaultSampling, maxTokens, {
    logprobs: wantedLogprobs(body),
    promptLogprobs: body.prompt_logprobs ?? null,
    keptSpecialTokens: marksOf(format, readsCalls),
    textLengths: !isPlain,
  });
  const wanted = toolGrammar(body, format.toolParser, wantedGrammar(body));
  sampling.beams = wantedBeams(body, wanted !== null);
  checkAllowedTokens(body, wanted);
  const [rendered, grammar] = await Promise.all([
    render?.() ?? encodePrompt(context, body),
    compileGrammar(engine, wanted),
  ]);
  const prompt = truncated(engine, rendered, body, maxTokens);
  const promptEnd = promptEndOf(format, rendered.text, continuedText(body));
  const budget = thinkingBudget(body);
  sampling.reasoning = await reasoningParams(engine, format, { budget, grammar, promptEnd, readsCalls });
  sampling.badWords = await badWordTokens(engine, body.bad_words ?? []);
  if (caller.signal.aborted) return null;
  try {
    const deltas = engine.generate({
      requestId: caller.id,
      promptTokenIds: prompt.tokenIds,
      sampling,
      priority: priorityOf(caller, body.priority),
      cacheSalt: cacheSaltOf(caller, body.cache_salt),
      adapter,
      grammar,
      arrivalMs: caller.arrivalMs,
      signal: caller.signal,
    });
    const schemas = new Map(tools.map(({ function: { name, parameters } }) => [name, parameters ?? {}]));
    const onlyOneCall = body.parallel_tool_calls === false;
    // Without a known end of it, a grammar leaves no room for reasoning.
    const hasReasoning = sampling.reasoning !== null || wanted === null || !holdsFromStart(wanted);
    const options: AnswerOptions = {
      readsCalls,
      tools: schemas,
      promptEnd: hasReasoning ? promptEnd : 'after reasoning',
      isHeld: wanted !== null,
      onlyOneCall,
    };
    return { model, prompt, deltas, format, options, isPlainText: isPlain };
  } catch (error) {
    const names = { ...clientFieldNames, logprobs: 'top_logprobs' };
    if (error instanceof RequestError) throw fromRequestError(error, names, 'messages');
    throw error;
  }
}

function wantedMaxTokens(body: ChatRequest): number | null {
  const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? null;
  if (maxTokens !== 0) return maxTokens;
  throw new ApiError('invalid_value', 'max_tokens: found 0, allowed: at least 1', 'max_tokens');
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

/** Null leaves it to the model. */
function thinkingBudget(body: ChatRequest): number | null {
  const budget = body.thinking_token_budget ?? body.thinking_budget ?? -1;
  return budget < 0 ? null : budget;
}

/** The last message's text when the answer continues it. */
function continuedText(body: ChatRequest): string | null {
  if (body.continue_final_message !== true) return null;
  return contentText(body.messages.at(-1)?.content, `messages.${body.messages.length - 1}.content`);
}

/** What echo puts before the answer: the last message, if the answer is of the same role. */
export function echoOf(body: ChatRequest): string {
  const last = body.messages.at(-1);
  if (body.echo !== true || last?.role !== 'assistant') return '';
  return contentText(last.content, `messages.${body.messages.length - 1}.content`);
}
