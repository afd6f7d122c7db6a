// Ollama's routes as its clients expect them: what reaches the model, lines, errors, what is listed.

import { describe, expect, it } from 'vitest';
import type { CompletionDelta } from '../../engine/engine.ts';
import { ask as askOnce, type Given } from './ask.ts';
import { delta, type FakeEngine } from './fake-engine.ts';

const user = { role: 'user', content: 'Hi' };
const tool = { type: 'function', function: { name: 'f', parameters: { type: 'object' } } };
const call = (given: string) => `<tool_call>\n{"name": "f", "arguments": ${given}}\n</tool_call>`;
const reasoning = '<tool_call><think></think>';

interface OllamaGiven extends Given {
  method?: 'GET' | 'HEAD' | 'POST' | 'DELETE';
}

function ask(url: string, payload: object | string | undefined, given: OllamaGiven = {}) {
  const { method = 'POST', ...rest } = given;
  return askOnce({ method, url, payload }, { template: '<tool_call>', ...rest });
}

const chat = (fields: object, given?: OllamaGiven) =>
  ask('/api/chat', { model: 'test', messages: [user], stream: false, ...fields }, given);
const generate = (fields: object, given?: OllamaGiven) =>
  ask('/api/generate', { model: 'test', prompt: 'Hi', stream: false, ...fields }, given);
const linesOf = (body: string) =>
  body
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
const counts = {
  total_duration: expect.any(Number),
  load_duration: expect.any(Number),
  prompt_eval_count: 3,
  prompt_eval_duration: expect.any(Number),
  eval_duration: expect.any(Number),
};

