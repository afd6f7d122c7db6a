// An answer in Ollama's words: what one line of a stream says, and what all of them say together.

import type { CompletionDelta } from '../../engine/engine.ts';
import { type AnswerOptions, AnswerStream } from '../answer/answer-stream.ts';
import type { AnswerEvent } from '../answer/events.ts';
import type { AnswerFormat } from '../answer/formats.ts';

interface Call {
  id: string;
  function: { index: number; name: string; arguments: object };
}

export interface Said {
  content: string;
  thinking: string;
  calls: Call[];
}

export const nothing = (): Said => ({ content: '', thinking: '', calls: [] });

export const isNothing = ({ content, thinking, calls }: Said) =>
  content === '' && thinking === '' && calls.length === 0;

export class OllamaAnswer {
  readonly #stream: AnswerStream;
  #open = { id: '', name: '', text: '' };

  constructor(format: AnswerFormat, options: AnswerOptions) {
    this.#stream = new AnswerStream(format, options);
  }

  /** Takes what the engine has new and returns what is said with it. */
  push({ text, textLengths, finishReason }: CompletionDelta): Said {
    const events = this.#stream.push(text, textLengths ?? []);
    if (finishReason !== null) events.push(...this.#stream.finish());
    const said = nothing();
    for (const event of events) this.#say(event, said);
    return said;
  }

  /** Calls come whole, since their arguments are objects; one that was cut off does not come. */
  #say(event: AnswerEvent, said: Said): void {
    switch (event.type) {
      case 'content':
        said.content += event.text;
        return;
      case 'reasoning':
        said.thinking += event.text;
        return;
      case 'call':
        this.#open = { id: event.id, name: event.name, text: '' };
        return;
      case 'arguments':
        this.#open.text += event.text;
        return;
      case 'callEnd': {
        const { id, name, text } = this.#open;
        const given = objectOf(text);
        if (given !== null) said.calls.push({ id, function: { index: event.index, name, arguments: given } });
      }
    }
  }
}

function objectOf(text: string): object | null {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
