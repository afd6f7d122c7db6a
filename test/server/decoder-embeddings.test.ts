// Embeddings by the language model itself, over HTTP: the shipped model, in the shapes of the encoders.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Encoder, Engine, type RequestRecord } from '../../dist/engine/engine.js';
import { type App, buildApp } from '../../dist/server/app.js';
import { encoderFolder } from '../engine/encoders/golden.ts';
import { testAppOptions } from './app-options.ts';
import { BatchClient, line } from './batch-client.ts';

interface Case {
  text: string;
  tokenIds: number[];
  values: number[];
}

const golden: Record<'quire-demo' | 'quire-demo-rhymes', Case[]> = JSON.parse(
  readFileSync(new URL('../golden/hidden-states.json', import.meta.url), 'utf8'),
).cases;
const model = fileURLToPath(new URL('../../models/quire-demo', import.meta.url));
const maxModelLen = 128;

let engine: Engine;
let app: App;
let client: OpenAI;
const records: RequestRecord[] = [];

beforeAll(async () => {
  const observer = { onFinished: (record: RequestRecord) => records.push(record) };
  const exact = { cpuActivations: 'f32', kvCacheDtype: 'float32' } as const;
  engine = await Engine.open({ model, maxModelLen, maxNumSeqs: 8, ...exact, observer });
  await engine.loadAdapter('rhymes', `${model}-rhymes`);
  const options = { ...testAppOptions, servedModelNames: ['demo', 'other-name'], maxQueuedRequests: 4 };
  app = await buildApp(engine, { ...options, enableAdmin: true });
  const url = await app.fastify.listen({ host: '127.0.0.1', port: 0 });
  client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
});

afterAll(async () => {
  await app.fastify.close();
  await engine.close();
});

async function post(url: string, payload: object) {
  const answer = await app.fastify.inject({ method: 'POST', url, payload });
  return { status: answer.statusCode, body: answer.json() };
}

function expectNear(vector: ArrayLike<number>, wanted: readonly number[]): void {
  expect(vector.length).toBe(wanted.length);
  expect(Math.max(...wanted.map((value, i) => Math.abs(value - vector[i])))).toBeLessThan(1e-4);
}

const cases = golden['quire-demo'];

