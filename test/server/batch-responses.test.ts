// /v1/responses as lines of a batch: whole answers that nothing keeps but the output file.

import { expect, it } from 'vitest';
import { BatchClient, line } from './batch-client.ts';
import { delta, FakeEngine } from './fake-engine.ts';
import { serve } from './serve.ts';

const endpoint = { endpoint: '/v1/responses' };
const ask = (customId: string, body: object) =>
  line(customId, { input: customId, ...body }, { url: '/v1/responses' });

async function open(engine = new FakeEngine()) {
  engine.answer = async function* () {
    yield delta('Hello.', 'stop');
  };
  const { fastify } = await serve(engine);
  return new BatchClient(fastify);
}

it('answers each line with a response that is not stored', async () => {
  const client = await open();
  const batch = await client.ended(await client.batch([ask('a', {}), ask('b', {})].join('\n'), endpoint));
  expect(batch).toMatchObject({
    request_counts: { total: 2, completed: 2, failed: 0 },
    usage: { input_tokens: 6, output_tokens: 12, total_tokens: 18 },
  });
  for (const { response } of await client.answers(batch.output_file_id)) {
    expect(response).toMatchObject({
      status_code: 200,
      body: {
        object: 'response',
        status: 'completed',
        store: false,
        background: false,
        output: [{ type: 'message', content: [{ type: 'output_text', text: 'Hello.' }] }],
      },
    });
    const { id } = (response?.body ?? {}) as { id?: string };
    expect((await client.get(`/v1/responses/${id}`)).statusCode).toBe(404);
  }
});

it('goes on from stored responses, and files the error of one that is not there', async () => {
  const client = await open();
  const stored = (await client.post('/v1/responses', { input: 'Hi' })).json();
  const input = [
    ask('good', { previous_response_id: stored.id }),
    ask('bad', { previous_response_id: 'resp_none' }),
    ask('hosted', { tools: [{ type: 'web_search' }] }),
  ];
  const batch = await client.ended(await client.batch(input.join('\n'), endpoint));
  expect(batch.request_counts).toEqual({ total: 3, completed: 1, failed: 2 });
  const [good] = await client.answers(batch.output_file_id);
  expect(good.response?.body).toMatchObject({ previous_response_id: stored.id });
  const errors = await client.answers(batch.error_file_id);
  expect(errors.map(({ response }) => response?.body)).toMatchObject([
    { error: { code: 'previous_response_not_found', param: 'previous_response_id' } },
    { error: { code: 'unsupported_value', param: 'tools.0.type' } },
  ]);
});

it.each(['stream', 'background', 'store'])('refuses %s line by line', async (field) => {
  const client = await open();
  const input = [ask('a', { [field]: false }), ask('b', { [field]: true })].join('\n');
  const { status, errors } = await client.ended(await client.batch(input, endpoint));
  expect(status).toBe('failed');
  expect(errors.data).toMatchObject([{ code: 'invalid_value', line: 2, param: `body.${field}` }]);
});

it('runs a line again when the engine ends under it', async () => {
  const engine = new FakeEngine();
  const client = await open(engine);
  engine.answer = async function* () {
    yield delta('Hel');
    engine.healthNow = { status: 'dead', heartbeatAgeMs: 1 };
    throw new Error('the engine has ended');
  };
  const id = await client.batch(ask('a', {}), endpoint);
  while (engine.healthNow.status !== 'dead') await new Promise((resolve) => setImmediate(resolve));
  for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => setImmediate(resolve));
  const batch = (await client.get(`/v1/batches/${id}`)).json();
  expect(batch).toMatchObject({ status: 'in_progress', request_counts: { completed: 0, failed: 0 } });
});
