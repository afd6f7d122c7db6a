// Anthropic's own client against a real server, with the model that ships.

import Anthropic, { APIError } from '@anthropic-ai/sdk';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServerProcess, startServer } from './server-process.ts';

const base = { model: 'quire-demo', max_tokens: 100, temperature: 0 } as const;
const whoAreYou = { role: 'user' as const, content: 'Who are you?' };
const introduction = 'I am quire-demo, a tiny language model that ships with quire to show that it works.';
const weatherQuestion = { role: 'user' as const, content: 'What is the weather in Paris?' };
const weather = {
  name: 'get_weather',
  description: 'Get the weather of a city',
  input_schema: { type: 'object' as const, properties: { city: { type: 'string' } }, required: ['city'] },
};
const result = JSON.stringify({ weather: 'rainy', degrees: 11 });

describe("Anthropic's client with quire-demo", () => {
  let server: ServerProcess;
  let client: Anthropic;
  beforeAll(async () => {
    server = await startServer(null, ['--served-model-name', base.model, '--api-key', 'secret']);
    client = new Anthropic({ baseURL: server.url, apiKey: 'secret', maxRetries: 0 });
  });
  afterAll(async () => {
    expect(await server?.stop()).toBe(0);
  });

  it('gets an answer, and the same as a stream', async () => {
    const whole = await client.messages.create({ ...base, messages: [whoAreYou] });
    expect(whole.content).toEqual([{ type: 'text', text: introduction, citations: null }]);
    expect(whole).toMatchObject({ stop_reason: 'end_turn', role: 'assistant' });
    expect(whole._request_id).toBe(whole.id.replace('msg_', ''));
    const stream = client.messages.stream({ ...base, messages: [whoAreYou] });
    const pieces: string[] = [];
    stream.on('text', (text) => pieces.push(text));
    const streamed = await stream.finalMessage();
    expect(streamed.content).toEqual(whole.content);
    expect(pieces.join('')).toBe(introduction);
    const inputOf = ({ usage }: Anthropic.Message) =>
      usage.input_tokens + (usage.cache_read_input_tokens ?? 0);
    expect(inputOf(streamed)).toBe(inputOf(whole));
    expect(streamed.usage.output_tokens).toBe(whole.usage.output_tokens);
    const counted = await client.messages.countTokens({ model: base.model, messages: [whoAreYou] });
    expect(counted.input_tokens).toBe(inputOf(whole));
  });

  it('lists models', async () => {
    const listed = await client.models.list();
    expect(listed).toMatchObject({ has_more: false, first_id: base.model, last_id: base.model });
    expect(listed.data).toMatchObject([{ id: base.model, type: 'model', display_name: base.model }]);
    const [{ created_at: createdAt }] = listed.data;
    expect(new Date(createdAt).toISOString()).toBe(createdAt);
  });

  it('goes on with a prefill, up to a stop sequence', async () => {
    const messages = [whoAreYou, { role: 'assistant' as const, content: 'I am quire-demo,' }];
    const message = await client.messages.create({ ...base, messages, stop_sequences: ['language'] });
    expect(message.content).toMatchObject([{ type: 'text', text: ' a tiny ' }]);
    expect(message).toMatchObject({ stop_reason: 'stop_sequence', stop_sequence: 'language' });
    const short = await client.messages.create({ ...base, messages, max_tokens: 2 });
    expect(short).toMatchObject({ stop_reason: 'max_tokens', stop_sequence: null });
    expect(short.usage.output_tokens).toBe(2);
  });

  it('takes the system prompt to heart', async () => {
    const system = [
      { type: 'text' as const, text: 'Answer in rhyme.', cache_control: { type: 'ephemeral' as const } },
    ];
    const message = await client.messages.create({ ...base, system, messages: [whoAreYou] });
    expect(message.content).not.toMatchObject([{ text: introduction }]);
  });

  it('runs tools to the end', async () => {
    const fields = { ...base, tools: [weather] };
    const first = await client.messages.create({ ...fields, messages: [weatherQuestion] });
    expect(first.stop_reason).toBe('tool_use');
    expect(first.content).toMatchObject([
      { type: 'tool_use', name: 'get_weather', input: { city: 'Paris' } },
    ]);
    const streamed = await client.messages.stream({ ...fields, messages: [weatherQuestion] }).finalMessage();
    expect(streamed).toMatchObject({ stop_reason: 'tool_use', content: [{ input: { city: 'Paris' } }] });
    const [block] = first.content;
    const answer = {
      type: 'tool_result' as const,
      tool_use_id: (block as Anthropic.ToolUseBlock).id,
      content: result,
    };
    const messages = [
      weatherQuestion,
      { role: 'assistant' as const, content: first.content },
      { role: 'user' as const, content: [answer] },
    ];
    const last = await client.messages.create({ ...fields, messages });
    expect(last.content).toMatchObject([{ text: expect.stringMatching(/rainy in Paris, with 11 degrees/) }]);
  });

  it.each([true, false])('has them run by itself, stream %s', async (stream) => {
    const asked: unknown[] = [];
    const tool = {
      ...weather,
      run: async (input: unknown) => {
        asked.push(input);
        return result;
      },
      parse: (input: unknown) => input,
    };
    const runner = client.beta.messages.toolRunner({
      ...base,
      messages: [weatherQuestion],
      tools: [tool],
      stream,
    });
    const last = (await runner.runUntilDone()) as { content: object[] };
    expect(last.content).toMatchObject([{ text: expect.stringMatching(/rainy in Paris, with 11 degrees/) }]);
    expect(asked).toEqual([{ city: 'Paris' }]);
  });

  it('is held to a tool and to a schema', async () => {
    const messages = [whoAreYou];
    const tool_choice = { type: 'any' as const, disable_parallel_tool_use: true };
    const called = await client.messages.create({ ...base, messages, tools: [weather], tool_choice });
    expect(called).toMatchObject({ content: [{ type: 'tool_use', input: { city: expect.any(String) } }] });
    const schema = { type: 'object', properties: { a: { enum: [7] } }, required: ['a'] };
    const output_config = { format: { type: 'json_schema' as const, schema } };
    const { content } = await client.messages.create({ ...base, messages, output_config });
    expect(JSON.parse((content[0] as Anthropic.TextBlock).text)).toEqual({ a: 7 });
  });

  it('gets errors as its own', async () => {
    const refused = (fields: object, by = client) =>
      by.messages.create({ ...base, messages: [whoAreYou], ...fields } as never).then(
        () => null,
        (error: APIError) => error,
      );
    const stranger = new Anthropic({ baseURL: server.url, apiKey: 'wrong', maxRetries: 0 });
    expect(await refused({}, stranger)).toBeInstanceOf(Anthropic.AuthenticationError);
    expect(await refused({ model: 'claude' })).toBeInstanceOf(Anthropic.NotFoundError);
    const bad = await refused({ max_tokens: 0 });
    expect(bad).toBeInstanceOf(Anthropic.BadRequestError);
    expect(bad).toMatchObject({ type: 'invalid_request_error', requestID: expect.any(String) });
    const long = await refused({ messages: [{ role: 'user', content: 'word '.repeat(5000) }], stream: true });
    expect(long).toMatchObject({ status: 400, apiMessage: expect.stringMatching(/tokens/) });
    expect(long).toBeInstanceOf(APIError);
  });

  it('aborts what it no longer wants', async () => {
    const stream = client.messages.stream({ ...base, max_tokens: 1000, messages: [whoAreYou] });
    // Before any event: the client's promise never settles when the last event came before the abort.
    stream.once('connect', () => stream.abort());
    await expect(stream.finalMessage()).rejects.toThrow(Anthropic.APIUserAbortError);
    expect((await client.messages.create({ ...base, messages: [whoAreYou] })).stop_reason).toBe('end_turn');
  });
});
