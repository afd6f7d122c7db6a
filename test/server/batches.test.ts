// /v1/batches over an engine that answers as the test says: every state, every refusal, both files, owners,
// order.

import { describe, expect, it } from 'vitest';
import type { GenerateRequest } from '../../engine/engine.ts';
import { BatchClient, line, lines } from './batch-client.ts';
import { delta, FakeEngine } from './fake-engine.ts';
import { serve } from './serve.ts';

const promptOf = ({ promptTokenIds }: GenerateRequest) => Buffer.from(promptTokenIds).toString();
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Answers a prompt with itself, a turn later. */
function echoing(): FakeEngine {
  const engine = new FakeEngine();
  engine.answer = async function* (request) {
    await turn();
    yield delta(promptOf(request), 'stop');
  };
  return engine;
}

/** Answers those prompts that `isQuick` says; others only end when they are aborted. */
function hanging(isQuick: (prompt: string) => boolean): FakeEngine {
  const engine = new FakeEngine();
  engine.answer = async function* (request) {
    if (!isQuick(promptOf(request))) {
      await new Promise((resolve) => request.signal?.addEventListener('abort', resolve));
      yield delta('', 'abort');
      return;
    }
    yield delta('quick', 'stop');
  };
  return engine;
}

describe('a batch', () => {
  it('answers every line once, in order, in the shape of OpenAI’s files', async () => {
    const engine = echoing();
    const client = new BatchClient((await serve(engine)).fastify);
    const id = await client.batch(lines(300), { metadata: { job: 'night' } });
    const batch = await client.ended(id);
    expect(batch).toMatchObject({
      id,
      object: 'batch',
      endpoint: '/v1/completions',
      model: 'test',
      errors: null,
      completion_window: '24h',
      status: 'completed',
      error_file_id: null,
      failed_at: null,
      cancelled_at: null,
      expired_at: null,
      request_counts: { total: 300, completed: 300, failed: 0 },
      metadata: { job: 'night' },
    });
    expect(batch.expires_at - batch.created_at).toBe(24 * 3600);
    const times = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at];
    expect(times).toEqual(times.toSorted());
    const answers = await client.answers(batch.output_file_id);
    expect(answers.map(({ custom_id }) => custom_id)).toEqual(
      Array.from({ length: 300 }, (_, i) => `id-${i}`),
    );
    for (const { id: answerId, custom_id, response, error } of answers) {
      expect(response).toMatchObject({
        status_code: 200,
        body: { object: 'text_completion', choices: [{ text: custom_id, finish_reason: 'stop' }] },
      });
      expect(answerId).toBe(`batch_req_${response?.request_id}`);
      expect(error).toBeNull();
    }
    const tokens = answers.reduce((sum, { custom_id }) => sum + custom_id.length, 0);
    expect(batch.usage).toMatchObject({
      input_tokens: tokens,
      output_tokens: tokens,
      total_tokens: 2 * tokens,
    });
    expect(engine.requests.length).toBe(300);
    const { bytes, purpose } = (await client.get(`/v1/files/${batch.output_file_id}`)).json();
    const { rawPayload } = await client.get(`/v1/files/${batch.output_file_id}/content`);
    expect([bytes, purpose]).toEqual([rawPayload.length, 'batch_output']);
  });

  it('serves chat, and files answers other than 200 as errors', async () => {
    const client = new BatchClient((await serve(echoing())).fastify);
    const chat = (customId: string, body: object) =>
      line(
        customId,
        { messages: [{ role: 'user', content: 'Hi' }], ...body },
        { url: '/v1/chat/completions' },
      );
    const input = [chat('good', {}), chat('bad', { top_logprobs: 3 }), chat('fine', { n: 1 })].join('\n');
    const batch = await client.ended(await client.batch(input, { endpoint: '/v1/chat/completions' }));
    expect(batch.request_counts).toEqual({ total: 3, completed: 2, failed: 1 });
    const [good, fine] = await client.answers(batch.output_file_id);
    expect([good.custom_id, fine.custom_id]).toEqual(['good', 'fine']);
    expect(good.response?.body).toMatchObject({ object: 'chat.completion' });
    const [bad, ...others] = await client.answers(batch.error_file_id);
    expect(others).toEqual([]);
    expect(bad).toMatchObject({
      custom_id: 'bad',
      response: { status_code: 400, body: { error: { param: 'top_logprobs' } } },
      error: null,
    });
  });

  it('reads a mark at the beginning, \\r\\n, blank lines and no end of line at the end', async () => {
    const client = new BatchClient((await serve(echoing())).fastify);
    const input = `\ufeff${line('a')}\r\n\r\n  \n${line('ü')}\r\n${line('c')}`;
    const batch = await client.ended(await client.batch(input));
    expect(batch.errors).toBeNull();
    const answers = await client.answers(batch.output_file_id);
    expect(answers.map(({ custom_id }) => custom_id)).toEqual(['a', 'ü', 'c']);
  });

  it('runs behind everyone, a bounded number at once, and takes no place in the queue', async () => {
    const engine = hanging((prompt) => prompt === 'interactive');
    const { fastify, batchLoad } = await serve(engine, { maxQueuedRequests: 1 });
    const client = new BatchClient(fastify);
    const id = await client.batch(lines(50));
    while (engine.requests.length < 4) await turn();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(engine.requests.length).toBe(engine.description.maxNumSeqs);
    expect(batchLoad.numSequences).toBe(4);
    expect(engine.requests.every(({ priority }) => priority === 2 ** 31 - 1)).toBe(true);
    engine.stats = { ...engine.stats, numWaiting: 4 };
    const answer = await client.post('/v1/completions', { prompt: 'interactive' });
    expect(answer.statusCode).toBe(200);
    expect(engine.requests.at(-1)?.priority).toBe(0);
    engine.stats = { ...engine.stats, numWaiting: 5 };
    expect((await client.post('/v1/completions', { prompt: 'interactive' })).statusCode).toBe(429);
    await client.post(`/v1/batches/${id}/cancel`);
    await client.ended(id);
    expect(batchLoad.numSequences).toBe(0);
  });

  it('lets batches take turns', async () => {
    const engine = echoing();
    const client = new BatchClient((await serve(engine)).fastify);
    const long = await client.batch(lines(400));
    while (engine.requests.length < 10) await turn();
    const short = await client.batch(line('short'));
    await client.ended(short);
    expect((await client.get(`/v1/batches/${long}`)).json().status).toBe('in_progress');
    await client.ended(long);
  });

  it('keeps the salt of the key that made it, and never the key', async () => {
    const engine = echoing();
    const { fastify } = await serve(engine, { apiKeys: ['key-one', 'key-two'] });
    const [one, two] = ['key-one', 'key-two'].map((key) => new BatchClient(fastify, { 'x-api-key': key }));
    await one.post('/v1/completions', { prompt: 'x' });
    const id = await one.batch(line('a'));
    await one.ended(id);
    expect(engine.requests[1].cacheSalt).toBe(engine.requests[0].cacheSalt);
    await two.post('/v1/completions', { prompt: 'x' });
    expect(engine.requests[2].cacheSalt).not.toBe(engine.requests[0].cacheSalt);
    expect((await two.get(`/v1/batches/${id}`)).json().error.code).toBe('batch_not_found');
    expect((await two.post(`/v1/batches/${id}/cancel`)).statusCode).toBe(404);
    expect((await two.get('/v1/batches')).json().data).toEqual([]);
  });

  it('goes on when its input is deleted, which then goes with it', async () => {
    const engine = hanging((prompt) => prompt !== 'id-0');
    const client = new BatchClient((await serve(engine)).fastify);
    const id = await client.batch(lines(20));
    const { input_file_id } = await client.until(id, 'in_progress');
    expect((await client.delete(`/v1/files/${input_file_id}`)).statusCode).toBe(200);
    while (engine.requests.length < 20) await turn();
    await client.post(`/v1/batches/${id}/cancel`);
    const batch = await client.ended(id);
    expect((await client.answers(batch.output_file_id)).length).toBe(19);
  });
});

