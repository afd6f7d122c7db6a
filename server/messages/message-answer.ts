// An answer in Anthropic's words: the events of a stream, and the content of a whole message. The content is
// what the events add up to.

import { createHash } from 'node:crypto';
import type { CompletionDelta } from '../../engine/engine.ts';
import { type AnswerOptions, AnswerStream } from '../answer/answer-stream.ts';
import type { AnswerEvent } from '../answer/events.ts';
import type { AnswerFormat } from '../answer/formats.ts';

export type ContentBlock =
  | { type: 'thinking'; thinking: string; signature: string }
  | { type: 'text'; text: string; citations: null }
  | { type: 'tool_use'; id: string; name: string; input: object; caller: { type: 'direct' } };

export interface StreamEvent {
  type: string;
  [field: string]: unknown;
}

export interface MessageAnswerOptions extends AnswerOptions {
  /** False for thinking.display "omitted": thinking blocks are there, and empty. */
  showsThinking: boolean;
}

export class MessageAnswer {
  readonly #options: MessageAnswerOptions;
  readonly #stream: AnswerStream;
  readonly #content: ContentBlock[] = [];
  /** The last block may still grow. */
  #isOpen = false;
  /** Of the open tool_use block, a JSON text. */
  #input = '';

  constructor(format: AnswerFormat, options: MessageAnswerOptions) {
    this.#options = options;
    this.#stream = new AnswerStream(format, options);
  }

  /** The whole answer so far. */
  get content(): readonly ContentBlock[] {
    return this.#content;
  }

  get hasCalls(): boolean {
    return this.#content.some(({ type }) => type === 'tool_use');
  }

  get numReasoningTokens(): number {
    return this.#stream.numReasoningTokens;
  }

  /** Takes what the engine has new and returns the events it makes. */
  push({ text, textLengths, finishReason }: CompletionDelta): StreamEvent[] {
    const events = this.#stream.push(text, textLengths ?? []);
    if (finishReason === null) return events.flatMap((event) => this.#events(event));
    events.push(...this.#stream.finish());
    return [...events.flatMap((event) => this.#events(event)), ...this.#close()];
  }

  #events(event: AnswerEvent): StreamEvent[] {
    switch (event.type) {
      case 'reasoning':
        return this.#think(event.text);
      case 'content':
        return this.#say(event.text);
      case 'call': {
        const { id, name } = event;
        return this.#open({ type: 'tool_use', id, name, input: {}, caller: { type: 'direct' } });
      }
      case 'arguments':
        this.#input += event.text;
        return [this.#delta({ type: 'input_json_delta', partial_json: event.text })];
      case 'callEnd':
        return this.#close();
    }
  }

  #think(text: string): StreamEvent[] {
    const events = this.#opened('thinking', { type: 'thinking', thinking: '', signature: '' });
    const block = this.#content[this.#content.length - 1];
    if (block.type !== 'thinking' || !this.#options.showsThinking) return events;
    block.thinking += text;
    return [...events, this.#delta({ type: 'thinking_delta', thinking: text })];
  }

  #say(text: string): StreamEvent[] {
    const events = this.#opened('text', { type: 'text', text: '', citations: null });
    const block = this.#content[this.#content.length - 1];
    if (block.type === 'text') block.text += text;
    return [...events, this.#delta({ type: 'text_delta', text })];
  }

  #opened(type: ContentBlock['type'], block: ContentBlock): StreamEvent[] {
    return this.#isOpen && this.#content.at(-1)?.type === type ? [] : this.#open(block);
  }

  #open(block: ContentBlock): StreamEvent[] {
    const events = this.#close();
    this.#isOpen = true;
    this.#input = '';
    this.#content.push(block);
    return [
      ...events,
      { type: 'content_block_start', index: this.#content.length - 1, content_block: { ...block } },
    ];
  }

  #delta(delta: object): StreamEvent {
    return { type: 'content_block_delta', index: this.#content.length - 1, delta };
  }

  #close(): StreamEvent[] {
    if (!this.#isOpen) return [];
    this.#isOpen = false;
    const index = this.#content.length - 1;
    const block = this.#content[index];
    const events: StreamEvent[] = [];
    if (block.type === 'thinking') {
      block.signature = signatureOf(block.thinking);
      events.push(this.#delta({ type: 'signature_delta', signature: block.signature }));
    }
    if (block.type === 'tool_use') block.input = inputOf(this.#input);
    return [...events, { type: 'content_block_stop', index }];
  }
}

/** Clients drop thinking without one. It is a hash of the text, and nothing checks it. */
const signatureOf = (thinking: string) => createHash('sha256').update(thinking).digest('base64url');

/** A call that max_tokens or a stop sequence cut off has no arguments that could be read. */
function inputOf(text: string): object {
  try {
    return JSON.parse(text === '' ? '{}' : text);
  } catch {
    return {};
  }
}
