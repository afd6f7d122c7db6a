// LangChain's OpenAI classes against a real process.

import { AIMessageChunk, HumanMessage, ToolMessage } from '@langchain/core/messages';
import { tool } from '@langchain/core/tools';
import { ChatOpenAI } from '@langchain/openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServerProcess, startServer } from '../server-process.ts';
import * as weather from './weather.ts';

const key = 'a-key';

describe('@langchain/openai', () => {
  let server: ServerProcess;
  beforeAll(async () => {
    server = await startServer(null, ['--served-model-name', 'quire-demo', '--api-key', key]);
  });
  afterAll(async () => {
    expect(await server?.stop()).toBe(0);
  });

  const chat = (fields: object = {}) =>
    new ChatOpenAI({
      model: 'quire-demo',
      temperature: 0,
      maxRetries: 0,
      apiKey: key,
      configuration: { baseURL: `${server.url}/v1` },
      ...fields,
    });

  const getWeather = tool(async () => JSON.stringify(weather.result), {
    name: weather.toolName,
    description: weather.description,
    schema: weather.parameters,
  });

  it.each([false, true])('invoke, by responses %s', async (useResponsesApi) => {
    const answer = await chat({ useResponsesApi }).invoke(weather.whoAreYou);
    expect(answer.text).toBe(weather.whoItIs);
    expect(answer.usage_metadata?.output_tokens).toBeGreaterThan(5);
  });

  it.each([false, true])('stream, by responses %s', async (useResponsesApi) => {
    const pieces: string[] = [];
    let whole: AIMessageChunk = new AIMessageChunk('');
    for await (const chunk of await chat({ useResponsesApi, streamUsage: true }).stream(weather.whoAreYou)) {
      pieces.push(chunk.text);
      whole = whole.concat(chunk);
    }
    expect(pieces.join('')).toBe(weather.whoItIs);
    expect(pieces.length).toBeGreaterThan(2);
    expect(whole.usage_metadata?.output_tokens).toBeGreaterThan(5);
  });

  it.each([false, true])('bindTools and the loop, by responses %s', async (useResponsesApi) => {
    const bound = chat({ useResponsesApi }).bindTools([getWeather]);
    const asked = new HumanMessage(weather.question);
    const first = await bound.invoke([asked]);
    expect(first.tool_calls).toMatchObject([{ name: weather.toolName, args: { city: 'Paris' } }]);
    const results = await Promise.all((first.tool_calls ?? []).map((call) => getWeather.invoke(call)));
    expect(results[0]).toBeInstanceOf(ToolMessage);
    const last = await bound.invoke([asked, first, ...results]);
    expect(last.text).toMatch(weather.answer);
  });

  it.each(['jsonSchema', 'functionCalling'] as const)('withStructuredOutput by %s', async (method) => {
    const schema = { ...weather.colour, title: 'colour_count', description: 'A colour and a count' };
    const structured = chat().withStructuredOutput(schema, { name: 'colour_count', method, strict: true });
    const object = (await structured.invoke('A colour?')) as { colour: string; count: number };
    expect(weather.colour.properties.colour.enum).toContain(object.colour);
    expect(Number.isInteger(object.count)).toBe(true);
  });

  it('batch', async () => {
    const answers = await chat().batch([weather.whoAreYou, weather.whoAreYou]);
    expect(answers.map(({ text }) => text)).toEqual([weather.whoItIs, weather.whoItIs]);
  });

  it('names what it was refused for', async () => {
    await expect(chat({ temperature: 3 }).invoke('Hi')).rejects.toThrow(/temperature: found 3/);
    const image = { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } };
    const seen = chat().invoke([new HumanMessage({ content: [image] })]);
    await expect(seen).rejects.toThrow(/image_url/);
  });
});
