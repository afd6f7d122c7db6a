// POST /v1/messages as Anthropic's clients expect it: what reaches the model, whole answers, streams, errors.

import { describe, expect, it } from 'vitest';
import type { CompletionDelta } from '../../engine/engine.ts';
import { ask as askOnce, type Given } from './ask.ts';
import type { FakeEngine } from './fake-engine.ts';

const user = { role: 'user', content: 'Hi' };
const base = { model: 'test', max_tokens: 100, messages: [user] };
const tool = { name: 'f', description: 'Does f.', input_schema: { type: 'object' } };
const call = (given: string) => `<tool_call>\n{"name": "f", "arguments": ${given}}\n</tool_call>`;

interface MessagesGiven extends Given {
  url?: string;
}

function ask(fields: object, given: MessagesGiven = {}) {
  const { url = '/v1/messages', ...rest } = given;
  return askOnce(
    { method: 'POST', url, payload: { ...base, ...fields } },
    { template: '<tool_call><think></think>', numPromptTokens: 10, every: { numCachedTokens: 4 }, ...rest },
  );
}

interface Event {
  type: string;
  [field: string]: unknown;
}

async function eventsOf(fields: object, given: MessagesGiven = {}): Promise<Event[]> {
  const { answer } = await ask({ ...fields, stream: true }, given);
  expect(answer.headers['content-type']).toContain('text/event-stream');
  return answer.body
    .split('\n\n')
    .filter((event) => event !== '')
    .map((event) => {
      const [, name, data] = /^event: (\w+)\ndata: (.*)$/.exec(event) ?? [];
      const value = JSON.parse(data);
      expect(value.type).toBe(name);
      return value;
    });
}

/** What a client makes of a stream. */
function accumulated(events: Event[]) {
  const message = structuredClone(events[0].message) as Record<string, unknown> & { content: unknown[] };
  const inputs: string[] = [];
  for (const event of events) {
    const index = event.index as number;
    const given = event.delta as Record<string, string>;
    if (event.type === 'content_block_start') message.content.push(structuredClone(event.content_block));
    const block = message.content[index] as Record<string, unknown>;
    if (event.type === 'content_block_delta') {
      const { type, ...rest } = given;
      const [[name, text]] = Object.entries(rest);
      if (type === 'input_json_delta') inputs[index] = (inputs[index] ?? '') + text;
      else block[name] = type === 'signature_delta' ? text : `${block[name]}${text}`;
    }
    if (event.type === 'content_block_stop' && block.type === 'tool_use') {
      try {
        block.input = JSON.parse(inputs[index]);
      } catch {
        block.input = {};
      }
    }
    if (event.type === 'message_delta') Object.assign(message, given, { usage: event.usage });
  }
  return message;
}