it('cancels: what is done stays in the output, the rest is named in the errors', async () => {
  const engine = hanging((prompt) => !['id-7', 'id-17', 'id-27'].includes(prompt));
  const client = new BatchClient((await serve(engine)).fastify);
  const id = await client.batch(lines(40));
  while ((await client.get(`/v1/batches/${id}`)).json().request_counts.completed < 37) await turn();
  const cancelling = (await client.post(`/v1/batches/${id}/cancel`)).json();
  expect(cancelling).toMatchObject({ status: 'cancelling', output_file_id: null });
  const batch = await client.ended(id);
  expect(batch).toMatchObject({
    status: 'cancelled',
    request_counts: { total: 40, completed: 37, failed: 0 },
  });
  expect(batch.cancelled_at).toBeGreaterThanOrEqual(batch.cancelling_at);
  const errors = await client.answers(batch.error_file_id);
  expect(errors.map(({ custom_id }) => custom_id)).toEqual(['id-7', 'id-17', 'id-27']);
  for (const { response, error } of errors) {
    expect(response).toBeNull();
    expect(error).toMatchObject({ code: 'batch_cancelled', message: expect.any(String) });
  }
  expect((await client.answers(batch.output_file_id)).length).toBe(37);
  const again = await client.post(`/v1/batches/${id}/cancel`);
  expect(again.json().error.message).toContain('found cancelled');
});

