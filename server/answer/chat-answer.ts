// One choice of a chat completion, in OpenAI's words: the deltas of a stream, and the whole message. Both are
// made from the same events.

import type { CompletionDelta, FinishReason } from '../../engine/engine.ts';
import { type AnswerOptions, AnswerStream } from './answer-stream.ts';
import type { AnswerEvent } from './events.ts';
import type { AnswerFormat } from './formats.ts';

export interface ToolCall {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

export interface ChatAnswerOptions extends AnswerOptions {
  /** include_reasoning: without it what the model reasons is left out. */
  showsReasoning: boolean;
  /** The request has `functions`: its one call is a function_call. */
  isLegacy: boolean;
  /** Text that the content begins with, before anything is generated. */
  echo: string;
}

export class ChatAnswer {
  readonly #options: ChatAnswerOptions;
  readonly #stream: AnswerStream;
  #content = '';
  #reasoning = '';
  #hasReasoned = false;
  readonly #calls: ToolCall[] = [];
  #isFirst = true;

  constructor(format: AnswerFormat, options: ChatAnswerOptions) {
    this.#options = options;
    this.#stream = new AnswerStream(format, options);
  }

  get numReasoningTokens(): number {
    return this.#stream.numReasoningTokens;
  }

  /** Takes what the engine has new and returns the deltas it makes, in order: one, several, or none. */
  push({ text, textLengths, finishReason }: CompletionDelta): object[] {
    const events = this.#stream.push(text, textLengths ?? []);
    if (finishReason !== null) events.push(...this.#stream.finish());
    if (this.#isFirst && this.#options.echo !== '')
      events.unshift({ type: 'content', text: this.#options.echo });
    this.#isFirst = false;
    return events.flatMap((event) => this.#delta(event) ?? []);
  }

  #delta(event: AnswerEvent): object | null {
    switch (event.type) {
      case 'content':
        this.#content += event.text;
        return { content: event.text };
      case 'reasoning':
        this.#hasReasoned = true;
        if (!this.#options.showsReasoning) return null;
        this.#reasoning += event.text;
        return reasoningFields(event.text);
      case 'call': {
        const { id, index, name } = event;
        this.#calls.push({ id, type: 'function', function: { name, arguments: '' } });
        if (this.#options.isLegacy) return { function_call: { name, arguments: '' } };
        return { tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] };
      }
      case 'arguments': {
        const { index, text } = event;
        this.#calls[index].function.arguments += text;
        if (this.#options.isLegacy) return { function_call: { arguments: text } };
        return { tool_calls: [{ index, function: { arguments: text } }] };
      }
      case 'callEnd':
        return null;
    }
  }

  /** The whole answer so far. */
  get message(): object {
    const calls = this.#calls;
    return {
      role: 'assistant',
      // Always there, since strict clients miss it; null says that there is nothing but calls or reasoning.
      content: this.#content === '' && (calls.length > 0 || this.#hasReasoned) ? null : this.#content,
      refusal: null,
      ...(this.#reasoning === '' ? {} : reasoningFields(this.#reasoning)),
      // Left out when there are none: an empty list confuses clients that loop over it.
      ...(calls.length === 0
        ? {}
        : this.#options.isLegacy
          ? { function_call: calls[0].function }
          : { tool_calls: calls }),
    };
  }

  finishReason(reason: FinishReason | null): string | null {
    if (reason !== 'stop' || this.#calls.length === 0) return reason;
    return this.#options.isLegacy ? 'function_call' : 'tool_calls';
  }
}

/** vLLM's name and the older one that SGLang, DeepSeek and llama.cpp use: clients know one or the other. */
function reasoningFields(text: string): object {
  return { reasoning: text, reasoning_content: text };
}
