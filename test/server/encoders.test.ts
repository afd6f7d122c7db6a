// The routes over encoders, on the tiny ones of test/golden/encoders: what transformers computes, in the
// shapes that clients of OpenAI, Cohere, Jina and vLLM read, and what is refused.

import OpenAI, { BadRequestError } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Encoder } from '../../engine/engine.ts';
import { type App, buildApp } from '../../server/app.ts';
import { encoderFolder, golden, largestDifference } from '../engine/encoders/golden.ts';
import { testAppOptions } from './app-options.ts';
import { BatchClient, line } from './batch-client.ts';
import { FakeEngine } from './fake-engine.ts';

let app: App;
let client: OpenAI;
const encoders = new Map<string, Encoder>();

beforeAll(async () => {
  for (const name of ['bert-mean', 'roberta-cls', 'bert-cross', 'distilbert-labels'])
    encoders.set(name, await Encoder.open(encoderFolder(name)));
  app = await buildApp(new FakeEngine(), { ...testAppOptions, encoders });
  const url = await app.fastify.listen({ host: '127.0.0.1', port: 0 });
  client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
});

afterAll(async () => {
  await app.fastify.close();
  await Promise.all([...encoders.values()].map((encoder) => encoder.close()));
});

async function post(url: string, payload: object) {
  const answer = await app.fastify.inject({ method: 'POST', url, payload });
  return { status: answer.statusCode, body: answer.json() };
}

interface Embedded {
  data: Array<{ embedding: number[] }>;
}

const norm = (vector: readonly number[]) => Math.hypot(...vector);

describe('POST /v1/embeddings, with the openai client', () => {
  it.each([undefined, 'float', 'base64'] as const)('encoding_format %s', async (encoding_format) => {
    const answer = await client.embeddings.create({
      model: 'bert-mean',
      input: golden.texts,
      encoding_format,
    });
    expect(answer).toMatchObject({ object: 'list', model: 'bert-mean' });
    const numTokens = golden['bert-mean'].tokenIds.flat().length;
    expect(answer.usage).toMatchObject({ prompt_tokens: numTokens, total_tokens: numTokens });
    answer.data.forEach(({ index, embedding }, i) => {
      expect(index).toBe(i);
      // Asked for by name, base64 stays as it is.
      const given = embedding as unknown;
      const vector =
        typeof given === 'string'
          ? new Float32Array(new Uint8Array(Buffer.from(given, 'base64')).buffer)
          : embedding;
      expect(largestDifference(vector, golden['bert-mean'].embeddings[i])).toBeLessThan(1e-4);
    });
  });

  it('takes token ids, alone and in lists', async () => {
    const { tokenIds, embeddings } = golden['bert-mean'];
    const one = await client.embeddings.create({ model: 'bert-mean', input: tokenIds[0] });
    const two = await client.embeddings.create({ model: 'bert-mean', input: tokenIds.slice(0, 2) });
    expect(largestDifference(one.data[0].embedding, embeddings[0])).toBeLessThan(1e-4);
    expect(largestDifference(two.data[1].embedding, embeddings[1])).toBeLessThan(1e-4);
  });

  it('cuts to dimensions, and to length 1 again', async () => {
    const input = 'yes';
    const { data } = await client.embeddings.create({ model: 'bert-mean', input, dimensions: 5 });
    expect(data[0].embedding).toHaveLength(5);
    expect(norm(data[0].embedding)).toBeCloseTo(1, 5);
    const refused = client.embeddings.create({ model: 'bert-mean', input, dimensions: 17 });
    await expect(refused).rejects.toThrow('dimensions: found 17, allowed: 1 to 16');
  });

  it('normalises as the files say, or as the request does', async () => {
    const plain = await client.embeddings.create({ model: 'roberta-cls', input: 'yes' });
    expect(largestDifference(plain.data[0].embedding, golden['roberta-cls'].embeddings[5])).toBeLessThan(
      1e-4,
    );
    const { body } = await post('/v1/embeddings', { model: 'roberta-cls', input: 'yes', normalize: true });
    expect(norm(body.data[0].embedding)).toBeCloseTo(1, 5);
  });

  it('puts a prompt of the model before the text', async () => {
    const prompted = await post('/v1/embeddings', { model: 'bert-mean', input: 'yes', prompt_name: 'query' });
    const written = await post('/v1/embeddings', { model: 'bert-mean', input: 'cat: yes' });
    expect(prompted.body.data).toEqual(written.body.data);
    const unknown = await post('/v1/embeddings', { model: 'bert-mean', input: 'yes', prompt_name: 'x' });
    expect(unknown.body.error.message).toBe('prompt_name: found "x", allowed: query, document');
  });

  it('refuses what is too long, or cuts it', async () => {
    const input = ['yes', 'cat '.repeat(200)];
    const refused = client.embeddings.create({ model: 'bert-mean', input });
    await expect(refused).rejects.toBeInstanceOf(BadRequestError);
    const { status, body } = await post('/v1/embeddings', { model: 'bert-mean', input });
    expect(status).toBe(400);
    expect(body.error).toMatchObject({
      code: 'context_length_exceeded',
      param: 'input.1',
      message: 'input.1: has 202 tokens, the model takes 96 (truncate_prompt_tokens: -1 cuts it)',
    });
    const cut = await post('/v1/embeddings', { model: 'bert-mean', input, truncate_prompt_tokens: -1 });
    expect(cut.body.usage.prompt_tokens).toBe(3 + 96);
    const more = await post('/v1/embeddings', { model: 'bert-mean', input, truncate_prompt_tokens: 97 });
    expect(more.body.error).toMatchObject({ param: 'truncate_prompt_tokens' });
  });

  it('answers many clients at once as it answers one', async () => {
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        client.embeddings.create({ model: 'bert-mean', input: golden.texts[i % golden.texts.length] }),
      ),
    );
    answers.forEach(({ data }, i) => {
      const expected = golden['bert-mean'].embeddings[i % golden.texts.length];
      expect(largestDifference(data[0].embedding, expected)).toBeLessThan(1e-4);
    });
  });
});