describe('an input that is refused', () => {
  const cases: Array<[name: string, second: string | Buffer, code: string, param: string | null]> = [
    ['text', 'no json', 'invalid_json_line', null],
    ['a list', '[]', 'invalid_json_line', null],
    ['a number', '7', 'invalid_json_line', null],
    ['ill-formed UTF-8', Buffer.from([0x22, 0xff, 0xfe, 0x22]), 'invalid_json_line', null],
    ['no custom_id', '{"method":"POST"}', 'missing_required_parameter', 'custom_id'],
    ['an empty custom_id', line(''), 'invalid_value', 'custom_id'],
    ['a custom_id twice', line('first'), 'duplicate_custom_id', 'custom_id'],
    ['another method', line('b', {}, { method: 'GET' }), 'invalid_method', 'method'],
    ['another url', line('b', {}, { url: '/v1/chat/completions' }), 'invalid_url', 'url'],
    ['no body', line('b', undefined, { body: undefined }), 'missing_required_parameter', 'body'],
    ['a model that is not served', line('b', { prompt: 'x', model: 'gpt' }), 'model_not_found', 'body.model'],
    ['a field out of range', line('b', { prompt: 'x', n: 0 }), 'invalid_value', 'body.n'],
    ['no prompt', line('b', { n: 1 }), 'invalid_value', 'body.prompt'],
    ['a stream', line('b', { prompt: 'x', stream: true }), 'invalid_value', 'body.stream'],
    [
      'a deep body',
      line('b', JSON.parse(`${'[{"a":'.repeat(300)}1${'}]'.repeat(300)}`)[0]),
      'invalid_value',
      'body',
    ],
    ['a line that is too long', line('b', { prompt: 'x'.repeat(1_100_000) }), 'line_too_long', null],
  ];
  it.each(cases)('names the line: %s', async (_name, second, code, param) => {
    const engine = echoing();
    const client = new BatchClient((await serve(engine)).fastify);
    const input = Buffer.concat(
      [line('first'), '\n\n', second, '\n', line('last')].map((part) => Buffer.from(part)),
    );
    const batch = await client.ended(await client.batch(input));
    expect(batch).toMatchObject({
      status: 'failed',
      in_progress_at: null,
      output_file_id: null,
      errors: {
        object: 'list',
        data: [{ code, line: 3, param, message: expect.stringContaining('line 3: ') }],
      },
      request_counts: { total: 0, completed: 0, failed: 0 },
    });
    expect(batch.failed_at).toBeGreaterThanOrEqual(batch.created_at);
    expect(engine.requests).toEqual([]);
  });

  it.each([
    ['nothing', '', 'empty_file', 1],
    ['blank lines', '\n \n\r\n', 'empty_file', 1],
    [
      'binary garbage',
      Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 37) % 256)),
      'invalid_json_line',
      20,
    ],
    ['more lines than may be', lines(50_001), 'too_many_lines', 1],
    ['more errors than are told', '{}\n'.repeat(3000), 'missing_required_parameter', 100],
  ])('%s', async (_name, input, code, numErrors) => {
    const client = new BatchClient((await serve(echoing())).fastify);
    const { status, errors } = await client.ended(await client.batch(input));
    expect(status).toBe('failed');
    expect(errors.data.map((error: { code: string }) => error.code)).toEqual(Array(numErrors).fill(code));
  });

  it('leaves no lines behind', async () => {
    const client = new BatchClient((await serve(echoing(), { maxStoreBytes: 3_000_000 })).fastify);
    for (let i = 0; i < 5; i++) {
      const batch = await client.ended(await client.batch(`${lines(15_000)}\nbad`));
      expect(batch.errors.data[0]).toMatchObject({ code: 'invalid_json_line', line: 15_001 });
      await client.delete(`/v1/files/${batch.input_file_id}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  });
});

describe('a request that is refused', () => {
  it.each([
    ['endpoint', { endpoint: '/v1/images' }],
    ['completion_window', { completion_window: '1h' }],
    ['input_file_id', { input_file_id: 'file-none' }],
    ['input_file_id', { input_file_id: 7 }],
    ['metadata', { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, 'v'])) }],
    ['output_expires_after', { output_expires_after: { anchor: 'created_at', seconds: 1 } }],
  ])('names %s', async (param, wrong) => {
    const client = new BatchClient((await serve(echoing())).fastify);
    const { id } = (await client.upload(line('a'))).json();
    const good = { input_file_id: id, endpoint: '/v1/completions', completion_window: '24h' };
    const answer = await client.post('/v1/batches', { ...good, ...wrong });
    expect([400, 404]).toContain(answer.statusCode);
    expect(answer.json().error.param.split('.')[0]).toBe(param);
  });

  it('says so for a file with another purpose', async () => {
    const client = new BatchClient((await serve(echoing())).fastify);
    const { id } = (await client.upload(line('a'), { purpose: 'evals' })).json();
    const body = { input_file_id: id, endpoint: '/v1/completions', completion_window: '24h' };
    expect((await client.post('/v1/batches', body)).json().error.message).toContain('purpose evals');
  });
});

it('pages through batches, newest first', async () => {
  const client = new BatchClient((await serve(echoing())).fastify);
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.push(await client.batch(line('a')));
  const first = (await client.get('/v1/batches?limit=3')).json();
  expect(first.data.map(({ id }: { id: string }) => id)).toEqual(ids.slice(2).toReversed());
  expect(first).toMatchObject({ object: 'list', has_more: true, last_id: ids[2] });
  const second = (await client.get(`/v1/batches?limit=3&after=${first.last_id}`)).json();
  expect(second.data.map(({ id }: { id: string }) => id)).toEqual([ids[1], ids[0]]);
  expect(second.has_more).toBe(false);
  expect((await client.get('/v1/batches?after=batch_none')).json().error.param).toBe('after');
  for (const id of ids) await client.ended(id);
});

it('fails, and keeps what it has, when the store is full', async () => {
  const engine = new FakeEngine();
  engine.answer = async function* () {
    await turn();
    yield delta('x'.repeat(50_000), 'stop');
  };
  const client = new BatchClient((await serve(engine, { maxStoreBytes: 1_000_000 })).fastify);
  const batch = await client.ended(await client.batch(lines(100)));
  expect(batch.status).toBe('failed');
  expect(batch.errors.data[0].code).toBe('store_full');
  const answers = await client.answers(batch.output_file_id);
  expect(answers.length).toBe(batch.request_counts.completed);
  expect(answers.length).toBeGreaterThan(5);
  expect((await client.get('/v1/models')).statusCode).toBe(200);
});