describe('what reaches the model', () => {
  const shown = async (fields: object, given: MessagesGiven = {}) => (await ask(fields, given)).prompt;

  it('has the system prompt first, as text or blocks', async () => {
    const system = [
      { type: 'text', text: 'a', cache_control: { type: 'ephemeral' } },
      { type: 'text', text: 'b' },
    ];
    for (const given of ['a\nb', system]) {
      expect((await shown({ system: given })).messages).toEqual([{ role: 'system', content: 'a\nb' }, user]);
    }
  });

  it('has calls and their results as chat messages, in order', async () => {
    const messages = [
      user,
      {
        role: 'assistant',
        content: [
          { type: 'thinking', thinking: 'Hm.', signature: 'x' },
          { type: 'redacted_thinking', data: 'x' },
          { type: 'text', text: 'So.' },
          { type: 'tool_use', id: 'a', name: 'f', input: { x: 1 } },
          { type: 'tool_use', id: 'b', name: 'f', input: {} },
        ],
      },
      {
        role: 'user',
        content: [
          { type: 'tool_result', tool_use_id: 'a', content: '1' },
          { type: 'tool_result', tool_use_id: 'b', content: [{ type: 'text', text: 'no' }], is_error: true },
          { type: 'text', text: 'And?' },
        ],
      },
    ];
    const called = (id: string, given: object) => ({
      id, type: 'function', function: { name: 'f', arguments: given },
    }); // biome-ignore format: one call
    expect((await shown({ messages })).messages).toEqual([
      user,
      {
        role: 'assistant',
        content: 'So.',
        reasoning: 'Hm.',
        reasoning_content: 'Hm.',
        tool_calls: [called('a', { x: 1 }), called('b', {})],
      },
      { role: 'tool', tool_call_id: 'a', name: 'f', content: '1' },
      { role: 'tool', tool_call_id: 'b', name: 'f', content: 'Error: no' },
      { role: 'user', content: 'And?' },
    ]);
  });

  it('joins turns of one role', async () => {
    const assistant = { role: 'assistant', content: 'c' };
    const messages = [user, { role: 'user', content: 'there' }, assistant, assistant, user];
    expect((await shown({ messages })).messages).toEqual([
      { role: 'user', content: 'Hi\nthere' },
      { role: 'assistant', content: 'c\nc' },
      user,
    ]);
  });

  it('goes on with a last assistant message, unless it is empty', async () => {
    const filled = await shown({ messages: [user, { role: 'assistant', content: 'I am' }] });
    expect(filled).toMatchObject({ continueFinalMessage: true, addGenerationPrompt: false });
    const empty = await shown({ messages: [user, { role: 'assistant', content: [] }] });
    expect(empty).toMatchObject({ continueFinalMessage: false, addGenerationPrompt: true, messages: [user] });
  });

  it('has the tools, unless none may be called', async () => {
    const chatTool = {
      type: 'function', function: { name: 'f', description: 'Does f.', parameters: { type: 'object' } },
    }; // biome-ignore format: one tool
    expect((await shown({ tools: [{ type: 'custom', ...tool }] })).tools).toEqual([chatTool]);
    expect((await shown({ tools: [tool], tool_choice: { type: 'none' } })).tools).toBeUndefined();
  });

  it('is told whether to think, and for how long', async () => {
    const variables = async (fields: object) => (await shown(fields)).templateVariables;
    expect(await variables({})).toEqual({});
    const off = { enable_thinking: false, thinking: false };
    const on = { enable_thinking: true, thinking: true };
    expect(await variables({ thinking: { type: 'disabled' } })).toEqual(off);
    const output_config = { effort: 'low' };
    expect(await variables({ thinking: { type: 'adaptive' }, output_config })).toEqual({
      ...on,
      reasoning_effort: 'low',
    });
    const thinking = { type: 'enabled', budget_tokens: 7 };
    const change = (engine: FakeEngine) => {
      engine.encodeText = async (text) => ({ text, tokenIds: Int32Array.of(text.charCodeAt(1)) });
    };
    const { request, prompt } = await ask({ thinking }, { change });
    expect(prompt.templateVariables).toEqual(on);
    expect(request.sampling.reasoning).toMatchObject({ maxTokens: 7 });
    // Without reasoning there is nothing to limit.
    const plain = await ask({ thinking }, { template: '' });
    expect(plain.request.sampling.reasoning).toBeNull();
  });

  it('is sampled as asked', async () => {
    const fields = { max_tokens: 5, temperature: 0.5, top_p: 0.9, top_k: 3, stop_sequences: ['a', 'b'] };
    const { request } = await ask({ ...fields, metadata: { user_id: 'u' }, service_tier: 'auto' });
    expect(request.sampling).toMatchObject({
      maxTokens: 5,
      temperature: 0.5,
      topP: 0.9,
      topK: 3,
      stop: ['a', 'b'],
    });
  });

  it.each(['output_config', 'output_format'])('is held to a schema by %s', async (name) => {
    const schema = { type: 'object', properties: {} };
    const format = { type: 'json_schema', schema };
    const asked: unknown[] = [];
    const change = (engine: FakeEngine) => {
      engine.compileGrammar = async (request) => {
        asked.push(request);
        return {} as never;
      };
    };
    await ask({ [name]: name === 'output_format' ? format : { format } }, { change });
    expect(asked).toEqual([{ type: 'json_schema', schema }]);
  });

  it('may be forced to call, once', async () => {
    const asked: Array<{ tag: { format: object } }> = [];
    const change = (engine: FakeEngine) => {
      engine.compileGrammar = async (request) => {
        asked.push(request as never);
        return {} as never;
      };
    };
    const tools = [tool, { ...tool, name: 'g' }];
    await ask({ tools, tool_choice: { type: 'any' } }, { change });
    await ask({ tools, tool_choice: { type: 'tool', name: 'g' } }, { change });
    await ask({ tools, tool_choice: { type: 'any', disable_parallel_tool_use: true } }, { change });
    const formats = asked.map(
      ({ tag: { format } }) => format as { tags: object[]; stop_after_first: boolean },
    );
    expect(formats.map(({ tags, stop_after_first }) => [tags.length, stop_after_first])).toEqual([
      [2, false],
      [1, true],
      [2, true],
    ]);
  });
});