it('embeds the lines of a batch', async () => {
  const batches = new BatchClient(app.fastify);
  const embeds = (id: string, body: object) => line(id, body, { url: '/v1/embeddings' });
  const endpoint = { endpoint: '/v1/embeddings' };
  const input = golden.texts.map((text, i) => embeds(`text-${i}`, { model: 'bert-mean', input: text }));
  const batch = await batches.ended(await batches.batch(input.join('\n'), endpoint));
  expect(batch).toMatchObject({ status: 'completed', model: 'bert-mean' });
  const answers = await batches.answers(batch.output_file_id);
  answers.forEach(({ response }, i) => {
    const { data } = (response as NonNullable<typeof response>).body as unknown as Embedded;
    expect(largestDifference(data[0].embedding, golden['bert-mean'].embeddings[i])).toBeLessThan(1e-4);
  });
  const wrong = embeds('a', { model: 'bert-cross', input: 'a' });
  const failed = await batches.ended(await batches.batch(wrong, endpoint));
  expect(failed.errors.data[0]).toMatchObject({ code: 'unsupported_value', param: 'body.model' });
});

it.each([
  ['/v1/moderations', { input: golden.texts[0] }],
  ['/v1/rerank', { query: golden.texts[0], documents: golden.texts }],
  ['/v1/score', { text_1: golden.texts[0], text_2: golden.texts }],
])('%s answers lines of a batch as it answers anyone', async (url, body) => {
  const batches = new BatchClient(app.fastify);
  const batch = await batches.ended(await batches.batch(line('a', body, { url }), { endpoint: url }));
  expect(batch.request_counts).toEqual({ total: 1, completed: 1, failed: 0 });
  const [answer] = await batches.answers(batch.output_file_id);
  const { created, ...alone } = (await post(url, body)).body;
  expect(answer.response?.body).toEqual({
    ...alone,
    id: expect.any(String),
    ...(created === undefined ? {} : { created: expect.any(Number) }),
  });
});