describe('POST /api/chat', () => {
  it('answers whole, with counts and times', async () => {
    const { answer } = await chat({ model: 'test:latest' });
    expect(answer.json()).toEqual({
      model: 'test:latest',
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      message: { role: 'assistant', content: 'Hello' },
      done: true,
      done_reason: 'stop',
      eval_count: 5,
      ...counts,
    });
    const { total_duration, load_duration, prompt_eval_duration, eval_duration } = answer.json();
    expect(Number.isInteger(total_duration)).toBe(true);
    const sum = load_duration + prompt_eval_duration + eval_duration;
    // Rounded one by one.
    expect(Math.abs(total_duration - sum)).toBeLessThan(10);
  });

  it('streams lines unless it is asked not to', async () => {
    const { answer } = await chat({ stream: undefined }, { step: 3 });
    expect(answer.headers['content-type']).toBe('application/x-ndjson');
    const lines = linesOf(answer.body);
    expect(lines.map(({ message, done }) => [message.content, done])).toEqual([
      ['Hel', false],
      ['lo', false],
      ['', true],
    ]);
    expect(lines[2]).toMatchObject({ done_reason: 'stop', eval_count: 5, ...counts });
  });

  const transcripts: Array<[name: string, text: string, last?: Partial<CompletionDelta>]> = [
    ['text', 'Some text. \n And é🙂 more.'],
    ['nothing', ''],
    ['thinking and text', '<think>\nHm.\n</think>\n\nSo.'],
    ['a call', call('{"a": [1, {"b": "c"}]}')],
    ['thinking, text, calls', `<think>Hm.</think>So. ${call('{"a": 1}')}\n${call('{}')}`],
    ['a call cut off', 'So. <tool_call>{"name": "f", "arguments": {"a": "b', { finishReason: 'length' }],
  ];
  it.each(transcripts)('streams what it answers whole: %s', async (_name, text, last) => {
    const given = { text, last, template: reasoning };
    const fields = { tools: [tool] };
    const withoutIds = (message: object) =>
      JSON.parse(JSON.stringify(message).replace(/call_\w{24}/g, 'call'));
    const whole = (await chat(fields, { ...given, step: 1000 })).answer.json();
    for (const step of [1, 2, 7, 1000]) {
      const lines = linesOf((await chat({ ...fields, stream: true }, { ...given, step })).answer.body);
      const joined = (name: string) => lines.map(({ message }) => message[name] ?? '').join('');
      const calls = lines.flatMap(({ message }) => message.tool_calls ?? []);
      const message = {
        role: 'assistant',
        content: joined('content'),
        ...(joined('thinking') === '' ? {} : { thinking: joined('thinking') }),
        ...(calls.length === 0 ? {} : { tool_calls: calls }),
      };
      expect(withoutIds(message)).toEqual(withoutIds(whole.message));
      expect(lines.at(-1)).toMatchObject({ done: true, done_reason: whole.done_reason });
    }
  });

  it('has calls whole, with arguments as objects, and none that was cut off', async () => {
    const { answer } = await chat({ tools: [tool] }, { text: `${call('{"a": 1}')}\n${call('{}')}` });
    const id = expect.stringMatching(/^call_/);
    expect(answer.json().message).toEqual({
      role: 'assistant',
      content: '',
      tool_calls: [
        { id, function: { index: 0, name: 'f', arguments: { a: 1 } } },
        { id, function: { index: 1, name: 'f', arguments: {} } },
      ],
    });
    const cut = {
      text: '<tool_call>{"name": "f", "arguments": {"a',
      last: { finishReason: 'length' as const },
    };
    const { answer: short } = await chat({ tools: [tool] }, cut);
    expect(short.json()).toMatchObject({ message: { content: '' }, done_reason: 'length' });
    expect(short.json().message).not.toHaveProperty('tool_calls');
  });

  it('finds the call of each result', async () => {
    const called = (name: string, id?: string) => ({ id, function: { name, arguments: { a: 1 } } });
    const messages = [
      user,
      {
        role: 'assistant',
        content: '',
        thinking: 'Hm.',
        tool_calls: [called('f'), called('g'), called('f', 'x')],
      },
      { role: 'tool', content: '1', tool_name: 'g' },
      { role: 'tool', content: '2', tool_call_id: 'x' },
      { role: 'tool', content: '3' },
    ];
    const { prompt } = await chat({ messages });
    expect(prompt.messages).toMatchObject([
      user,
      {
        reasoning: 'Hm.',
        tool_calls: [
          { id: 'call_1_0', function: { name: 'f', arguments: { a: 1 } } },
          { id: 'call_1_1' },
          { id: 'x' },
        ],
      },
      { role: 'tool', content: '1', name: 'g', tool_call_id: 'call_1_1' },
      { role: 'tool', content: '2', name: 'f', tool_call_id: 'x' },
      { role: 'tool', content: '3', name: 'f', tool_call_id: 'call_1_0' },
    ]);
  });

  it('goes on with a last message of the assistant', async () => {
    const { prompt } = await chat({ messages: [user, { role: 'assistant', content: 'I' }] });
    expect(prompt).toMatchObject({ continueFinalMessage: true });
  });

  it('thinks as asked', async () => {
    const variables = async (think: unknown) =>
      (await chat({ think }, { template: reasoning })).prompt.templateVariables;
    expect(await variables(undefined)).toEqual({});
    expect(await variables(true)).toEqual({ enable_thinking: true, thinking: true });
    expect(await variables('low')).toMatchObject({ enable_thinking: true, reasoning_effort: 'low' });
    expect(await variables(false)).toMatchObject({ enable_thinking: false, thinking: false });
    const { answer } = await chat({ think: true });
    expect(answer.statusCode).toBe(400);
    expect(answer.json()).toEqual({ error: expect.stringContaining('think: found true, supported: models') });
  });

  it('is sampled as asked', async () => {
    const options = {
      num_predict: 7, temperature: 0.5, top_k: 3, top_p: 0.9, min_p: 0.1, seed: 5, stop: ['a'], num_ctx: 4096,
      repeat_penalty: 1.1, presence_penalty: 0.5, frequency_penalty: 0.25, num_gpu: -1, use_mmap: true,
    }; // biome-ignore format: one list
    const { request } = await chat({ options, keep_alive: '5m' });
    expect(request.sampling).toMatchObject({
      maxTokens: 7, temperature: 0.5, topK: 3, topP: 0.9, minP: 0.1, seed: 5n, stop: ['a'],
      repetitionPenalty: 1.1, presencePenalty: 0.5, frequencyPenalty: 0.25,
    }); // biome-ignore format: one list
    const { request: free } = await chat({ options: { num_predict: -1, seed: -1 } });
    expect(free.sampling).toMatchObject({ maxTokens: null, seed: null });
  });

  it('is held to a format', async () => {
    const asked: unknown[] = [];
    const change = (engine: FakeEngine) => {
      engine.compileGrammar = async (request) => {
        asked.push(request);
        return {} as never;
      };
    };
    const schema = { type: 'object', properties: {} };
    for (const format of ['json', schema, '', null]) await chat({ format }, { change });
    expect(asked).toEqual([{ type: 'json_object' }, { type: 'json_schema', schema }]);
  });

  it('has log-probabilities on request', async () => {
    const change = (engine: FakeEngine) => {
      engine.answer = async function* () {
        const token = { tokenId: 65, logprob: -1, rank: 1, topTokenIds: [65], topLogprobs: [-1] };
        yield { ...delta('A', 'stop'), logprobs: [token] };
      };
    };
    const expected = [
      { token: 'A', logprob: -1, bytes: [65], top_logprobs: [{ token: 'A', logprob: -1, bytes: [65] }] },
    ];
    const fields = { logprobs: true, top_logprobs: 1 };
    expect((await chat(fields, { change })).answer.json().logprobs).toEqual(expected);
    const lines = linesOf((await chat({ ...fields, stream: true }, { change })).answer.body);
    expect(lines[0].logprobs).toEqual(expected);
  });
});

