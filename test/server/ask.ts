// One request to an application whose engine answers with a given text: what came back, and what reached the
// engine.

import type { InjectOptions } from 'fastify';
import { buildApp } from '../../dist/server/app.js';
import type { CompletionDelta } from '../../engine/engine.ts';
import { testAppOptions } from './app-options.ts';
import { delta, FakeEngine } from './fake-engine.ts';

export interface Given {
  /** Of the answer. */
  text?: string;
  /** Characters in a delta. */
  step?: number;
  template?: string;
  numPromptTokens?: number;
  options?: object;
  headers?: Record<string, string>;
  /** Of every delta. */
  every?: Partial<CompletionDelta>;
  /** Of the last one. */
  last?: Partial<CompletionDelta>;
  change?: (engine: FakeEngine) => void;
}

export async function ask(what: InjectOptions, given: Given) {
  const { text = 'Hello', step = 1, template = '', numPromptTokens = 3, headers = {} } = given;
  const engine = new FakeEngine();
  (engine.description as { chatTemplate: string }).chatTemplate = template;
  const prompts: Array<Record<string, unknown>> = [];
  engine.encodeChat = (async (prompt: Record<string, unknown>) => {
    prompts.push(prompt);
    return { text: 'chat', tokenIds: Int32Array.from({ length: numPromptTokens }, (_, i) => i) };
  }) as never;
  engine.answer = async function* () {
    const characters = [...text];
    for (let i = 0; i < characters.length; i += step)
      yield { ...delta(characters.slice(i, i + step).join('')), ...given.every };
    yield { ...delta('', 'stop'), ...given.every, ...given.last };
  };
  given.change?.(engine);
  const { fastify } = await buildApp(engine as never, { ...testAppOptions, ...given.options });
  try {
    const answer = await fastify.inject({ ...what, headers });
    return { answer, prompt: prompts[0], request: engine.requests[0] };
  } finally {
    await fastify.close();
  }
}