describe('POST /v1/rerank', () => {
  const query = golden.pairs[0][0];
  const documents = golden.pairs.slice(0, 3).map(([, text]) => text);
  const scores = golden['bert-cross'].scores.slice(0, 3);
  const order = [0, 1, 2].sort((a, b) => scores[b] - scores[a]);

  it.each(['/v1/rerank', '/rerank', '/v2/rerank'])('%s sorts by relevance', async (url) => {
    const { body } = await post(url, { model: 'bert-cross', query, documents });
    const { results } = body;
    expect(results.map(({ index }: { index: number }) => index)).toEqual(order);
    for (const { index, relevance_score, document } of results) {
      expect(relevance_score).toBeCloseTo(scores[index], 4);
      expect(document).toEqual({ text: documents[index] });
    }
  });

  it('takes a cross-encoder where no model is named, documents as objects, top_n', async () => {
    const objects = documents.map((text) => ({ text }));
    const { body } = await post('/rerank', { query, documents: objects, top_n: 1, return_documents: false });
    expect(body.model).toBe('bert-cross');
    expect(body.results).toHaveLength(1);
    expect(body.results[0].index).toBe(order[0]);
    expect(body.results[0]).not.toHaveProperty('document');
  });

  it('compares embeddings behind the model’s own prompts', async () => {
    const embedded = async (input: string[]) => {
      const { body } = await post('/v1/embeddings', { model: 'bert-mean', input });
      return body.data.map(({ embedding }: { embedding: number[] }) => embedding) as number[][];
    };
    const [left, right] = await embedded([`cat: ${query}`, `sun: ${documents[1]}`]);
    const cosine = left.reduce((sum, value, i) => sum + value * right[i], 0);
    const { body } = await post('/rerank', { model: 'bert-mean', query, documents: [documents[1]] });
    expect(body.results[0].relevance_score).toBeCloseTo(cosine, 4);
  });
});

describe('POST /v1/score', () => {
  const [queries, items] = [0, 1].map((side) => golden.pairs.map((pair) => pair[side]));

  it.each([
    ['/v1/score', { text_1: queries, text_2: items }],
    ['/score', { queries, items }],
    ['/score', { queries, documents: items }],
  ])('%s, as many as there are (%#)', async (url, fields) => {
    const { body } = await post(url, { model: 'bert-cross', ...fields });
    expect(body).toMatchObject({
      object: 'list',
      data: queries.map((_, index) => ({ index, object: 'score' })),
    });
    const scores = body.data.map(({ score }: { score: number }) => score);
    expect(largestDifference(scores, golden['bert-cross'].scores)).toBeLessThan(1e-4);
  });

  it('one against many, and logits', async () => {
    const fields = { model: 'bert-cross', text_1: queries[0], text_2: items.slice(0, 3) };
    const { body } = await post('/score', fields);
    const raw = await post('/score', { ...fields, use_activation: false });
    expect(body.data).toHaveLength(3);
    body.data.forEach(({ score }: { score: number }, i: number) => {
      expect(score).toBeCloseTo(golden['bert-cross'].scores[i], 4);
      expect(1 / (1 + Math.exp(-raw.body.data[i].score))).toBeCloseTo(score, 6);
    });
  });

  it.each([
    [{ text_1: ['a', 'b'], text_2: ['c'] }, 'text_1: found 2 texts for 1 in text_2, allowed: 1, or as many'],
    [{ text_1: 'a' }, /found none of these, allowed: one of text_1 with text_2, or/],
    [{ text_1: 'a', text_2: 'b', queries: 'c', items: 'd' }, /found several of these/],
    [
      { model: 'distilbert-labels', text_1: 'a', text_2: 'b' },
      /is a classifier with 3 labels, needed: a cross-/,
    ],
  ])('refuses %j', async (fields, message) => {
    const { status, body } = await post('/score', fields);
    expect(status).toBe(400);
    expect(body.error.message).toMatch(message);
  });
});

