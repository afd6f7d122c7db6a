// What the fields of a chat request become on their way into the engine.

import { afterEach, describe, expect, it } from 'vitest';
import { buildApp } from '../../dist/server/app.js';
import type { ChatPrompt } from '../../engine/engine.ts';
import { usedTools } from '../../server/chat-tools.ts';
import { testAppOptions } from './app-options.ts';
import { delta, FakeEngine } from './fake-engine.ts';

const messages = [{ role: 'user', content: 'Hi' }];
let close = async () => {};
afterEach(() => close());

interface Given {
  /** Of the answer. */
  text?: string;
  template?: string;
  promptText?: string;
  encodeText?: FakeEngine['encodeText'];
}

async function ask(fields: object, given: Given = {}) {
  const { text = 'Hello', template = '<tool_call>', promptText = 'chat' } = given;
  const engine = new FakeEngine();
  if (given.encodeText !== undefined) engine.encodeText = given.encodeText;
  const prompts: ChatPrompt[] = [];
  (engine.description as { chatTemplate: string }).chatTemplate = template;
  engine.encodeChat = (async (prompt: ChatPrompt) => {
    prompts.push(prompt);
    return { text: promptText, tokenIds: Int32Array.from({ length: 10 }, (_, i) => i + 65) };
  }) as never;
  engine.answer = async function* () {
    yield delta(text, 'stop');
  };
  const { fastify } = await buildApp(engine as never, testAppOptions);
  close = () => fastify.close();
  const payload = { messages, ...fields };
  const answer = await fastify.inject({ method: 'POST', url: '/v1/chat/completions', payload });
  expect(answer.statusCode, answer.body).toBe(200);
  const [request] = engine.requests;
  return { answer: answer.json(), prompt: prompts[0], request };
}

describe('messages', () => {
  const shown = async (given: object[]) => (await ask({ messages: given })).prompt.messages;

  it('take content as text, parts, null and nothing', async () => {
    const parts = [{ type: 'text', text: 'a' }, { type: 'text', text: 'b' }]; // biome-ignore format: two parts
    const refusal = [{ type: 'refusal', refusal: 'no' }];
    const given = [
      { role: 'developer', content: parts },
      { role: 'user', content: '' },
      { role: 'assistant', content: null },
      { role: 'assistant' },
      { role: 'assistant', content: refusal },
      { role: 'tool', content: parts, tool_call_id: 'a' },
    ];
    expect((await shown(given)).map(({ role, content }) => [role, content])).toEqual([
      ['system', 'a\nb'],
      ['user', ''],
      ['assistant', ''],
      ['assistant', ''],
      ['assistant', 'no'],
      ['tool', 'a\nb'],
    ]);
  });

  it('take calls and results in both forms', async () => {
    const call = { name: 'f', arguments: '{"a": 1}' };
    const given = [
      { role: 'assistant', content: null, tool_calls: [{ id: 'x', type: 'function', function: call }] },
      { role: 'tool', content: '1', tool_call_id: 'x' },
      { role: 'assistant', content: null, function_call: call },
      { role: 'function', name: 'f', content: '1' },
      { role: 'assistant', content: 'done', tool_calls: [], refusal: null, function_call: null },
    ];
    const [called, result, legacyCalled, legacyResult, done] = await shown(given);
    const calls = (id: string) => [{ id, type: 'function', function: { name: 'f', arguments: { a: 1 } } }];
    expect(called).toMatchObject({ tool_calls: calls('x') });
    // Whose result it is, for templates that show it.
    expect(result).toMatchObject({ role: 'tool', tool_call_id: 'x', name: 'f' });
    expect(legacyCalled).toMatchObject({ tool_calls: calls('call_f') });
    expect(legacyCalled).not.toHaveProperty('function_call');
    expect(legacyResult).toMatchObject({ role: 'tool', tool_call_id: 'call_f', content: '1' });
    expect(done).toEqual({ role: 'assistant', content: 'done' });
  });

  it('have the ids that Mistral’s templates take', async () => {
    const function_ = { name: 'f', arguments: '{}' };
    const given = [
      {
        role: 'assistant',
        tool_calls: [{ id: 'call_0123456789abcdef', type: 'function', function: function_ }],
      },
      { role: 'tool', content: '1', tool_call_id: 'call_0123456789abcdef' },
      { role: 'tool', content: '1', tool_call_id: 'x' },
    ];
    const { prompt } = await ask({ messages: given }, { template: '[TOOL_CALLS]' });
    const [called, result, other] = prompt.messages;
    expect(called).toMatchObject({ tool_calls: [{ id: '789abcdef' }] });
    expect(result).toMatchObject({ tool_call_id: '789abcdef' });
    expect(other).toMatchObject({ tool_call_id: '00000000x' });
  });

  it('take reasoning by either name', async () => {
    const both = { reasoning: 'Hm.', reasoning_content: 'Hm.' };
    for (const given of [{ reasoning: 'Hm.' }, { reasoning_content: 'Hm.' }]) {
      expect((await shown([{ role: 'assistant', content: 'x', ...given }]))[0]).toMatchObject(both);
    }
  });
});