describe('answers', () => {
  it('have their text, reason and usage', async () => {
    const { answer } = await ask(
      {},
      { headers: { 'anthropic-version': '2023-06-01', 'x-request-id': 'r1' } },
    );
    expect(answer.statusCode).toBe(200);
    expect(answer.headers['request-id']).toBe('r1');
    expect(answer.json()).toEqual({
      id: 'msg_r1',
      type: 'message',
      role: 'assistant',
      model: 'test',
      container: null,
      content: [{ type: 'text', text: 'Hello', citations: null }],
      stop_reason: 'end_turn',
      stop_sequence: null,
      stop_details: null,
      usage: {
        input_tokens: 6,
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: 4,
        output_tokens: 5,
        output_tokens_details: { thinking_tokens: 0 },
      },
    });
  });

  it('have thinking and calls as blocks', async () => {
    const text = `<think>Hm.</think>So. ${call('{"a": 1}')}\n${call('{}')}`;
    const { answer } = await ask({ tools: [tool] }, { text });
    const id = expect.stringMatching(/^call_\w{24}$/);
    const caller = { type: 'direct' };
    expect(answer.json()).toMatchObject({
      stop_reason: 'tool_use',
      content: [
        { type: 'thinking', thinking: 'Hm.', signature: expect.stringMatching(/^[\w-]{43}$/) },
        { type: 'text', text: 'So.' },
        { type: 'tool_use', id, name: 'f', input: { a: 1 }, caller },
        { type: 'tool_use', id, name: 'f', input: {}, caller },
      ],
      usage: { output_tokens_details: { thinking_tokens: 3 } },
    });
  });

  it.each([
    ['stop_sequence', { finishReason: 'stop', stopReason: 'END' }, 'END'],
    ['end_turn', { finishReason: 'stop', stopReason: 7 }, null],
    ['model_context_window_exceeded', { finishReason: 'length' }, null],
  ])('end with %s', async (stop_reason, last, stop_sequence) => {
    const { answer } = await ask({}, { last: last as never });
    expect(answer.json()).toMatchObject({ stop_reason, stop_sequence });
  });

  it('end with max_tokens when these are spent', async () => {
    const { answer } = await ask({ max_tokens: 5 }, { last: { finishReason: 'length' } });
    expect(answer.json()).toMatchObject({ stop_reason: 'max_tokens' });
  });

  it('count tokens without running', async () => {
    const { max_tokens: _, ...fields } = { ...base, tools: [tool], system: 'x' };
    const { answer, prompt, request } = await ask(fields, { url: '/v1/messages/count_tokens' });
    expect(answer.json()).toEqual({ input_tokens: 10 });
    expect(prompt.tools).toHaveLength(1);
    expect(request).toBeUndefined();
  });
});