describe('POST /v1/classify and /v1/moderations', () => {
  it('gives each label its probability', async () => {
    const { body } = await post('/classify', { input: golden.texts });
    expect(body).toMatchObject({ object: 'list', model: 'distilbert-labels' });
    for (const { index, label, probs, num_classes } of body.data) {
      const expected = golden['distilbert-labels'].probs[index];
      expect(largestDifference(probs, expected)).toBeLessThan(1e-4);
      expect(label).toBe(['calm', 'angry', 'sad'][expected.indexOf(Math.max(...expected))]);
      expect(num_classes).toBe(3);
    }
  });

  it('moderates, with the openai client', async () => {
    const { results, model } = await client.moderations.create({ input: golden.texts });
    expect(model).toBe('distilbert-labels');
    results.forEach(({ flagged, categories, category_scores }, i) => {
      const probs = golden['distilbert-labels'].probs[i];
      expect(largestDifference(Object.values(category_scores), probs)).toBeLessThan(1e-4);
      expect(Object.values(categories)).toEqual(probs.map((value) => value >= 0.5));
      expect(flagged).toBe(Math.max(...probs) >= 0.5);
    });
    const parts = await client.moderations.create({ input: [{ type: 'text', text: golden.texts[0] }] });
    expect(parts.results).toEqual(results.slice(0, 1));
  });
});

describe('models', () => {
  it('are listed', async () => {
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toEqual(expect.arrayContaining([...encoders.keys()]));
    expect(await client.models.retrieve('bert-mean')).toMatchObject({ max_model_len: 96 });
  });

  it.each([
    [
      '/v1/embeddings',
      { input: 'a', model: 'x' },
      404,
      /^model: found "x", served here: bert-mean, roberta-cls/,
    ],
    [
      '/v1/embeddings',
      { input: 'a', model: 'bert-cross' },
      400,
      /bert-cross is a classifier .+ needed: an embedder$/,
    ],
    ['/classify', { input: 'a', model: 'bert-mean' }, 400, /bert-mean is an embedder, needed: a classifier$/],
    ['/v1/embeddings', {}, 400, /^input is missing/],
    ['/v1/embeddings', { input: [] }, 400, /^input/],
    ['/v1/embeddings', { input: ['a', 1] }, 400, /^input/],
    [
      '/v1/embeddings',
      { input: Array(2049).fill('a') },
      400,
      /^input: found 2049 items, allowed: 1 to 2048$/,
    ],
    ['/v1/embeddings', { input: [4, 95] }, 400, /^input\.1: found 95, allowed: 0 to 94$/],
    ['/v1/embeddings', { input: '', add_special_tokens: false }, 400, /^input: has no tokens, at least 1/],
    ['/v1/embeddings', { input: 'a', embed_dtype: 'float16' }, 400, /^embed_dtype/],
    ['/rerank', { query: 'a', documents: [{ image: 'b' }] }, 400, /^documents\.0/],
    ['/v1/moderations', { input: [{ type: 'image_url', image_url: {} }] }, 400, /^input/],
  ])('%s, badly asked, says what is allowed (%#)', async (url, fields, status, message) => {
    const answer = await post(url, fields);
    expect(answer.status).toBe(status);
    expect(answer.body.error.message).toMatch(message);
  });

  it('says how to add a classifier where there is none', async () => {
    const bare = await buildApp(new FakeEngine(), testAppOptions);
    const answer = await bare.fastify.inject({
      method: 'POST',
      url: '/classify',
      payload: { input: 'a' },
    });
    expect(answer.statusCode).toBe(404);
    expect(answer.json().error.message).toMatch(/--embedding-model NAME=FOLDER adds one$/);
    await bare.fastify.close();
  });
});
