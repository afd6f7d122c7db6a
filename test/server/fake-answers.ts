// An application over a fake engine that answers with given texts, one after another, cut as the test says.

import { type App, buildApp } from '../../dist/server/app.js';
import type { CompletionDelta, GenerateRequest } from '../../engine/engine.ts';
import { testAppOptions } from './app-options.ts';
import { delta, FakeEngine } from './fake-engine.ts';

export interface Answers {
  /** The last one is given again when there are no more. */
  texts: string[];
  template?: string;
  options?: object;
  finishReason?: CompletionDelta['finishReason'];
  /** Characters of each delta; one by default. */
  sizes?: (index: number) => number;
  /** Waited for before the last delta. */
  hold?: Promise<void>;
}

export interface AnsweringApp extends App {
  engine: FakeEngine;
  /** The messages of every prompt. */
  prompts: Array<{ messages: object[]; tools?: object[] }>;
}

/** A token a character, as long as the request wants to know. */
function charactersOf(text: string, { sampling }: GenerateRequest): CompletionDelta {
  const { logprobs, textLengths } = sampling;
  const made = delta(text);
  const top = (id: number) => ({
    tokenId: id,
    logprob: -id / 100,
    rank: 1,
    topTokenIds: [id],
    topLogprobs: [-id / 100],
  });
  return {
    ...made,
    textLengths: textLengths ? made.textLengths : null,
    logprobs: logprobs === null ? null : (made.tokenIds.map(top) as never),
  };
}

export async function answeringApp(answers: Answers): Promise<AnsweringApp> {
  const {
    texts,
    template = '<tool_call><think>',
    options,
    finishReason = 'stop',
    sizes = () => 1,
    hold,
  } = answers;
  const engine = new FakeEngine();
  (engine.description as { chatTemplate: string }).chatTemplate = template;
  const prompts: AnsweringApp['prompts'] = [];
  engine.encodeChat = (async (prompt: AnsweringApp['prompts'][number]) => {
    prompts.push(prompt);
    return { text: 'chat', tokenIds: Int32Array.of(1, 2, 3) };
  }) as never;
  let numAnswers = 0;
  engine.answer = async function* (request) {
    const text = texts[Math.min(numAnswers++, texts.length - 1)];
    let at = 0;
    for (let i = 0; at < text.length; i++) {
      const size = sizes(i);
      yield charactersOf(text.slice(at, at + size), request);
      at += size;
    }
    const left = new Promise<void>((resolve) => {
      if (request.signal?.aborted) resolve();
      else request.signal?.addEventListener('abort', () => resolve(), { once: true });
    });
    if (hold !== undefined) await Promise.race([hold, left]);
    yield { ...charactersOf('', request), finishReason: request.signal?.aborted ? 'abort' : finishReason };
  };
  const app = await buildApp(engine as never, { ...testAppOptions, ...options });
  return { ...app, engine, prompts };
}

/** The events of a body of server-sent events. */
export function eventsOf(body: string): Array<Record<string, unknown> & { type: string }> {
  return body
    .split('\n\n')
    .filter((event) => event.startsWith('event: '))
    .map((event) => {
      const [, name, data] = /^event: (.*)\ndata: (.*)$/.exec(event) as RegExpExecArray;
      const value = JSON.parse(data);
      if (value.type !== name) throw new Error(`event ${name} has data of type ${value.type}`);
      return value;
    });
}