describe('POST /api/generate', () => {
  it('answers a prompt, with a system message', async () => {
    const { answer, prompt } = await generate(
      { system: 'Be brief.' },
      { text: '<think>Hm.</think>So.', template: reasoning },
    );
    expect(prompt.messages).toEqual([{ role: 'system', content: 'Be brief.' }, user]);
    expect(answer.json()).toMatchObject({ response: 'So.', thinking: 'Hm.', done: true, ...counts });
    const lines = linesOf((await generate({ stream: undefined }, { step: 5 })).answer.body);
    expect(lines).toMatchObject([
      { response: 'Hello', done: false },
      { response: '', done: true },
    ]);
  });

  it('takes a raw prompt as it stands, and reads nothing in the answer', async () => {
    const text = '<think>Hm.</think>So.';
    const { answer, prompt, request } = await generate({ raw: true }, { text, template: reasoning });
    expect(prompt).toBeUndefined();
    expect([...request.promptTokenIds]).toEqual([...Buffer.from('Hi')]);
    expect(answer.json().response).toBe(text);
  });
});

describe('both', () => {
  it.each(['/api/chat', '/api/generate'])(
    '%s says that the model is loaded when nothing is asked',
    async (url) => {
      for (const payload of [{ model: 'test' }, { model: 'test', messages: [], prompt: '', keep_alive: 0 }]) {
        const { answer, request } = await ask(url, payload);
        expect(answer.json()).toMatchObject({ done: true, done_reason: 'load' });
        expect(request).toBeUndefined();
      }
    },
  );

  it('end a stream that fails with an error', async () => {
    const { answer } = await chat({ stream: true }, { last: { finishReason: 'error' } });
    expect(linesOf(answer.body).at(-1)).toEqual({ error: 'internal error' });
    const whole = await chat({}, { last: { finishReason: 'abort', stopReason: 'grammar_timeout' } });
    expect(whole.answer.statusCode).toBe(400);
  });

  it('say that they live while nothing is said', async () => {
    const change = (engine: FakeEngine) => {
      engine.answer = async function* () {
        await new Promise((resolve) => setTimeout(resolve, 60));
        yield delta('Hello', 'stop');
      };
    };
    const { answer } = await chat({ stream: true }, { change, options: { ssePingIntervalMs: 10 } });
    const lines = linesOf(answer.body);
    expect(lines.length).toBeGreaterThan(2);
    expect(lines.map(({ message }) => message.content).join('')).toBe('Hello');
    expect(lines.filter(({ done }) => done)).toHaveLength(1);
  });

  it('take JSON from curl, which calls it a form, and not from a page', async () => {
    const payload = JSON.stringify({ model: 'test', messages: [user], stream: false });
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    expect((await ask('/api/chat', payload, { headers })).answer.json().message.content).toBe('Hello');
    const page = await ask('/api/chat', payload, { headers: { ...headers, origin: 'http://example.com' } });
    expect(page.answer.statusCode).toBe(415);
    expect((await ask('/api/chat', 'a=b', { headers })).answer.statusCode).toBe(400);
    expect((await ask('/v1/chat/completions', payload, { headers })).answer.statusCode).toBe(415);
  });

  const image = 'aGVsbG8=';
  const c = '/api/chat';
  const g = '/api/generate';
  const rows: Array<[name: string, url: string, fields: object, message: string]> = [
    ['model missing', c, { model: undefined }, 'model is missing'],
    ['an image', c, { messages: [{ ...user, images: [image] }] }, 'messages.0.images: found ["aGVsbG8="]'],
    ['an image of a prompt', g, { images: [image] }, 'images: found'],
    ['a suffix', g, { suffix: 'x' }, 'suffix: found "x"'],
    ['a template', g, { template: '{{ .Prompt }}' }, 'template: found'],
    ['a context', g, { context: [1] }, 'context: found [1]'],
    ['an unknown role', c, { messages: [{ role: 'robot', content: 'x' }] }, 'messages.0.role'],
    ['an unknown format', c, { format: 'xml' }, 'format: found "xml"'],
    ['temperature', c, { options: { temperature: -1 } }, 'options.temperature'],
    ['an empty stop', c, { options: { stop: [''] } }, 'options.stop: found ""'],
    ['seed a fraction', c, { options: { seed: 1.5 } }, 'options.seed: found 1.5'],
    ['mirostat', c, { options: { mirostat: 1 } }, 'options.mirostat: found 1'],
    ['a tool without a name', c, { tools: [{ type: 'function', function: {} }] }, 'tools.0.function.name is missing'],
    ['top_logprobs alone', c, { top_logprobs: 1 }, 'top_logprobs: found'],
  ]; // biome-ignore format: one request a row
  it.each(rows)('refuse %s', async (_name, url, fields, message) => {
    const { answer } = await (url === c ? chat : generate)(fields);
    expect(answer.json()).toEqual({ error: expect.stringContaining(message) });
    expect(answer.statusCode).toBe(400);
  });

  it.each([
    ['an unknown model', 404, { model: 'llama3' }, {}],
    ['a wrong key', 401, {}, { options: { apiKeys: ['k'] } }],
    ['a full queue', 429, {}, { options: { maxQueuedRequests: 0 } }],
  ])('answer %s with %i', async (_name, status, fields, given) => {
    const { answer } = await chat(fields, given);
    expect(answer.statusCode).toBe(status);
    expect(answer.json()).toEqual({ error: expect.any(String) });
  });
});

