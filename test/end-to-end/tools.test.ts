// The loop of tools to its end, with the model that ships and the official client.

import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServerProcess, startServer } from './server-process.ts';

const base = { model: 'quire-demo', temperature: 0 } as const;
const question = { role: 'user' as const, content: 'What is the weather in Paris?' };
const result = JSON.stringify({ weather: 'rainy', degrees: 11 });
const weather = {
  name: 'get_weather',
  description: 'Get the weather of a city',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};
const tools = [{ type: 'function' as const, function: weather }];

describe('tools with quire-demo', () => {
  let server: ServerProcess;
  let client: OpenAI;
  beforeAll(async () => {
    server = await startServer(null, ['--served-model-name', base.model]);
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  });
  afterAll(async () => {
    expect(await server?.stop()).toBe(0);
  });

  it('are called, and their results answered', async () => {
    const first = await client.chat.completions.create({ ...base, messages: [question], tools });
    const [choice] = first.choices;
    expect(choice).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } });
    const [call] = choice.message.tool_calls ?? [];
    expect(call).toMatchObject({ function: { name: 'get_weather', arguments: '{"city": "Paris"}' } });
    const second = await client.chat.completions.create({
      ...base,
      messages: [question, choice.message, { role: 'tool', tool_call_id: call.id, content: result }],
      tools,
    });
    expect(second.choices[0]).toMatchObject({ finish_reason: 'stop' });
    expect(second.choices[0].message.content).toMatch(/rainy in Paris, with 11 degrees/);
  });

  it.each([false, true])('run by the client itself, stream %s', async (stream) => {
    const asked: unknown[] = [];
    const own = {
      ...weather,
      parse: JSON.parse,
      function: ({ city }: { city: string }) => {
        asked.push(city);
        return result;
      },
    };
    const body = { ...base, messages: [question], tools: [{ type: 'function' as const, function: own }] };
    const runner = stream
      ? client.chat.completions.runTools({ ...body, stream: true })
      : client.chat.completions.runTools({ ...body, stream: false });
    expect(await runner.finalContent()).toMatch(/rainy in Paris, with 11 degrees/);
    expect(asked).toEqual(['Paris']);
  });

  it('stream what they answer whole', async () => {
    const whole = await client.chat.completions.create({ ...base, messages: [question], tools });
    const stream = client.chat.completions.stream({ ...base, messages: [question], tools });
    const streamed = await stream.finalChatCompletion();
    const { message, finish_reason: reason } = streamed.choices[0];
    expect(reason).toBe('tool_calls');
    const functions = (calls: unknown) => (calls as Array<{ function: object }>).map((one) => one.function);
    expect(functions(message.tool_calls)).toMatchObject(functions(whole.choices[0].message.tool_calls));
  });

  it('without parameters are called without arguments', async () => {
    const time = { type: 'function' as const, function: { name: 'get_time', description: 'Get the time' } };
    const request = { ...base, messages: [question], tools: [time], tool_choice: 'required' as const };
    const { choices } = await client.chat.completions.create(request);
    const [call] = choices[0].message.tool_calls ?? [];
    if (call?.type !== 'function') throw new Error('no call');
    expect([call.function.name, JSON.parse(call.function.arguments)]).toEqual(['get_time', {}]);
  });

  it('are called only where they are allowed', async () => {
    const other = { type: 'function' as const, function: { name: 'get_time', description: 'Get the time' } };
    const allowed = [{ type: 'function', function: { name: 'get_time' } }];
    const { choices } = await client.chat.completions.create({
      ...base,
      messages: [question],
      tools: [...tools, other],
      tool_choice: { type: 'allowed_tools', allowed_tools: { mode: 'required', tools: allowed } },
    });
    expect(choices[0].message.tool_calls?.[0]).toMatchObject({ function: { name: 'get_time' } });
  });

  it('lose nothing to a stop string in a call', async () => {
    const request = { ...base, messages: [question], tools, stop: ['Par'] };
    const { choices } = await client.chat.completions.create(request);
    expect(choices[0].message.tool_calls?.[0]).toMatchObject({ function: { arguments: '{"city": "' } });
    const early = await client.chat.completions.create({ ...request, stop: ['get_'] });
    expect(early.choices[0].message).toMatchObject({ content: '<tool_call>\n{"name": "' });
    expect(early.choices[0].message.tool_calls).toBeUndefined();
  });
});