describe('the template', () => {
  const variables = async (fields: object) => (await ask(fields)).prompt.templateVariables;

  it('knows how much to reason', async () => {
    expect(await variables({})).toEqual({});
    expect(await variables({ reasoning_effort: 'high', verbosity: 'low' })).toEqual({
      reasoning_effort: 'high',
      verbosity: 'low',
    });
    expect(await variables({ reasoning_effort: 'none' })).toEqual({
      reasoning_effort: 'none',
      enable_thinking: false,
      thinking: false,
    });
    const own = { enable_thinking: true, custom: [1] };
    expect(await variables({ reasoning_effort: 'none', chat_template_kwargs: own })).toMatchObject(own);
  });

  it('sees documents, and tools unless tool_choice is none', async () => {
    const tools = [{ type: 'function', function: { name: 'f' } }];
    const documents = [{ title: 'a', text: 'b' }];
    expect((await ask({ tools, documents })).prompt).toMatchObject({ tools, documents });
    expect((await ask({ tools, tool_choice: 'none' })).prompt.tools).toBeUndefined();
    expect((await ask({ tools: [] })).prompt.tools).toBeUndefined();
  });
});

describe('functions', () => {
  const functions = [{ name: 'f', parameters: { type: 'object' } }];
  const text = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>';

  it('are tools, and their call a function_call', async () => {
    const { answer, prompt } = await ask({ functions, function_call: 'auto' }, { text });
    expect(prompt.tools).toEqual([{ type: 'function', function: functions[0] }]);
    expect(answer.choices[0]).toMatchObject({
      finish_reason: 'function_call',
      message: { content: null, function_call: { name: 'f', arguments: '{"a": 1}' } },
    });
    expect(answer.choices[0].message).not.toHaveProperty('tool_calls');
  });

  it('are not called with function_call none', async () => {
    const { answer } = await ask({ functions, function_call: 'none' }, { text });
    expect(answer.choices[0].message.content).toBe(text);
  });
});