describe('streams', () => {
  it('have every event in its place', async () => {
    const events = await eventsOf({}, { text: 'Hello', step: 3 });
    expect(events.map(({ type }) => type)).toEqual([
      'message_start', 'ping', 'content_block_start', 'content_block_delta', 'content_block_delta',
      'content_block_stop', 'message_delta', 'message_stop',
    ]); // biome-ignore format: one list
    expect(events[0].message).toMatchObject({ content: [], stop_reason: null, usage: { input_tokens: 6 } });
    expect(events[2]).toEqual({
      type: 'content_block_start',
      index: 0,
      content_block: { type: 'text', text: '', citations: null },
    });
    expect(events[3].delta).toEqual({ type: 'text_delta', text: 'Hel' });
    expect(events[6]).toMatchObject({ delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 5 } });
  });

  it('sign thinking before its block ends, and hide it on request', async () => {
    const text = '<think>Hm.</think>So.';
    const kinds = (events: Event[]) => events.map(({ delta: given }) => (given as { type?: string })?.type);
    const events = await eventsOf({}, { text, step: 100 });
    expect(kinds(events).filter((kind) => kind !== undefined)).toEqual([
      'thinking_delta',
      'signature_delta',
      'text_delta',
    ]);
    const hidden = await eventsOf({ thinking: { type: 'adaptive', display: 'omitted' } }, { text });
    expect(kinds(hidden)).not.toContain('thinking_delta');
    expect(accumulated(hidden).content).toMatchObject([{ type: 'thinking', thinking: '' }, { text: 'So.' }]);
  });

  const transcripts: Array<[name: string, text: string, last?: Partial<CompletionDelta>]> = [
    ['text', 'Some text. \n And é🙂 more.'],
    ['nothing', ''],
    ['thinking and text', '<think>\nHm.\n</think>\n\nSo.'],
    ['thinking alone', '<think>Hm', { finishReason: 'length' }],
    ['a call', call('{"a": [1, {"b": "c"}]}')],
    ['text, calls, text', `One. ${call('{"a": 1}')}\n${call('{}')} Two.`],
    ['thinking, text, a call', `<think>Hm.</think>So. ${call('{"a": "é🙂"}')}`],
    ['a call cut off', '<tool_call>{"name": "f", "arguments": {"a": "b', { finishReason: 'length' }],
    ['a stop sequence', 'So', { finishReason: 'stop', stopReason: 'far' }],
    ['what is no call', '<tool_call>{"name"'],
  ];
  it.each(transcripts)('say what a whole answer says: %s', async (_name, text, last) => {
    const headers = { 'x-request-id': 'same' };
    const fields = { tools: [tool] };
    const withoutIds = (message: unknown) =>
      JSON.parse(JSON.stringify(message).replace(/call_\w{24}/g, 'call'));
    const whole = withoutIds((await ask(fields, { text, last, headers, step: 1000 })).answer.json());
    for (const step of [1, 2, 3, 7, 1000]) {
      const events = await eventsOf(fields, { text, last, headers, step });
      expect(withoutIds(accumulated(events)), `${step} characters at once`).toEqual(whole);
      const pieces = events.flatMap(({ delta: given }) => Object.values((given as object) ?? {}));
      expect(pieces).not.toContain('');
    }
  });

  it('end with an error event when the engine ends', async () => {
    const events = await eventsOf({}, { last: { finishReason: 'error' } });
    expect(events.at(-1)).toEqual({
      type: 'error',
      error: { type: 'api_error', message: 'internal error' },
      request_id: expect.any(String),
    });
    expect(events.map(({ type }) => type)).not.toContain('message_stop');
    const stopped = await eventsOf({}, { text: '', last: { finishReason: 'abort' } });
    expect(stopped).toMatchObject([
      { type: 'error', error: { type: 'invalid_request_error', message: 'an operator ended the request' } },
    ]);
  });
});