describe('what clients ask before', () => {
  const get = async (url: string) => (await ask(url, undefined, { method: 'GET' })).answer;

  it('is whether somebody is there', async () => {
    expect((await get('/')).body).toContain('Ollama is running');
    expect((await ask('/', undefined, { method: 'HEAD' })).answer.statusCode).toBe(200);
    expect((await get('/api/version')).json()).toEqual({ version: '0.0.0-test' });
  });

  it('is which models there are, and which are loaded', async () => {
    const names = ['test:latest', 'org/other-name:latest'];
    const { models } = (await get('/api/tags')).json();
    expect(models.map(({ name }: { name: string }) => name)).toEqual(names);
    expect(models[0]).toMatchObject({
      model: names[0],
      size: 0,
      digest: expect.stringMatching(/^[0-9a-f]{64}$/),
      details: { format: 'safetensors', family: 'fake' },
    });
    const running = (await get('/api/ps')).json().models;
    expect(running[0]).toMatchObject({ name: names[0], size_vram: 0, context_length: 1000 });
    for (const name of names) expect((await ask('/api/show', { model: name })).answer.statusCode).toBe(200);
  });

  it('is what a model can do', async () => {
    const { answer } = await ask('/api/show', { name: 'test' }, { template: reasoning });
    expect(answer.json()).toMatchObject({
      template: reasoning,
      model_info: { 'general.architecture': 'fake', 'fake.context_length': 1000 },
      capabilities: ['completion', 'tools', 'thinking'],
    });
    expect((await ask('/api/show', {})).answer.json()).toEqual({
      error: 'model is missing, expected a name',
    });
    expect((await ask('/api/show', { model: 'x' })).answer.statusCode).toBe(404);
  });
});

