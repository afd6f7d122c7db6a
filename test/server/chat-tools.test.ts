// Tool calls and reasoning in the shapes that OpenAI's clients expect, whole and as a stream.

import { afterEach, describe, expect, it } from 'vitest';
import { buildApp } from '../../dist/server/app.js';
import { testAppOptions } from './app-options.ts';
import { delta, FakeEngine } from './fake-engine.ts';

const call = (name: string, given: string) =>
  `<tool_call>\n{"name": "${name}", "arguments": ${given}}\n</tool_call>`;
const tool = { type: 'function', function: { name: 'f', parameters: { type: 'object' } } };
const messages = [{ role: 'user', content: 'Hi' }];
let close = async () => {};
afterEach(() => close());

interface Asked {
  fields?: object;
  template?: string;
  options?: object;
  finishReason?: 'stop' | 'length';
  prompt?: string;
}

async function ask(
  text: string,
  { fields, template = '<tool_call>', options, finishReason, prompt }: Asked = {},
) {
  const engine = new FakeEngine();
  (engine.description as { chatTemplate: string }).chatTemplate = template;
  if (prompt !== undefined) engine.encodeChat = async () => ({ text: prompt, tokenIds: Int32Array.of(1) });
  engine.answer = async function* () {
    for (const character of text) yield delta(character);
    yield delta('', finishReason ?? 'stop');
  };
  const { fastify } = await buildApp(engine as never, { ...testAppOptions, ...options });
  close = () => fastify.close();
  const payload = { messages, tools: [tool], ...fields };
  const answer = await fastify.inject({ method: 'POST', url: '/v1/chat/completions', payload });
  return { answer, engine };
}

const choiceOf = async (text: string, asked?: Asked) => (await ask(text, asked)).answer.json().choices[0];

const chunksOf = async (text: string, asked: Asked = {}) => {
  const { answer } = await ask(text, { ...asked, fields: { ...asked.fields, stream: true } });
  const events = answer.body.split('\n\n').filter((event) => event.startsWith('data: {'));
  return events.map((event) => JSON.parse(event.slice(6)).choices[0]);
};

describe('POST /v1/chat/completions with tools', () => {
  it('answers with calls and no content', async () => {
    const choice = await choiceOf(call('f', '{"a": 1}'));
    expect(choice.finish_reason).toBe('tool_calls');
    expect(choice.message).toEqual({
      role: 'assistant',
      content: null,
      refusal: null,
      tool_calls: [
        {
          id: expect.stringMatching(/^call_\w{24}$/),
          type: 'function',
          function: { name: 'f', arguments: '{"a": 1}' },
        },
      ],
    });
  });

  it('streams id, type and name first, then fragments', async () => {
    const chunks = await chunksOf(`Ok. ${call('f', '{"a": 1}')}`);
    const deltas = chunks.map((chunk) => chunk.delta);
    expect(deltas[0]).toEqual({ role: 'assistant', content: '' });
    expect(deltas.map((one) => one.content ?? '').join('')).toBe('Ok.');
    const parts = deltas.flatMap((one) => one.tool_calls ?? []);
    expect(parts[0]).toEqual({
      index: 0,
      id: expect.any(String),
      type: 'function',
      function: { name: 'f', arguments: '' },
    });
    expect(parts.map((part) => part.function.arguments).join('')).toBe('{"a": 1}');
    expect(parts.length).toBeGreaterThan(5);
    for (const part of parts.slice(1)) expect(Object.keys(part)).toEqual(['index', 'function']);
    expect(chunks.at(-1)).toMatchObject({ delta: {}, finish_reason: 'tool_calls' });
  });

  it('leaves the field out where nothing is called', async () => {
    const choice = await choiceOf('No tool is needed.');
    expect(choice).toMatchObject({ finish_reason: 'stop', message: { content: 'No tool is needed.' } });
    expect(choice.message).not.toHaveProperty('tool_calls');
    expect(choice.message).not.toHaveProperty('reasoning');
  });

  it('shows one call without parallel_tool_calls, and none with tool_choice none', async () => {
    const two = call('f', '{}') + call('g', '{}');
    expect((await choiceOf(two)).message.tool_calls).toHaveLength(2);
    const one = await choiceOf(two, { fields: { parallel_tool_calls: false } });
    expect(one.message.tool_calls).toHaveLength(1);
    expect((await choiceOf(two, { fields: { tool_choice: 'none' } })).message.content).toBe(two);
  });

  it('keeps what a cut leaves, and its finish reason', async () => {
    const cut = '<tool_call>{"name": "f", "arguments": {"a';
    const choice = await choiceOf(cut, { finishReason: 'length' });
    expect(choice).toMatchObject({
      finish_reason: 'length',
      message: { tool_calls: [{ function: { arguments: '{"a' } }] },
    });
    expect((await choiceOf('<tool_call>{"name"')).message.content).toBe('<tool_call>{"name"');
  });

  it('refuses calls in messages whose arguments are no object', async () => {
    const calls = [{ id: 'a', type: 'function', function: { name: 'f', arguments: '[1' } }];
    const history = [...messages, { role: 'assistant', content: null, tool_calls: calls }];
    const { answer } = await ask('', { fields: { messages: history } });
    expect(answer.statusCode).toBe(400);
    expect(answer.json().error.param).toBe('messages.1.tool_calls.0.function.arguments');
  });

  it('asks the engine for the marks that are special tokens', async () => {
    const { engine } = await ask('Hi', { template: '[TOOL_CALLS] [THINK]' });
    expect(engine.requests[0].sampling.keptSpecialTokens).toEqual([
      '[TOOL_CALLS]', '[CALL_ID]', '[ARGS]', '[THINK]', '[/THINK]',
    ]); // biome-ignore format: one list
    const { engine: plain } = await ask('Hi', { template: '<tool_call>', fields: { tools: [] } });
    expect(plain.requests[0].sampling.keptSpecialTokens).toEqual([]);
  });

  it('reads with the parsers that options name', async () => {
    const options = { toolCallParser: 'mistral', reasoningParser: 'none' };
    const choice = await choiceOf('[TOOL_CALLS]f{}', { options });
    expect(choice.message.tool_calls[0]).toMatchObject({ id: expect.stringMatching(/^[0-9a-f]{9}$/) });
    const none = await choiceOf(call('f', '{}'), { options: { toolCallParser: 'none' } });
    expect(none.message.content).toBe(call('f', '{}'));
  });
});

