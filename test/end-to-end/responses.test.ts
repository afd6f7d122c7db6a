// OpenAI's own client against a real server: responses whole and streamed, a tools loop to its end, a parsed
// schema, and what the server keeps, also when it is started again.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import type { Response, ResponseFunctionToolCall } from 'openai/resources/responses/responses';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServerProcess, startServer } from './server-process.ts';

const folder = mkdtempSync(join(tmpdir(), 'quire-responses-'));
const store = join(folder, 'store.db');
let server: ServerProcess;
let client: OpenAI;

async function start() {
  server = await startServer(null, ['--store', store, '--api-key', 'key']);
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'key', maxRetries: 0 });
}
beforeAll(start);
afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true });
});

const model = 'quire-demo';
const greedy = { model, temperature: 0 };
const question = 'Who are you?';
const answer = 'I am quire-demo, a tiny language model that ships with quire to show that it works.';
const weather = {
  type: 'function' as const,
  name: 'get_weather',
  description: 'Get the weather of a city',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  strict: true,
};

describe('the openai client', () => {
  it('creates, retrieves, lists and deletes', async () => {
    const created = await client.responses.create({ ...greedy, input: question });
    expect(created.output_text).toBe(answer);
    expect(created.usage?.output_tokens).toBeGreaterThan(10);
    const { output_text: _, ...kept } = created as Response & { _request_id?: string };
    expect(await client.responses.retrieve(created.id)).toMatchObject({ ...kept });
    const items = await client.responses.inputItems.list(created.id);
    expect(items.data).toMatchObject([{ role: 'user', content: [{ type: 'input_text', text: question }] }]);
    await client.responses.delete(created.id);
    await expect(client.responses.retrieve(created.id)).rejects.toThrow(OpenAI.NotFoundError);
  });

  it('streams the same', async () => {
    const stream = client.responses.stream({ ...greedy, input: question });
    let text = '';
    stream.on('response.output_text.delta', ({ delta }) => {
      text += delta;
    });
    const last = await stream.finalResponse();
    expect([text, last.output_text]).toEqual([answer, answer]);
    expect(last.status).toBe('completed');
  });

  it.each(['whole', 'streamed'])('calls a tool and answers with its result, %s', async (how) => {
    const ask = async (fields: object): Promise<Response> =>
      how === 'whole'
        ? client.responses.create({ ...greedy, ...fields, stream: false } as never)
        : client.responses.stream({ ...greedy, ...fields } as never).finalResponse();
    const first = await ask({ input: 'What is the weather in Paris?', tools: [weather] });
    const call = first.output.find(({ type }) => type === 'function_call') as ResponseFunctionToolCall;
    expect([call.name, JSON.parse(call.arguments)]).toEqual(['get_weather', { city: 'Paris' }]);
    const second = await ask({
      previous_response_id: first.id,
      input: [
        {
          type: 'function_call_output',
          call_id: call.call_id,
          output: '{"weather": "rainy", "degrees": 11}',
        },
      ],
      tools: [weather],
    });
    expect(second.status).toBe('completed');
    expect(second.output_text).toMatch(/rainy in Paris, with 11 degrees/);
    const given = await client.responses.inputItems.list(second.id, { order: 'asc' });
    expect(given.data.map(({ type }) => type)).toEqual(['message', 'function_call', 'function_call_output']);
  });

  it('parses an answer that is held to a schema', async () => {
    const schema = {
      type: 'object',
      properties: { name: { enum: ['quire', 'demo'] }, size: { type: 'integer', minimum: 1, maximum: 9 } },
      required: ['name', 'size'],
      additionalProperties: false,
    };
    const parsed = await client.responses.parse({
      ...greedy,
      input: question,
      text: { format: { type: 'json_schema', name: 'it', schema, strict: true } },
    });
    const value = JSON.parse(parsed.output_text);
    expect(Object.keys(value)).toEqual(['name', 'size']);
    expect(['quire', 'demo']).toContain(value.name);
  });

  it('says why an answer is incomplete', async () => {
    const cut = await client.responses.create({ ...greedy, input: question, max_output_tokens: 3 });
    expect([cut.status, cut.incomplete_details?.reason]).toEqual(['incomplete', 'max_output_tokens']);
    expect(answer.startsWith(cut.output_text)).toBe(true);
  });

  it('streams a background response and comes back to it', async () => {
    const events = await client.responses.create({
      ...greedy,
      input: question,
      background: true,
      stream: true,
    });
    let id = '';
    for await (const event of events) {
      if (event.type === 'response.created') id = event.response.id;
      if (event.sequence_number === 4) break;
    }
    const rest = await client.responses.retrieve(id, { stream: true, starting_after: 4 });
    const numbers: number[] = [];
    let last: Response | null = null;
    for await (const event of rest) {
      numbers.push(event.sequence_number);
      if (event.type === 'response.completed') last = event.response;
    }
    expect(numbers).toEqual(numbers.map((_, i) => 5 + i));
    expect(last).toMatchObject({ id, status: 'completed', output: [{ content: [{ text: answer }] }] });
  });

  it('cancels a background response', async () => {
    const { id, status } = await client.responses.create({
      ...greedy,
      input: question,
      background: true,
      max_output_tokens: 100_000,
      ignore_eos: true,
    } as never);
    expect(status).toBe('queued');
    const cancelled = await client.responses.cancel(id);
    expect(['cancelled', 'incomplete']).toContain(cancelled.status);
    expect((await client.responses.retrieve(id)).status).toBe(cancelled.status);
  });

  it('finds conversations after a restart', async () => {
    const first = await client.responses.create({ ...greedy, input: question });
    expect(await server.stop()).toBe(0);
    await start();
    const second = await client.responses.create({
      ...greedy,
      input: question,
      previous_response_id: first.id,
    });
    expect(second.status).toBe('completed');
    expect((await client.responses.retrieve(first.id)).output).toEqual(first.output);
  });
});