describe('POST /api/embed', () => {
  // By the fake engine: 3, 4, 0 and one less than the number of bytes, to length 1.
  const embed = async (fields: object, given?: OllamaGiven) =>
    (await ask('/api/embed', { model: 'test:latest', ...fields }, given)).answer;

  it('answers with a vector of length 1 for each text, with counts and times', async () => {
    const answer = await embed({ input: ['a', 'a'], options: { num_ctx: 10 }, keep_alive: '5m' });
    expect(answer.json()).toEqual({
      model: 'test:latest',
      embeddings: [0, 1].map(() => [expect.closeTo(0.6), expect.closeTo(0.8), 0, 0]),
      total_duration: expect.any(Number),
      load_duration: expect.any(Number),
      prompt_eval_count: 2,
    });
    expect((await embed({ input: 'a', dimensions: 1 })).json().embeddings).toEqual([[1]]);
  });

  it.each([{ input: '' }, { input: [] }, {}])('loads the model with %j', async (fields) => {
    expect((await embed(fields)).json()).toMatchObject({ embeddings: [], prompt_eval_count: 0 });
  });

  it.each([
    ['an unknown model', 404, { model: 'llama3', input: 'a' }, {}],
    ['an unknown model that nothing is asked of', 404, { model: 'llama3' }, {}],
    ['too many dimensions', 400, { input: 'a', dimensions: 5 }, {}],
    ['an input of no kind', 400, { input: [1] }, {}],
    ['a full queue', 429, { input: 'a' }, { options: { maxQueuedRequests: 0 } }],
  ])('refuses %s with %i', async (_name, status, fields, given) => {
    const answer = await embed(fields, given);
    expect(answer.statusCode).toBe(status);
    expect(answer.json()).toEqual({ error: expect.any(String) });
  });

  it('cuts what is too long, unless it is told not to', async () => {
    const input = 'x'.repeat(2000);
    const asked: unknown[] = [];
    const change = (engine: FakeEngine) => {
      engine.encodeText = (async (text: string, _special: boolean, truncation?: { maxTokens: number }) => {
        asked.push(truncation);
        return { text, tokenIds: new Int32Array(truncation?.maxTokens ?? text.length) };
      }) as FakeEngine['encodeText'];
    };
    const answer = await embed({ input, truncate: false }, { change });
    expect(answer.statusCode).toBe(400);
    expect(answer.json().error).toBe('input: has 2000 tokens, the model takes 1000 (truncate cuts it)');
    expect((await embed({ input }, { change })).json().prompt_eval_count).toBe(1000);
    expect(asked).toEqual([undefined, { maxTokens: 1000, side: 'right' }]);
  });

  it('/api/embeddings is the older way, for one text', async () => {
    const old = async (fields: object) =>
      (await ask('/api/embeddings', { model: 'test', ...fields })).answer.json();
    expect(await old({ prompt: 'a' })).toEqual({
      embedding: [expect.closeTo(0.6), expect.closeTo(0.8), 0, 0],
    });
    expect(await old({})).toEqual({ embedding: [] });
  });
});

describe('routes that are not there', () => {
  it.each([
    ['POST', '/api/pull', 'the models that the server was started with'],
    ['DELETE', '/api/delete', 'the models that the server was started with'],
    ['POST', '/api/copy', 'the models that the server was started with'],
  ] as const)('are named: %s %s', async (method, url, supported) => {
    const { answer } = await ask(url, { model: 'test' }, { method });
    expect(answer.statusCode).toBe(501);
    expect(answer.json()).toEqual({ error: expect.stringContaining(supported) });
  });

  it.each([
    ['/v1/audio/speech', 'application/json', '{}'],
    ['/v1/audio/transcriptions', 'multipart/form-data; boundary=x', '--x--'],
    ['/v1/images/generations', 'text/plain', ''],
  ])('are named in the shape of OpenAI: %s', async (url, type, payload) => {
    const { answer } = await ask(url, payload, { headers: { 'content-type': type } });
    expect(answer.statusCode).toBe(501);
    expect(answer.json().error).toMatchObject({
      code: 'not_implemented',
      message: expect.stringContaining('supported: text alone, by /v1/chat/completions'),
    });
    const guarded = await ask(url, payload, { options: { apiKeys: ['k'] } });
    expect(guarded.answer.statusCode).toBe(401);
  });
});