describe('POST /v1/chat/completions with reasoning', () => {
  const template = '<think></think>';
  const fields = { tools: undefined };

  it('is in reasoning and reasoning_content, and counted', async () => {
    const { answer } = await ask('<think>\nHmm.\n</think>\n\nYes.', { template, fields });
    const { choices, usage } = answer.json();
    const message = { content: 'Yes.', reasoning: 'Hmm.', reasoning_content: 'Hmm.' };
    expect(choices[0]).toMatchObject({ message, finish_reason: 'stop' });
    // A token a character, the new lines included.
    expect(usage.completion_tokens_details).toEqual({ reasoning_tokens: '\nHmm.\n'.length });
  });

  it('streams the same', async () => {
    const chunks = await chunksOf('<think>\nHmm.\n</think>\n\nYes.', { template, fields });
    const joined = (name: string) => chunks.map((chunk) => chunk.delta[name] ?? '').join('');
    expect([joined('reasoning'), joined('reasoning_content'), joined('content')]).toEqual([
      'Hmm.',
      'Hmm.',
      'Yes.',
    ]);
  });

  it('is left out on request', async () => {
    const asked = { template, fields: { ...fields, include_reasoning: false } };
    const { message } = await choiceOf('<think>Hmm.</think>Yes.', asked);
    expect(message).toEqual({ role: 'assistant', content: 'Yes.', refusal: null });
  });

  it('goes by how the prompt ends', async () => {
    const inside = await choiceOf('Hmm.</think>Yes.', { template, fields, prompt: 'x<think>\n' });
    expect(inside.message).toMatchObject({ content: 'Yes.', reasoning: 'Hmm.' });
    const after = await choiceOf('Yes.', { template, fields, prompt: 'x<think>\n\n</think>\n\n' });
    expect(after.message.content).toBe('Yes.');
    const said = await choiceOf('Yes.', { template, fields, prompt: 'what is <think>?' });
    expect(said.message.content).toBe('Yes.');
  });

  it('goes by the message that the answer continues', async () => {
    const history = [...messages, { role: 'assistant', content: '<think>Hm' }];
    const asked = { template, fields: { ...fields, messages: history, continue_final_message: true } };
    expect((await choiceOf('m.</think>Yes.', asked)).message).toMatchObject({
      content: 'Yes.',
      reasoning: 'm.',
    });
  });
});

describe('plain answers', () => {
  it('keep all their white space, whole and streamed', async () => {
    const text = ' \n a  b \n';
    const asked = { template: '', fields: { tools: undefined } };
    expect((await choiceOf(text, asked)).message.content).toBe(text);
    expect((await chunksOf(text, asked)).map(({ delta }) => delta.content ?? '').join('')).toBe(text);
  });
});
