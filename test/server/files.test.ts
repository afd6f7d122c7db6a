// /v1/files: what comes back is what went up, lists, owners, limits, forms that are none.

import { describe, expect, it } from 'vitest';
import type { AppOptions } from '../../server/context.ts';
import { BatchClient, form } from './batch-client.ts';
import { FakeEngine } from './fake-engine.ts';
import { serve as serveEngine } from './serve.ts';

const serve = async (options: Partial<AppOptions> = {}) =>
  (await serveEngine(new FakeEngine(), options)).fastify;

/** Bytes of every value, of no text in particular. */
function bytes(length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * 7) & 0xff));
}

describe('a file', () => {
  it.each([0, 1, 256 * 1024, 1_000_003])('of %d bytes comes back as it went up', async (length) => {
    const client = new BatchClient(await serve());
    const content = bytes(length);
    const uploaded = await client.upload(content, {}, { purpose: 'user_data' }, 'päper "1".bin');
    expect(uploaded.statusCode, uploaded.body).toBe(200);
    const file = uploaded.json();
    expect(file).toMatchObject({ object: 'file', bytes: length, purpose: 'user_data', status: 'processed' });
    expect(file.id).toMatch(/^file-[0-9a-f]{32}$/);
    expect(file.expires_at).toBeNull();
    expect((await client.get(`/v1/files/${file.id}`)).json()).toEqual(file);
    const got = await client.get(`/v1/files/${file.id}/content`);
    expect(got.rawPayload.equals(content)).toBe(true);
    expect(got.headers).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-length': String(length),
      'x-content-type-options': 'nosniff',
    });
  });

  it('for a batch expires after 30 days, any when its form says so', async () => {
    const client = new BatchClient(await serve());
    const batch = (await client.upload('{}', { purpose: 'batch' })).json();
    expect(batch.expires_at - batch.created_at).toBe(30 * 24 * 3600);
    const expiry = { 'expires_after[anchor]': 'created_at', 'expires_after[seconds]': '3600' };
    const hour = (await client.upload('{}', { purpose: 'evals', ...expiry })).json();
    expect(hour.expires_at - hour.created_at).toBe(3600);
  });

  it('is gone once deleted, and frees its room', async () => {
    const client = new BatchClient(await serve({ maxStoreBytes: 3_000_000 }));
    for (let i = 0; i < 5; i++) {
      const uploaded = await client.upload(bytes(2_000_000));
      expect(uploaded.statusCode, uploaded.body).toBe(200);
      const { id } = uploaded.json();
      expect((await client.delete(`/v1/files/${id}`)).json()).toEqual({ id, object: 'file', deleted: true });
      for (const url of [`/v1/files/${id}`, `/v1/files/${id}/content`]) {
        expect((await client.get(url)).json().error.code).toBe('file_not_found');
      }
      expect((await client.delete(`/v1/files/${id}`)).statusCode).toBe(404);
      expect((await client.get('/v1/files')).json().data).toEqual([]);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });

  it('is seen by its owner alone', async () => {
    const fastify = await serve({ apiKeys: ['one', 'two'] });
    const [one, two] = ['one', 'two'].map((key) => new BatchClient(fastify, { 'x-api-key': key }));
    const { id } = (await one.upload('secret')).json();
    expect((await two.get(`/v1/files/${id}`)).statusCode).toBe(404);
    expect((await two.get(`/v1/files/${id}/content`)).statusCode).toBe(404);
    expect((await two.delete(`/v1/files/${id}`)).statusCode).toBe(404);
    expect((await two.get('/v1/files')).json().data).toEqual([]);
    expect((await two.get(`/v1/files?after=${id}`)).statusCode).toBe(400);
    const batch = { input_file_id: id, endpoint: '/v1/completions', completion_window: '24h' };
    expect((await two.post('/v1/batches', batch)).json().error.code).toBe('file_not_found');
    expect((await one.get(`/v1/files/${id}/content`)).body).toBe('secret');
  });
});

it('pages through files in both orders, and by purpose', async () => {
  const client = new BatchClient(await serve());
  const ids: string[] = [];
  for (const purpose of ['batch', 'evals', 'batch', 'batch', 'evals']) {
    ids.push((await client.upload('x', { purpose })).json().id);
  }
  const walk = async (query: string) => {
    const found: string[] = [];
    for (let after = ''; ; ) {
      const page = (await client.get(`/v1/files?limit=2${query}${after}`)).json();
      found.push(...page.data.map(({ id }: { id: string }) => id));
      expect(page).toMatchObject({ object: 'list', first_id: page.data[0].id, last_id: found.at(-1) });
      if (!page.has_more) return found;
      after = `&after=${page.last_id}`;
    }
  };
  expect(await walk('')).toEqual(ids.toReversed());
  expect(await walk('&order=asc')).toEqual(ids);
  expect(await walk('&order=asc&purpose=evals')).toEqual([ids[1], ids[4]]);
});

describe('refused with a 4xx that names what', () => {
  const refusals: Array<[string, object, number, string]> = [
    ['no purpose', form('x', {}), 400, 'purpose'],
    ['a purpose of no kind', form('x', { purpose: 'fun' }), 400, 'purpose'],
    ['half an expiry', form('x', { purpose: 'batch', 'expires_after[seconds]': '3600' }), 400, 'anchor'],
    [
      'too short a life',
      form('x', { purpose: 'batch', 'expires_after[seconds]': '1', 'expires_after[anchor]': 'created_at' }),
      400,
      'expires_after.seconds',
    ],
    ['a field that is too long', form('x', { purpose: 'x'.repeat(2000) }), 400, 'purpose'],
    ['a file that is too large', form(bytes(6_000_000)), 413, 'max-file-size'],
    ['a form that ends early', { ...form('x'), payload: form('x').payload.subarray(0, 150) }, 400, 'form'],
    ['garbage', { ...form('x'), payload: bytes(10_000) }, 400, 'form'],
    ['an empty form', { ...form('x'), payload: Buffer.alloc(0) }, 400, 'file'],
    ['JSON', { method: 'POST', url: '/v1/files', payload: { purpose: 'batch' } }, 415, 'multipart/form-data'],
    ['nothing', { method: 'POST', url: '/v1/files' }, 415, 'multipart/form-data'],
    [
      'text',
      { method: 'POST', url: '/v1/files', payload: 'x', headers: { 'content-type': 'text/plain' } },
      415,
      'multipart/form-data',
    ],
  ];
  it.each(refusals)('%s', async (_name, request, status, named) => {
    const fastify = await serve();
    const answer = await fastify.inject(request);
    expect(answer.statusCode, answer.body).toBe(status);
    expect(answer.json().error.message).toContain(named);
    expect((await fastify.inject('/v1/files')).json().data).toEqual([]);
  });

  it('a file that the store has no room for, and the room is free again', async () => {
    const client = new BatchClient(await serve({ maxStoreBytes: 1_000_000 }));
    const full = await client.upload(bytes(2_000_000));
    expect(full.statusCode).toBe(507);
    expect(full.json().error).toMatchObject({ code: 'store_full', type: 'server_error' });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await client.upload(bytes(500_000))).statusCode).toBe(200);
  });
});
