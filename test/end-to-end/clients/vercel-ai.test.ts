// Vercel's AI SDK against a real process.

import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, generateText, jsonSchema, Output, stepCountIs, streamText, tool } from 'ai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServerProcess, startServer } from '../server-process.ts';
import * as weather from './weather.ts';

const key = 'a-key';

describe('the ai package with @ai-sdk/openai-compatible', () => {
  let server: ServerProcess;
  let provider: ReturnType<typeof createOpenAICompatible>;
  beforeAll(async () => {
    server = await startServer(null, ['--served-model-name', 'quire-demo', '--api-key', key]);
    provider = createOpenAICompatible({
      name: 'quire',
      baseURL: `${server.url}/v1`,
      apiKey: key,
      includeUsage: true,
      supportsStructuredOutputs: true,
    });
  });
  afterAll(async () => {
    expect(await server?.stop()).toBe(0);
  });

  const base = () => ({ model: provider('quire-demo'), temperature: 0, maxRetries: 0 });
  const asked: string[] = [];
  const tools = {
    [weather.toolName]: tool({
      description: weather.description,
      inputSchema: jsonSchema<{ city: string }>(weather.parameters),
      execute: async ({ city }) => {
        asked.push(city);
        return weather.result;
      },
    }),
  };

  it('generateText', async () => {
    const { text, finishReason, usage } = await generateText({ ...base(), prompt: weather.whoAreYou });
    expect([text, finishReason]).toEqual([weather.whoItIs, 'stop']);
    expect(usage.outputTokens).toBeGreaterThan(5);
    expect(usage.totalTokens).toBe((usage.inputTokens ?? 0) + (usage.outputTokens ?? 0));
  });

  it('streamText', async () => {
    const stream = streamText({ ...base(), prompt: weather.whoAreYou });
    const pieces: string[] = [];
    for await (const piece of stream.textStream) pieces.push(piece);
    expect(pieces.join('')).toBe(weather.whoItIs);
    expect(pieces.length).toBeGreaterThan(1);
    expect(await stream.finishReason).toBe('stop');
    expect((await stream.usage).outputTokens).toBeGreaterThan(5);
  });

  it('runs a tool to the end, whole and streamed', async () => {
    const request = { ...base(), prompt: weather.question, tools, stopWhen: stepCountIs(3) };
    asked.length = 0;
    const { text, steps } = await generateText(request);
    expect(text).toMatch(weather.answer);
    expect(steps.map(({ finishReason }) => finishReason)).toEqual(['tool-calls', 'stop']);
    const stream = streamText(request);
    await stream.consumeStream();
    expect(await stream.text).toMatch(weather.answer);
    expect((await stream.steps)[0].toolCalls).toMatchObject([
      { toolName: weather.toolName, input: { city: 'Paris' } },
    ]);
    expect(asked).toEqual(['Paris', 'Paris']);
  });

  it('makes an object of a schema', async () => {
    const schema = jsonSchema<{ colour: string; count: number }>(weather.colour);
    const output = Output.object({ schema });
    const { output: object } = await generateText({ ...base(), prompt: 'A colour?', output });
    expect(Object.keys(object)).toEqual(['colour', 'count']);
    expect(weather.colour.properties.colour.enum).toContain(object.colour);
    expect(Number.isInteger(object.count)).toBe(true);
  });

  it('names what it was refused for', async () => {
    const refused = generateText({ ...base(), temperature: 3, prompt: 'Hi' });
    await expect(refused).rejects.toThrow(/temperature: found 3/);
    await expect(refused).rejects.toBeInstanceOf(APICallError);
    const image = { type: 'image' as const, image: Buffer.from('89504e470d0a1a0a', 'hex') };
    const seen = generateText({ ...base(), messages: [{ role: 'user', content: [image] }] });
    await expect(seen).rejects.toMatchObject({
      statusCode: 400,
      message: expect.stringMatching(/image_url/),
    });
  });

  it('stops when told to', async () => {
    const controller = new AbortController();
    const prompt = 'Tell me a story.';
    const stream = streamText({ ...base(), prompt, maxOutputTokens: 1500, abortSignal: controller.signal });
    let isAborted = false;
    for await (const { type } of stream.fullStream) {
      if (type === 'text-delta') controller.abort();
      isAborted ||= type === 'abort';
    }
    expect(isAborted).toBe(true);
  });
});