describe('errors', () => {
  const block = (given: object, role = 'user') => ({ messages: [user, { role, content: [given] }] });
  const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: '' } };
  const format = { type: 'json_schema', schema: {} };
  const rows: Array<[name: string, fields: object, message: string]> = [
    ['max_tokens missing', { max_tokens: undefined }, 'max_tokens is missing'],
    ['max_tokens zero', { max_tokens: 0 }, 'max_tokens: found 0, allowed: a whole number from 1'],
    ['model missing', { model: undefined }, 'model is missing'],
    ['messages empty', { messages: [] }, 'messages: found []'],
    ['messages of nothing', { messages: [{ role: 'assistant', content: '' }] }, 'messages: found no content'],
    ['an unknown role', { messages: [{ role: 'tool', content: 'x' }] }, 'messages.0.role'],
    ['content null', { messages: [{ role: 'user', content: null }] }, 'messages.0.content'],
    ['an image', block(image), 'messages.1.content.0: found a block of type "image", supported: text, tool_result'],
    ['a document', block({ type: 'document' }), 'supported: text'],
    ['an image in a result', block({ type: 'tool_result', tool_use_id: 'a', content: [image] }), 'messages.1.content.0.content.0: found a block of type "image"'],
    ['a call by the user', block({ type: 'tool_use', id: 'a', name: 'f', input: {} }), 'supported: text, tool_result'],
    ['a call at the end', block({ type: 'tool_use', id: 'a', name: 'f', input: {} }, 'assistant'), 'messages.1.content: found tool_use at the end'],
    ['a call without input', block({ type: 'tool_use', id: 'a', name: 'f' }, 'assistant'), 'messages.1.content.0.input is missing'],
    ['a result without id', block({ type: 'tool_result' }), 'messages.1.content.0.tool_use_id is missing'],
    ['text without text', block({ type: 'text' }), 'messages.1.content.0.text is missing'],
    ['an image in system', { system: [image] }, 'system.0: found a block of type "image", supported: text'],
    ['a server tool', { tools: [{ type: 'web_search_20250305', name: 'web_search' }] }, 'tools.0.type: found "web_search_20250305", supported: "custom"'],
    ['a tool without schema', { tools: [{ name: 'f' }] }, 'tools.0.input_schema is missing'],
    ['a tool of a strange name', { tools: [{ ...tool, name: 'a b' }] }, 'tools.0.name'],
    ['tool_choice without tools', { tool_choice: { type: 'any' } }, 'tool_choice: found'],
    ['an unknown tool_choice', { tools: [tool], tool_choice: { type: 'tool', name: 'g' } }, 'tool_choice.name: found "g", allowed: f'],
    ['tool_choice a word', { tools: [tool], tool_choice: 'auto' }, 'tool_choice: found "auto"'],
    ['an empty stop sequence', { stop_sequences: [''] }, 'stop_sequences.0'],
    ['temperature', { temperature: 3 }, 'temperature'],
    ['thinking of no budget', { thinking: { type: 'enabled' } }, 'thinking.budget_tokens is missing'],
    ['a budget of zero', { thinking: { type: 'enabled', budget_tokens: 0 } }, 'thinking.budget_tokens'],
    ['two formats', { output_config: { format }, output_format: format }, 'output_format'],
    ['mcp_servers', { mcp_servers: [{}] }, 'mcp_servers'],
  ]; // biome-ignore format: one request a row
  it.each(rows)('%s', async (_name, fields, message) => {
    const { answer } = await ask(fields);
    expect(answer.json()).toEqual({
      type: 'error',
      error: { type: 'invalid_request_error', message: expect.stringContaining(message) },
      request_id: answer.headers['request-id'],
    });
    expect(answer.statusCode).toBe(400);
  });

  it('tell clients to send the whole conversation', async () => {
    const { answer } = await ask({ thread: { type: 'create' } });
    expect(answer.statusCode).toBe(400);
    const details = { error_code: 'thread_unsupported_request', unsupported: ['thread'] };
    expect(answer.json().error).toMatchObject({ type: 'invalid_request_error', details });
  });

  it('name fields as the client does', async () => {
    const refuse = async (fields: object) => {
      const { GrammarError } = await import('../../dist/engine/engine.js');
      const change = (engine: FakeEngine) => {
        engine.compileGrammar = async ({ type }) => {
          const place = type === 'json_schema' ? 'schema' : 'format.tags.0.content: schema';
          throw new GrammarError(`${place}.properties.a: not supported`);
        };
      };
      return (await ask(fields, { change })).answer.json().error.message;
    };
    const format = { type: 'json_schema', schema: {} };
    expect(await refuse({ output_config: { format } })).toMatch(
      /^output_config\.format\.schema\.properties\.a: /,
    );
    const forced = { tools: [tool], tool_choice: { type: 'any' } };
    expect(await refuse(forced)).toMatch(/^tools\.0\.input_schema\.properties\.a: /);
  });

  const kill = (engine: FakeEngine) => {
    engine.healthNow = { status: 'dead', heartbeatAgeMs: 1 };
  };
  const spoil = (engine: FakeEngine) => {
    engine.encodeChat = async () => {
      throw new Error('secret');
    };
  };
  it.each([
    ['a wrong key', 401, 'authentication_error', { options: { apiKeys: ['k'] }, headers: { 'x-api-key': 'x' } }],
    ['too large', 413, 'request_too_large', { options: { bodyLimitBytes: 10 } }],
    ['no JSON', 415, 'invalid_request_error', { headers: { 'content-type': 'text/xml' } }],
    ['a full queue', 429, 'rate_limit_error', { options: { maxQueuedRequests: 0 } }],
    ['a dead engine', 503, 'overloaded_error', { change: kill }],
    ['our fault', 500, 'api_error', { change: spoil }],
  ] as Array<[string, number, string, MessagesGiven]>)('%s is %i', async (_name, status, type, given) => {
    const { answer } = await ask({}, given);
    expect(answer.statusCode).toBe(status);
    expect(answer.json()).toMatchObject({ type: 'error', error: { type, message: expect.any(String) } });
    expect(answer.body).not.toContain('secret');
    if (status === 429 || status === 503) expect(answer.headers['retry-after']).toBeDefined();
  }); // biome-ignore format: one case a row

  it('of an unknown model are 404, with the right key', async () => {
    const given = { options: { apiKeys: ['k'] }, headers: { 'x-api-key': 'k' } };
    const { answer } = await ask({ model: 'claude' }, given);
    expect(answer.statusCode).toBe(404);
    expect(answer.json().error).toEqual({
      type: 'not_found_error',
      message: 'model: found "claude", served: test, org/other-name',
    });
  });
});
