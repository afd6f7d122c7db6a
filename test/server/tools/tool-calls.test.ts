// Tool calls in the text of a model: the same in any pieces, and in the shapes OpenAI's clients expect.

import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { buildApp } from '../../../dist/server/app.js';
import {
  formatOfTemplate,
  type ToolCallFormat,
  ToolCallStream,
  type ToolEvent,
} from '../../../server/tools/tool-call-stream.ts';
import { testAppOptions } from '../app-options.ts';
import { delta, FakeEngine } from '../fake-engine.ts';

const hermes = formatOfTemplate('{{ "<tool_call>" }}') as ToolCallFormat;
const call = (name: string, given: string) =>
  `<tool_call>\n{"name": "${name}", "arguments": ${given}}\n</tool_call>`;

/** Events with neighbours of a kind joined. */
function parse(pieces: readonly string[]): Array<[type: string, text: string]> {
  const stream = new ToolCallStream(hermes);
  const events: ToolEvent[] = [...pieces.flatMap((piece) => stream.push(piece)), ...stream.finish()];
  const joined: Array<[string, string]> = [];
  for (const event of events) {
    const text = event.type === 'call' ? event.name : event.text;
    const last = joined.at(-1);
    if (last !== undefined && last[0] === event.type && event.type !== 'call') last[1] += text;
    else joined.push([event.type, text]);
  }
  return joined;
}

const cases: Array<[name: string, text: string, expected: Array<[string, string]>]> = [
  ['text alone', 'Hello <b>', [['text', 'Hello <b>']]],
  ['one call', call('f', '{"a": 1}'), [['call', 'f'], ['arguments', '{"a": 1}']]],
  ['no arguments', call('f', '{}'), [['call', 'f'], ['arguments', '{}']]],
  ['text before', `Sure.\n${call('f', '{}')}`, [['text', 'Sure.'], ['call', 'f'], ['arguments', '{}']]],
  ['two calls', `${call('f', '{}')}\n${call('g', '[1]')}\n`, [['call', 'f'], ['arguments', '{}'], ['call', 'g'], ['arguments', '[1]']]],
  ['the closing tag in a string', call('f', '{"a": "</tool_call>"}'), [['call', 'f'], ['arguments', '{"a": "</tool_call>"}']]],
  ['braces and quotes in a string', call('f', '{"a": "}\\"]{", "b": [{}]}'), [['call', 'f'], ['arguments', '{"a": "}\\"]{", "b": [{}]}']]],
  ['a quoted name', call('f\\"g', '{}'), [['call', 'f"g'], ['arguments', '{}']]],
  ['arguments first', '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', [['call', 'f'], ['arguments', '{"a":1}']]],
  ['no arguments at all', '<tool_call>{"name": "f"}</tool_call>', [['call', 'f'], ['arguments', '{}']]],
  ['parameters instead', '<tool_call>{"name": "f", "parameters": {"a": 2}}</tool_call>', [['call', 'f'], ['arguments', '{"a": 2}']]],
  ['a tag around no call', '<tool_call>nothing</tool_call> more', [['text', '<tool_call>nothing</tool_call> more']]],
  ['a call cut in its name', '<tool_call>{"na', [['text', '<tool_call>{"na']]],
  ['a call cut in its arguments', '<tool_call>{"name": "f", "arguments": {"a', [['call', 'f'], ['arguments', '{"a']]],
  ['a tag cut', 'x <tool_c', [['text', 'x <tool_c']]],
  ['a bare number as arguments', call('f', '12'), [['call', 'f'], ['arguments', '12']]],
]; // biome-ignore format: one text a row

describe('the text of a model', () => {
  it.each(cases)('%s', (_name, text, expected) => {
    expect(parse([text])).toEqual(expected);
    expect(parse([...text])).toEqual(expected);
    fc.assert(
      fc.property(fc.array(fc.nat(text.length), { maxLength: 6 }), (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), text.length];
        expect(parse(at.slice(1).map((end, i) => text.slice(at[i], end)))).toEqual(expected);
      }),
      { numRuns: 50 },
    );
  });

  it('never loses or breaks on anything', () => {
    const words = fc.constantFrom(
      '<tool_call>',
      '</tool_call>',
      '{"name": "f", ',
      '"arguments": ',
      '{',
      '}',
      '"',
      '\\',
      ' x ',
      '1',
    );
    fc.assert(
      fc.property(fc.array(words, { maxLength: 20 }), (pieces) => {
        expect(parse(pieces)).toEqual(parse([pieces.join('')]));
      }),
      { numRuns: 1000 },
    );
  });
});

describe('POST /v1/chat/completions with tools', () => {
  const tool = { type: 'function', function: { name: 'f', parameters: { type: 'object' } } };
  const messages = [{ role: 'user', content: 'Hi' }];
  let close = async () => {};
  afterEach(() => close());

  async function ask(text: string, fields: object = {}) {
    const engine = new FakeEngine();
    (engine.description as { chatTemplate: string }).chatTemplate = '<tool_call>';
    engine.answer = async function* () {
      for (const character of text) yield delta(character);
      yield delta('', 'stop');
    };
    const { fastify } = await buildApp(engine as never, testAppOptions);
    close = () => fastify.close();
    const payload = { messages, tools: [tool], ...fields };
    return fastify.inject({ method: 'POST', url: '/v1/chat/completions', payload });
  }

  const chunksOf = (body: string) =>
    body
      .split('\n\n')
      .filter((event) => event.startsWith('data: {'))
      .map((event) => JSON.parse(event.slice(6)).choices[0]);

  it('answers with calls and no content', async () => {
    const [choice] = (await ask(call('f', '{"a": 1}'))).json().choices;
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
    const chunks = chunksOf((await ask(`Ok. ${call('f', '{"a": 1}')}`, { stream: true })).body);
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
    for (const part of parts.slice(1)) expect(Object.keys(part)).toEqual(['index', 'function']);
    expect(chunks.at(-1)).toMatchObject({ delta: {}, finish_reason: 'tool_calls' });
  });

  it('leaves the field out where nothing is called', async () => {
    const answer = (await ask('No tool is needed.')).json();
    expect(answer.choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: 'No tool is needed.' },
    });
    expect(answer.choices[0].message).not.toHaveProperty('tool_calls');
  });

  it('shows one call without parallel_tool_calls, and none with tool_choice none', async () => {
    const two = call('f', '{}') + call('g', '{}');
    expect((await ask(two)).json().choices[0].message.tool_calls).toHaveLength(2);
    expect(
      (await ask(two, { parallel_tool_calls: false })).json().choices[0].message.tool_calls,
    ).toHaveLength(1);
    expect((await ask(two, { tool_choice: 'none' })).json().choices[0].message.content).toBe(two);
  });

  it('refuses calls in messages whose arguments are no object', async () => {
    const calls = [{ id: 'a', type: 'function', function: { name: 'f', arguments: '[1' } }];
    const answer = await ask('', {
      messages: [...messages, { role: 'assistant', content: null, tool_calls: calls }],
    });
    expect(answer.statusCode).toBe(400);
    expect(answer.json().error.param).toBe('messages.1.tool_calls.0.function.arguments');
  });
});