describe('POST /v1/embeddings by the language model', () => {
  it.each([undefined, 'float', 'base64'] as const)('encoding_format %s', async (encoding_format) => {
    const input = cases.map(({ text }) => text);
    const answer = await client.embeddings.create({ model: 'demo', input, encoding_format });
    const numTokens = cases.flatMap(({ tokenIds }) => tokenIds).length;
    expect(answer).toMatchObject({ object: 'list', model: 'demo', usage: { prompt_tokens: numTokens } });
    expect(answer.data.map(({ index }) => index)).toEqual(cases.map((_, i) => i));
    answer.data.forEach(({ embedding }, i) => {
      const given = embedding as unknown;
      const vector =
        typeof given === 'string'
          ? new Float32Array(new Uint8Array(Buffer.from(given, 'base64')).buffer)
          : embedding;
      expectNear(vector, cases[i].values);
    });
  });

  it('takes token ids, no model, another name of it, and an adapter', async () => {
    const { text, tokenIds } = cases[1];
    const input = [tokenIds, cases[0].tokenIds];
    for (const payload of [{ input }, { input, model: 'other-name' }]) {
      const { body } = await post('/v1/embeddings', payload);
      expect(body.model).toBe('demo');
      expectNear(body.data[0].embedding, cases[1].values);
      expectNear(body.data[1].embedding, cases[0].values);
    }
    const { body } = await post('/v1/embeddings', { input: text, model: 'rhymes' });
    expect(body.model).toBe('rhymes');
    expectNear(body.data[0].embedding, golden['quire-demo-rhymes'][1].values);
  });

  it('cuts to dimensions, and leaves lengths when asked to', async () => {
    const { body } = await post('/v1/embeddings', { input: 'a', dimensions: 5 });
    expect(body.data[0].embedding).toHaveLength(5);
    expect(Math.hypot(...body.data[0].embedding)).toBeCloseTo(1, 5);
    const raw = await post('/v1/embeddings', { input: 'a', normalize: false });
    expect(Math.hypot(...raw.body.data[0].embedding)).toBeGreaterThan(2);
  });

  it('refuses what is too long, or cuts it at the end that is named', async () => {
    const long = cases[3].tokenIds.concat(cases[3].tokenIds);
    const text = cases[3].text.repeat(2);
    const { status, body } = await post('/v1/embeddings', { input: ['a', text] });
    expect(status).toBe(400);
    expect(body.error).toMatchObject({ code: 'context_length_exceeded', param: 'input.1' });
    expect(body.error.message).toMatch(/^input\.1: has 24\d tokens, the model takes 128/);
    const embedded = async (fields: object) => (await post('/v1/embeddings', fields)).body;
    const left = { truncate_prompt_tokens: 20, truncation_side: 'left' };
    for (const [cut, kept] of [
      [{ input: long, truncate_prompt_tokens: -1 }, long.slice(0, 128)],
      [{ input: long, ...left }, long.slice(-20)],
      [{ input: text, truncate_prompt_tokens: 50 }, long.slice(0, 50)],
    ] as const) {
      const answer = await embedded(cut);
      expect(answer.usage.prompt_tokens).toBe(kept.length);
      expect(answer.data).toEqual((await embedded({ input: kept })).data);
    }
    const { tokenIds } = await engine.encodeText(text, true);
    const ending = await embedded({ input: text, ...left });
    expect(ending.data).toEqual((await embedded({ input: [...tokenIds.slice(-20)] })).data);
  });

  it('answers hundreds of inputs in order, and has a few in the engine at a time', async () => {
    const input = Array.from({ length: 300 }, (_, i) => [3 + i, 5, 3 + (i % 7)]);
    const { body } = await post('/v1/embeddings', { input });
    expect(body.data).toHaveLength(300);
    for (const i of [0, 150, 299]) {
      const one = await post('/v1/embeddings', { input: input[i] });
      expect(body.data[i].embedding).toEqual(one.body.data[0].embedding);
    }
  });

  it('is refused when the queue is full, ends by /abort and with its client, and counts as a request', async () => {
    await engine.control.ask('pause');
    records.length = 0;
    const waiting = post('/v1/embeddings', { input: Array.from({ length: 9 }, (_, i) => `text ${i}`) });
    while (engine.stats.numWaiting < 8) await new Promise((resolve) => setTimeout(resolve, 5));
    const { status, body } = await post('/v1/embeddings', { input: 'one more' });
    expect([status, body.error.code]).toEqual([429, 'queue_full']);
    expect((await post('/abort', { abort_all: true })).status).toBe(200);
    const ended = await waiting;
    expect([ended.status, ended.body.error.message]).toEqual([409, 'the request was ended by /abort']);
    const leaving = new AbortController();
    const left = client.embeddings.create({ model: 'demo', input: 'a' }, { signal: leaving.signal });
    const gone = expect(left).rejects.toThrow(/abort/i);
    while (engine.numOpenRequests === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    leaving.abort();
    await gone;
    while (engine.numOpenRequests > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await engine.control.ask('resume');
    expect(records.filter(({ finishReason }) => finishReason === 'abort').length).toBeGreaterThanOrEqual(8);
  });
});

describe('the other routes of encoders', () => {
  it('score and rank by the cosine', async () => {
    const [a, b] = [cases[1], cases[2]];
    const cosine = a.values.reduce((sum, value, i) => sum + value * b.values[i], 0);
    const scored = await post('/v1/score', { model: 'demo', text_1: a.text, text_2: [b.text, a.text] });
    expect(scored.body.data[0].score).toBeCloseTo(cosine, 3);
    expect(scored.body.data[1].score).toBeCloseTo(1, 5);
    const documents = [b.text, a.text];
    const { body } = await post('/v1/rerank', { model: 'demo', query: a.text, documents });
    expect(body.results.map(({ index }: { index: number }) => index)).toEqual([1, 0]);
  });

  it.each(['/v1/classify', '/v1/moderations'])('%s needs a classifier', async (url) => {
    const named = await post(url, { model: 'demo', input: 'a' });
    expect(named.status).toBe(400);
    expect(named.body.error.message).toBe('model: demo is an embedder, needed: a classifier');
    const unnamed = await post(url, { input: 'a' });
    expect(unnamed.status).toBe(404);
    expect(unnamed.body.error.message).toMatch(/--embedding-model NAME=FOLDER adds one$/);
  });

  it('prefer an encoder where no model is named', async () => {
    const bert = await Encoder.open(encoderFolder('bert-mean'));
    const options = { ...testAppOptions, encoders: new Map([['bert', bert]]) };
    const beside = await buildApp(engine, options);
    const answer = await beside.fastify.inject({
      method: 'POST',
      url: '/v1/embeddings',
      payload: { input: 'a' },
    });
    expect(answer.json().model).toBe('bert');
    await beside.fastify.close();
    await bert.close();
  });

  it('batches run it, line by line', async () => {
    const batches = new BatchClient(app.fastify);
    const url = '/v1/embeddings';
    const rows = cases.map(({ text }, i) => line(`row-${i}`, { model: 'demo', input: [text, 'a'] }, { url }));
    const batch = await batches.ended(await batches.batch(rows.join('\n'), { endpoint: url }));
    expect(batch).toMatchObject({ status: 'completed', model: 'demo' });
    const output = await batches.answers(batch.output_file_id);
    expect(output.map(({ custom_id }) => custom_id)).toEqual(cases.map((_, i) => `row-${i}`));
    output.forEach(({ response }, i) => {
      const { body } = response as NonNullable<typeof response>;
      const { data } = body as unknown as { data: Array<{ embedding: number[] }> };
      expectNear(data[0].embedding, cases[i].values);
    });
  });
});
