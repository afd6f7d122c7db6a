// Ollama's own client against a real server, with the model that ships.

import { type Message, Ollama, type ToolCall } from 'ollama';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServerProcess, startServer } from './server-process.ts';

const introduction = 'I am quire-demo, a tiny language model that ships with quire to show that it works.';
const base = { model: 'quire-demo', options: { temperature: 0, num_ctx: 2048 }, keep_alive: '5m' };
const whoAreYou = { role: 'user', content: 'Who are you?' };
const weatherQuestion = { role: 'user', content: 'What is the weather in Paris?' };
const tools = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      description: 'Get the weather of a city',
      parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    },
  },
];

describe("Ollama's client with quire-demo", () => {
  let server: ServerProcess;
  let client: Ollama;
  beforeAll(async () => {
    server = await startServer(null);
    client = new Ollama({ host: server.url });
  });
  afterAll(async () => {
    expect(await server?.stop()).toBe(0);
  });

  it('makes vectors', async () => {
    const { embeddings } = await client.embed({ model: 'quire-demo', input: ['a cat', 'the dog', 'a cat'] });
    expect(embeddings.map(({ length }) => length)).toEqual([256, 256, 256]);
    for (const vector of embeddings) expect(Math.hypot(...vector)).toBeCloseTo(1, 4);
    const { embedding } = await client.embeddings({ model: 'quire-demo', prompt: 'a cat' });
    const cosine = embedding.reduce((sum, x, i) => sum + x * embeddings[0][i], 0);
    expect(cosine).toBeCloseTo(1, 4);
  });

  it('finds the model and talks to it', async () => {
    const { models } = await client.list();
    const [{ name }] = models;
    expect(name).toBe('quire-demo:latest');
    expect((await client.show({ model: name })).capabilities).toContain('tools');
    expect((await client.ps()).models[0].name).toBe(name);
    const answer = await client.chat({ ...base, model: name, messages: [whoAreYou] });
    expect(answer.message.content).toBe(introduction);
    expect(answer).toMatchObject({ done: true, done_reason: 'stop', eval_count: expect.any(Number) });
    expect(answer.total_duration).toBeGreaterThan(answer.eval_duration);
  });

  it('reads the same as a stream, of chat and of generate', async () => {
    let text = '';
    let last: unknown;
    for await (const part of await client.chat({ ...base, messages: [whoAreYou], stream: true })) {
      text += part.message.content;
      last = part;
    }
    expect(text).toBe(introduction);
    expect(last).toMatchObject({ done: true, prompt_eval_count: expect.any(Number) });
    let response = '';
    for await (const part of await client.generate({ ...base, prompt: whoAreYou.content, stream: true }))
      response += part.response;
    expect(response).toBe(introduction);
    const prompt = '<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n';
    expect((await client.generate({ ...base, prompt, raw: true })).response).toBe(introduction);
  });

  it.each([false, true])('runs tools to the end, stream %s', async (stream) => {
    const ask = async (messages: Message[]): Promise<{ content: string; calls: ToolCall[] }> => {
      if (!stream) {
        const { message } = await client.chat({ ...base, messages, tools });
        return { content: message.content, calls: message.tool_calls ?? [] };
      }
      const all = { content: '', calls: [] as ToolCall[] };
      for await (const { message } of await client.chat({ ...base, messages, tools, stream: true })) {
        all.content += message.content;
        all.calls.push(...(message.tool_calls ?? []));
      }
      return all;
    };
    const { content, calls } = await ask([weatherQuestion]);
    expect(calls).toMatchObject([{ function: { name: 'get_weather', arguments: { city: 'Paris' } } }]);
    const result = JSON.stringify({ weather: 'rainy', degrees: 11 });
    const last = await ask([
      weatherQuestion,
      { role: 'assistant', content, tool_calls: calls },
      { role: 'tool', content: result, tool_name: 'get_weather' },
    ]);
    expect(last.content).toMatch(/rainy in Paris, with 11 degrees/);
  });

  it('is held to a schema', async () => {
    const format = { type: 'object', properties: { a: { enum: [7] } }, required: ['a'] };
    const { message } = await client.chat({ ...base, messages: [whoAreYou], format });
    expect(JSON.parse(message.content)).toEqual({ a: 7 });
  });

  it('gets errors as its own', async () => {
    const missing = client.chat({ ...base, model: 'llama3', messages: [whoAreYou] });
    await expect(missing).rejects.toMatchObject({
      status_code: 404,
      message: expect.stringContaining('llama3'),
    });
    await expect(client.pull({ model: 'llama3' })).rejects.toMatchObject({ status_code: 501 });
  });
});