describe('the engine', () => {
  it('gets prompts that fit', async () => {
    const ids = async (fields: object) => Array.from((await ask(fields)).request.promptTokenIds);
    const all = Array.from({ length: 10 }, (_, i) => i + 65);
    expect(await ids({ truncate_prompt_tokens: 3 })).toEqual(all.slice(-3));
    expect(await ids({ truncate_prompt_tokens: 3, truncation_side: 'right' })).toEqual(all.slice(0, 3));
    expect(await ids({ truncate_prompt_tokens: 100 })).toEqual(all);
    // The context is 1000 tokens.
    expect(await ids({ truncate_prompt_tokens: -1, max_tokens: 993 })).toEqual(all.slice(-7));
    expect(await ids({ truncate_prompt_tokens: -1, max_tokens: 5000 })).toEqual(all.slice(-1));
  });

  it('gets bad words as tokens, with and without a space before them', async () => {
    const { request } = await ask({ bad_words: ['ab', ' ab', 'c'] });
    const bytes = (text: string) => [...Buffer.from(text)];
    expect(request.sampling.badWords).toEqual([bytes('ab'), bytes(' ab'), bytes('c'), bytes(' c')]);
  });

  it('gets the tokens that are allowed', async () => {
    expect((await ask({ allowed_token_ids: [1, 2] })).request.sampling.allowedTokenIds).toEqual([1, 2]);
  });

  it('gets the end of reasoning', async () => {
    // Marks are tokens of their own, as in the models that reason.
    const marks: Record<string, number[]> = {
      '<think>': [1],
      '</think>': [2],
      '</think>\n\n': [2, 10],
      '<|channel|>analysis<|message|>': [3, 4, 5],
      '<|end|>': [6],
      '<|end|><|start|>assistant<|channel|>final<|message|>': [6, 7, 8],
    };
    const encodeText = async (text: string) => ({ text, tokenIds: Int32Array.from(marks[text] ?? [9, 9]) });
    const limit = async (fields: object, template: string, promptText = 'chat') =>
      (await ask(fields, { template, promptText, encodeText })).request.sampling.reasoning;
    const think = {
      maxTokens: 7,
      isInside: false,
      isRequired: false,
      startTokenIds: [1],
      endTokenIds: [2],
      leadTokenIds: [10],
      callTokenIds: [],
    };
    expect(await limit({ thinking_token_budget: 7 }, '<think>')).toEqual(think);
    expect(await limit({ thinking_budget: 0 }, '<think>')).toEqual({ ...think, maxTokens: 0 });
    const inside = { ...think, isInside: true };
    expect(await limit({ thinking_token_budget: 7 }, '<think>', 'x<think>\n')).toEqual(inside);
    expect(await limit({ thinking_token_budget: 7 }, '<think>', 'x</think>\n')).toBeNull();
    expect(await limit({ thinking_token_budget: 7 }, '<｜Assistant｜></think>')).toEqual(inside);
    expect(await limit({ thinking_token_budget: -1 }, '<think>')).toBeNull();
    expect(await limit({}, '<think>')).toBeNull();
    expect(await limit({ thinking_token_budget: 7 }, '<|channel|><|message|>')).toEqual({
      maxTokens: 7,
      isInside: false,
      isRequired: true,
      startTokenIds: [3, 4, 5],
      endTokenIds: [6],
      leadTokenIds: [7, 8],
      callTokenIds: [],
    });
    const byWords = ask(
      { thinking_token_budget: 7 },
      { template: 'Here is my thought process:', encodeText },
    );
    await expect(byWords).rejects.toThrow(/a token of its own/);
  });
});

describe('what OpenAI has and a server of one’s own does not need', () => {
  it('is taken', async () => {
    const fields = {
      store: true,
      metadata: { a: 'b' },
      service_tier: 'auto',
      prediction: { type: 'content', content: [{ type: 'text', text: 'x' }] },
      safety_identifier: 'u',
      prompt_cache_key: 'k',
      user: 'u',
    };
    expect((await ask(fields)).answer).toMatchObject({ service_tier: 'default' });
    expect((await ask({})).answer).not.toHaveProperty('service_tier');
  });
});

describe('echo', () => {
  const last = { role: 'assistant', content: 'Once' };

  it('puts the last message before the answer, if the answer is of its role', async () => {
    const fields = { echo: true, continue_final_message: true, messages: [...messages, last] };
    expect((await ask(fields)).answer.choices[0].message.content).toBe('OnceHello');
    expect((await ask({ echo: true })).answer.choices[0].message.content).toBe('Hello');
  });
});

describe('return_token_ids', () => {
  it('gives those of prompt and answer', async () => {
    const { answer } = await ask({ return_token_ids: true });
    expect(answer.prompt_token_ids).toEqual(Array.from({ length: 10 }, (_, i) => i + 65));
    expect(answer.choices[0].token_ids).toEqual([...Buffer.from('Hello')]);
  });
});

describe('tools in the template', () => {
  const named = (name: string, fields = {}) => ({ type: 'function', function: { name, ...fields } });
  const parameters = { type: 'object', properties: { a: { type: 'string' } } };
  const tools = [named('f', { parameters }), named('now')];
  const none = { type: 'object', properties: {} };

  it('have parameters, none where a function names none', async () => {
    const { prompt } = await ask({ tools });
    expect(prompt.tools).toEqual([named('f', { parameters }), named('now', { parameters: none })]);
  });

  it('are those of allowed_tools', async () => {
    const allowed = (mode: string) => ({
      type: 'allowed_tools',
      allowed_tools: { mode, tools: [named('now')] },
    });
    const { prompt } = await ask({ tools, tool_choice: allowed('auto') });
    expect(prompt.tools).toEqual([named('now', { parameters: none })]);
    // In a choice of another type the field is any unknown one.
    const other = { tools, tool_choice: { ...named('f'), allowed_tools: 1 } };
    expect(usedTools(other as never)).toHaveLength(2);
  });
});
