// Structured output over HTTP, through the official client, on the model that ships.

import OpenAI from 'openai';
import { makeParseableResponseFormat } from 'openai/lib/parser';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServerProcess, startServer } from './server-process.ts';

/** Fields that the client does not know. */
const more = (fields: object): object => fields;
const messages = [{ role: 'user' as const, content: 'What is the weather in Paris?' }];
const body = { model: 'quire-demo', messages, seed: 1, max_tokens: 200 };
const city = {
  type: 'object',
  properties: {
    city: { type: 'string', maxLength: 10 },
    degrees: { type: 'integer', minimum: -40, maximum: 50 },
  },
  required: ['city', 'degrees'],
  additionalProperties: false,
};
const tool = (name: string, parameters: Record<string, unknown>, strict = false) =>
  ({ type: 'function', function: { name, parameters, strict } }) as const;
const tools = [
  tool('get_weather', city),
  tool('set_alarm', {
    type: 'object',
    properties: { hour: { type: 'integer', minimum: 0, maximum: 23 } },
    required: ['hour'],
  }),
];

describe('structured output', () => {
  let server: ServerProcess;
  let client: OpenAI;

  beforeAll(async () => {
    const flags = ['--served-model-name', 'quire-demo', '--grammar-timeout', '2', '--disable-log-requests'];
    server = await startServer(null, flags);
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0, timeout: 60_000 });
  });
  afterAll(async () => {
    expect(await server?.stop()).toBe(0);
  });

  const chat = (fields: object) =>
    client.chat.completions.create({ ...body, ...fields } as OpenAI.ChatCompletionCreateParamsNonStreaming);

  it('is parsed by the client’s own helper', async () => {
    const format = makeParseableResponseFormat(
      { type: 'json_schema', json_schema: { name: 'city', strict: true, schema: city } },
      (text) => JSON.parse(text) as { city: string; degrees: number },
    );
    const { choices } = await client.chat.completions.parse({ ...body, n: 3, response_format: format });
    for (const { message, finish_reason: reason } of choices) {
      expect(reason).toBe('stop');
      // JSON schema counts characters, not UTF-16; and xgrammar takes an ill-formed sequence of bytes, which
      // shows as several U+FFFD, for one.
      const characters = [...(message.parsed?.city ?? '').replace(/\ufffd+/g, '\ufffd')];
      expect(characters.length).toBeLessThanOrEqual(10);
      expect(Math.abs(message.parsed?.degrees ?? 99)).toBeLessThanOrEqual(50);
    }
    expect(new Set(choices.map(({ message }) => message.content)).size).toBeGreaterThan(1);
  });

  it('holds 2,000 requests at once to 50 grammars', { timeout: 120_000 }, async () => {
    const answers = await Promise.all(
      Array.from({ length: 2000 }, async (_, i) => {
        const n = { type: 'integer', minimum: 100 * (i % 50), maximum: 100 * (i % 50) + 99 };
        const schema = { type: 'object', properties: { n }, required: ['n'], additionalProperties: false };
        const { choices } = await chat({ seed: i, guided_json: schema });
        return { range: [n.minimum, n.maximum], n: JSON.parse(choices[0].message.content ?? '').n as number };
      }),
    );
    expect(answers.filter(({ range: [low, high], n }) => !(n >= low && n <= high))).toEqual([]);
    expect(answers).toHaveLength(2000);
  });

  it('is the same in a stream', async () => {
    const response_format = { type: 'json_schema' as const, json_schema: { name: 'city', schema: city } };
    const whole = await chat({ response_format });
    let streamed = '';
    const stream = await client.chat.completions.create({ ...body, response_format, stream: true });
    for await (const chunk of stream) streamed += chunk.choices[0]?.delta.content ?? '';
    expect(streamed).toBe(whole.choices[0].message.content);
  });

  it.each<[string, object, RegExp]>([
    ['choice', { structured_outputs: { choice: ['yes', 'no', 'yes indeed'] } }, /^(yes|no|yes indeed)$/],
    ['regex', { structured_outputs: { regex: '[a-z]{3}-\\d{4}' } }, /^[a-z]{3}-\d{4}$/],
    ['json', { structured_outputs: { json: city } }, /^\{\s*"city":\s*".*",\s*"degrees":\s*-?\d+\s*\}$/s],
    ['json as text', { structured_outputs: { json: '{"type":"boolean"}' } }, /^(true|false)$/],
    ['grammar', { structured_outputs: { grammar: 'root ::= x "b"\nx ::= "a" | "aa" | ""' } }, /^a{0,2}b$/],
    [
      'structural_tag',
      {
        structured_outputs: {
          structural_tag: {
            format: { type: 'tag', begin: '<n>', content: { type: 'regex', pattern: '\\d' }, end: '</n>' },
          },
        },
      },
      /^<n>\d<\/n>$/,
    ],
    ['guided_json', { guided_json: { type: 'null' } }, /^null$/],
    ['guided_regex', { guided_regex: 'x{1,5}y' }, /^x{1,5}y$/],
    ['guided_choice', { guided_choice: ['one', 'two'] }, /^(one|two)$/],
    ['guided_grammar', { guided_grammar: 'root ::= "z"' }, /^z$/],
  ])('%s, in chat and in completions', async (_, fields, expected) => {
    const { choices } = await chat({ ...more(fields), logprobs: true, top_logprobs: 2 });
    expect(choices[0].message.content).toMatch(expected);
    expect(choices[0].finish_reason).toBe('stop');
    // Where more could have followed, the end is a token of its own. A character may take several tokens.
    const tokens = choices[0].logprobs?.content ?? [];
    const bytes = Buffer.from(tokens.flatMap((token) => token.bytes ?? []));
    expect(bytes.toString().replace(/<\|im_end\|>$/, '')).toBe(choices[0].message.content);
    const text = await client.completions.create({
      model: 'quire-demo',
      prompt: ['a', 'b'],
      max_tokens: 100,
      seed: 2,
      ...more(fields),
    });
    for (const choice of text.choices) expect(choice.text).toMatch(expected);
  });

  it('works with stop strings, min_tokens, ignore_eos and penalties', async () => {
    const regex = { structured_outputs: { regex: '(ab){2,30}' } };
    const stopped = await chat({ ...more(regex), stop: 'baba' });
    expect(stopped.choices[0].message.content).toMatch(/^(ab)*a$|^(ab)+$/);
    const short = await chat({
      ...more({ structured_outputs: { choice: ['ok'] }, min_tokens: 50, ignore_eos: true }),
    });
    expect(short.choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: 'ok' } });
    const penalised = await chat({
      ...more(regex),
      presence_penalty: 2,
      frequency_penalty: 2,
      min_tokens: 5,
    });
    expect(penalised.choices[0].message.content).toMatch(/^(ab){2,30}$/);
    const json = await chat({
      response_format: { type: 'json_object' },
      logit_bias: { 2: 100 },
      max_tokens: 100,
    });
    expect(json.choices[0].message.content).toMatch(/^\{/);
  });

  it('forces calls: required, named, one at a time, and strict functions', async () => {
    const required = await chat({ tools, tool_choice: 'required', n: 4 });
    for (const { message, finish_reason: reason } of required.choices) {
      expect(reason).toBe('tool_calls');
      expect(message.tool_calls?.length).toBeGreaterThan(0);
      for (const call of message.tool_calls ?? [])
        if (call.type === 'function') JSON.parse(call.function.arguments);
    }
    const named = await chat({
      tools,
      tool_choice: { type: 'function', function: { name: 'set_alarm' } },
      parallel_tool_calls: false,
    });
    const [call] = named.choices[0].message.tool_calls ?? [];
    expect(call).toMatchObject({ type: 'function', function: { name: 'set_alarm' } });
    const { hour } = JSON.parse(call.type === 'function' ? call.function.arguments : '');
    expect(hour >= 0 && hour <= 23).toBe(true);
    const strict = tool(
      'get_weather',
      { type: 'object', properties: { city: { enum: ['Rome', 'Oslo'] } }, required: ['city'] },
      true,
    );
    const free = await chat({ tools: [strict], temperature: 0 });
    const [weather] = free.choices[0].message.tool_calls ?? [];
    expect(weather.type === 'function' ? JSON.parse(weather.function.arguments).city : '').toMatch(
      /^(Rome|Oslo)$/,
    );
    const beside = await chat({
      tools,
      response_format: { type: 'json_schema', json_schema: { name: 'c', schema: city } },
    });
    const { content, tool_calls: calls } = beside.choices[0].message;
    expect(calls !== undefined || typeof JSON.parse(content ?? '').city === 'string').toBe(true);
  });

  it('streams forced calls as the client puts them together', async () => {
    const stream = client.chat.completions.stream({ ...body, tools, tool_choice: 'required' });
    const { choices } = await stream.finalChatCompletion();
    const [call] = choices[0].message.tool_calls ?? [];
    expect(['get_weather', 'set_alarm']).toContain(call.function.name);
    JSON.parse(call.function.arguments);
  });

  const longRegex = `(${'a'.repeat(300_000)})`;
  it.each<[string, object, string]>([
    [
      'a keyword',
      {
        response_format: {
          type: 'json_schema',
          json_schema: { name: 'x', schema: { type: 'array', uniqueItems: true } },
        },
      },
      'response_format.json_schema.schema: the keyword uniqueItems is not supported',
    ],
    [
      'no schema',
      { response_format: { type: 'json_schema', json_schema: { name: 'x' } } },
      'response_format.json_schema.schema is missing',
    ],
    [
      'another type',
      { response_format: { type: 'xml' } },
      'response_format.type: found "xml", supported: "text"',
    ],
    [
      'a broken regex',
      { structured_outputs: { regex: '(' } },
      'structured_outputs.regex: the regular expression "(" is not valid: Unterminated group',
    ],
    ['a long regex', { structured_outputs: { regex: longRegex } }, 'structured_outputs.regex: found'],
    [
      'a broken grammar',
      { structured_outputs: { grammar: 'root ::= "a' } },
      'structured_outputs.grammar: EBNF lexer error at line 1',
    ],
    [
      'a grammar without root',
      { structured_outputs: { grammar: 'start ::= "a"' } },
      'structured_outputs.grammar: ',
    ],
    ['a grammar of nothing', { structured_outputs: { grammar: 'root ::= ""' } }, 'no text but the empty one'],
    ['no kind', { structured_outputs: {} }, 'structured_outputs: found {}, allowed: one of json, regex'],
    [
      'two kinds',
      { structured_outputs: { regex: 'a' }, guided_choice: ['b'] },
      'guided_choice: found beside structured_outputs.regex',
    ],
    ['an empty choice', { structured_outputs: { choice: [''] } }, 'structured_outputs.choice: found [""]'],
    [
      'JSON that is none',
      { structured_outputs: { json: '{' } },
      'structured_outputs.json: found "{", allowed: JSON, or an object',
    ],
    [
      'an unknown format',
      { structured_outputs: { structural_tag: { format: { type: 'x' } } } },
      'structured_outputs.structural_tag: format.type: found "x", allowed: any_text',
    ],
    [
      'required without tools',
      { tool_choice: 'required' },
      'tool_choice: found "required", allowed: with tools',
    ],
    [
      'an unknown function',
      { tools, tool_choice: { type: 'function', function: { name: 'f' } } },
      'tool_choice.function.name: found "f", allowed: get_weather, set_alarm',
    ],
    [
      'a keyword in a tool',
      { tools: [tools[0], tool('x', { type: 'object', not: {} })], tool_choice: 'required' },
      'tools.1.function.parameters: the keyword not is not supported',
    ],
    [
      'a schema that takes too long',
      {
        structured_outputs: {
          json: {
            type: 'object',
            properties: Object.fromEntries(
              Array.from({ length: 40 }, (_, i) => [`p${i}`, { type: 'string', maxLength: 3000 + i }]),
            ),
          },
        },
      },
      'compiling it takes longer than 2 s',
    ],
  ])('refuses %s', async (_, fields, reason) => {
    const startMs = performance.now();
    await expect(chat(more(fields))).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining(reason),
    });
    expect(performance.now() - startMs).toBeLessThan(20_000);
  });

  it('carries 240 at once, while hostile ones come and go and others stream on', async () => {
    const schemas = [
      city,
      { type: 'array', items: { type: 'boolean' }, minItems: 3, maxItems: 3 },
      { enum: ['x', 'y'] },
    ];
    let isOver = false;
    const hostile = (async () => {
      for (let round = 0; round < 2; round++) {
        // Ambiguous: matching takes longer with every token.
        const grammar = 'root ::= s\\ns ::= s s | "a" s s | "a" | "b"'.replaceAll('\\n', '\n');
        const ambiguous = chat(
          more({ structured_outputs: { grammar }, logit_bias: { 2: -100 }, max_tokens: 400 }),
        );
        const slow = chat(
          more({
            structured_outputs: {
              json: { type: 'string', maxLength: 200_000 + Math.floor(performance.now()) },
            },
          }),
        );
        await Promise.allSettled([ambiguous, slow]);
      }
    })();
    const gaps: number[] = [];
    const plain = (async () => {
      while (!isOver) {
        let lastMs = performance.now();
        const stream = await client.chat.completions.create({
          ...body,
          messages: [{ role: 'user', content: 'Tell me a story.' }],
          stream: true,
        });
        for await (const _ of stream) {
          gaps.push(performance.now() - lastMs);
          lastMs = performance.now();
        }
      }
    })();
    const answers = await Promise.all(
      Array.from({ length: 240 }, (_, i) =>
        chat({
          seed: i,
          response_format: { type: 'json_schema', json_schema: { name: 'x', schema: schemas[i % 3] } },
        }),
      ),
    );
    isOver = true;
    await Promise.all([hostile, plain]);
    for (const { choices } of answers) {
      expect(choices[0].finish_reason).toBe('stop');
      JSON.parse(choices[0].message.content ?? '');
    }
    expect(gaps.length).toBeGreaterThan(10);
    expect(Math.max(...gaps)).toBeLessThan(8_000);
  });

  it('is given up with the connection, and leaves nothing behind', async () => {
    const controller = new AbortController();
    const regex = { structured_outputs: { regex: '[ab]{1500,2000}' } };
    const stream = await client.chat.completions.create(
      { ...body, max_tokens: 1500, stream: true, ...more(regex) },
      { signal: controller.signal },
    );
    for await (const _ of stream) controller.abort();
    await expect
      .poll(async () =>
        /vllm:num_requests_running\{[^}]*\} 0/.test(await (await fetch(`${server.url}/metrics`)).text()),
      )
      .toBe(true);
    expect((await chat(more({ structured_outputs: { choice: ['ok'] } }))).choices[0].message.content).toBe(
      'ok',
    );
  });
});
