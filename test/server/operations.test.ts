// All of a request but its answer: keys, hosts, origins, ids, limits, health, draining, SSE.

import { type AddressInfo, connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { delta, FakeEngine } from './fake-engine.ts';
import { serve } from './serve.ts';

const post = (headers: Record<string, string> = {}, payload: object = { prompt: 'Hi' }) =>
  ({ method: 'POST', url: '/v1/completions', headers, payload }) as const;

function answering(): FakeEngine {
  const engine = new FakeEngine();
  engine.answer = async function* () {
    yield delta('a');
    yield delta('b', 'stop');
  };
  return engine;
}

describe('API keys', () => {
  const keys = { apiKeys: ['first-key', 'second key'] };
  const everyRoute = [
    ['GET', '/v1/models'],
    ['GET', '/v1/models/test'],
    ['GET', '/metrics'],
    ['GET', '/version'],
    ['GET', '/openapi.json'],
    ['POST', '/v1/completions'],
    ['POST', '/v1/chat/completions'],
    ['POST', '/tokenize'],
    ['POST', '/detokenize'],
    ['GET', '/nothing/here'],
    ['GET', '//health'],
    ['GET', '/health/'],
  ] as const;

  it.each(everyRoute)('%s %s wants one', async (method, url) => {
    const { fastify } = await serve(answering(), keys);
    for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: 'first-key' }]) {
      const answer = await fastify.inject({
        method,
        url,
        headers,
        ...(method === 'POST' ? { payload: {} } : {}),
      });
      expect(answer.json().error.code).toBe('invalid_api_key');
      expect(answer.statusCode).toBe(401);
    }
  });

  it('lets every key in, by either header', async () => {
    const { fastify } = await serve(answering(), keys);
    for (const key of keys.apiKeys) {
      expect((await fastify.inject(post({ authorization: `Bearer ${key}` }))).statusCode).toBe(200);
      expect((await fastify.inject(post({ 'x-api-key': key }))).statusCode).toBe(200);
    }
  });

  it('never shares a prefix cache between two keys, whatever salts they send', async () => {
    const engine = answering();
    const { fastify } = await serve(engine, keys);
    const payload = { prompt: 'Hi', cache_salt: 'same' };
    for (const key of keys.apiKeys) await fastify.inject(post({ 'x-api-key': key }, payload));
    const salts = engine.requests.map(({ cacheSalt }) => cacheSalt);
    expect(new Set(salts).size).toBe(2);
  });

  it.each(['/health', '/ping'])('%s is open', async (url) => {
    const { fastify } = await serve(answering(), keys);
    expect((await fastify.inject(url)).statusCode).toBe(200);
  });
});

describe('hosts and origins', () => {
  it('answers only to the hosts it was given', async () => {
    const { fastify } = await serve(answering(), { allowedHosts: ['localhost', '[::1]'] });
    for (const [host, status] of [
      ['localhost:8000', 200],
      ['LOCALHOST', 200],
      ['[::1]:8000', 200],
      ['evil.example', 403],
      ['localhost.evil.example', 403],
    ] as const) {
      expect((await fastify.inject({ url: '/v1/models', headers: { host } })).statusCode).toBe(status);
    }
  });

  it('names an allowed origin to browsers, and no other', async () => {
    const { fastify } = await serve(answering(), { allowedOrigins: ['https://a.example'] });
    const allowed = async (origin: string) =>
      (await fastify.inject({ url: '/v1/models', headers: { origin } })).headers[
        'access-control-allow-origin'
      ];
    expect(await allowed('https://a.example')).toBe('https://a.example');
    expect(await allowed('https://b.example')).toBeUndefined();
  });
});

describe('X-Request-Id', () => {
  it('comes back, names the answer, and is made where it is missing or unfit', async () => {
    const { fastify } = await serve(answering());
    const own = await fastify.inject(post({ 'x-request-id': 'abc-1' }));
    expect(own.headers['x-request-id']).toBe('abc-1');
    expect(own.json().id).toBe('cmpl-abc-1');
    for (const unfit of ['', 'two words', 'x'.repeat(129)]) {
      const { headers } = await fastify.inject(post({ 'x-request-id': unfit }));
      expect(headers['x-request-id']).toMatch(/^[0-9a-f]{32}$/);
    }
    expect((await fastify.inject('/nothing')).headers['x-request-id']).toBeDefined();
  });
});

describe('load and health', () => {
  it('refuses with 429 and Retry-After when the queue is full', async () => {
    const engine = answering();
    engine.stats = { ...engine.stats, numWaiting: 3 };
    const { fastify } = await serve(engine, { maxQueuedRequests: 3 });
    const answer = await fastify.inject(post());
    expect(answer.statusCode).toBe(429);
    expect(answer.headers['retry-after']).toBe('1');
    expect(answer.json().error).toMatchObject({ code: 'queue_full', type: 'rate_limit_error' });
  });

  it('/health tells ok, late, dead and draining; /ping only that HTTP works', async () => {
    const engine = answering();
    const { fastify, drain } = await serve(engine);
    const health = async () => {
      const answer = await fastify.inject('/health');
      return [answer.statusCode, answer.json().status];
    };
    expect(await health()).toEqual([200, undefined]);
    engine.healthNow = { status: 'late', heartbeatAgeMs: 70_000 };
    expect(await health()).toEqual([503, 'late']);
    engine.healthNow = { status: 'dead', heartbeatAgeMs: Number.POSITIVE_INFINITY };
    expect(await health()).toEqual([503, 'dead']);
    const dead = await fastify.inject(post());
    expect([dead.statusCode, dead.json().error.code]).toEqual([503, 'engine_dead']);
    engine.healthNow = { status: 'ok', heartbeatAgeMs: 1 };
    drain();
    expect(await health()).toEqual([503, 'draining']);
    const refused = await fastify.inject(post());
    expect([refused.statusCode, refused.headers['retry-after']]).toEqual([503, '10']);
    expect((await fastify.inject('/ping')).statusCode).toBe(200);
  });

  it('an engine that fails in the middle is a 500 without its cause', async () => {
    const engine = new FakeEngine();
    engine.answer = async function* () {
      yield delta('a', 'error');
    };
    const { fastify } = await serve(engine);
    const whole = await fastify.inject(post());
    expect(whole.statusCode).toBe(500);
    expect(whole.json().error).toMatchObject({ code: 'internal_error', type: 'server_error' });
    const streamed = await fastify.inject(post({}, { prompt: 'Hi', stream: true }));
    expect(streamed.body).toContain('"code":"internal_error"');
    expect(streamed.body).not.toContain('[DONE]');
  });
});

describe('server-sent events', () => {
  it('sends the headers at once and comments while nothing happens', async () => {
    const engine = new FakeEngine();
    let finish = () => {};
    engine.answer = async function* () {
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      yield delta('late', 'stop');
    };
    const { fastify } = await serve(engine, { ssePingIntervalMs: 20 });
    const url = await fastify.listen({ port: 0, host: '127.0.0.1' });
    const answer = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'Hi', stream: true }),
    });
    expect(answer.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(answer.headers.get('x-request-id')).toBeTruthy();
    const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
    let text = '';
    while (!text.includes(': ping\n\n: ping\n\n')) text += Buffer.from((await reader.read()).value ?? []);
    finish();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      text += Buffer.from(value);
    }
    expect(text).toMatch(/"text":"late".*data: \[DONE\]\n\n$/s);
  });

  it('waits for a slow reader, and gives up when it is gone', async () => {
    const engine = new FakeEngine();
    let numTaken = 0;
    let isOver = false;
    engine.answer = async function* ({ signal }) {
      try {
        for (;;) {
          numTaken++;
          yield delta('x'.repeat(10_000));
        }
      } finally {
        isOver = true;
        expect(signal?.aborted).toBe(true);
      }
    };
    const { fastify } = await serve(engine);
    await fastify.listen({ port: 0, host: '127.0.0.1' });
    const address = fastify.server.address();
    const socket = connect(typeof address === 'object' ? (address?.port ?? 0) : 0, '127.0.0.1');
    socket.pause();
    const body = JSON.stringify({ prompt: 'Hi', stream: true });
    socket.write(
      `POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    // The endless answer fills the socket's buffers and then stands still.
    let before = -1;
    while (before !== numTaken || numTaken === 0) {
      before = numTaken;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(isOver).toBe(false);
    socket.destroy();
    while (!isOver) await new Promise((resolve) => setTimeout(resolve, 5));
  });

  it.each([
    ['/v1/completions', 'application/json', 'answered 408'],
    ['/v1/files', 'multipart/form-data; boundary=x', 'waited for'],
  ])('a body of %s that does not come is not waited for, unless it is a file', async (url, type, end) => {
    const { fastify } = await serve(answering(), { bodyTimeoutMs: 50 });
    await fastify.listen({ port: 0, host: '127.0.0.1' });
    const socket = connect((fastify.server.address() as AddressInfo).port, '127.0.0.1');
    socket.write(`POST ${url} HTTP/1.1\r\nhost: x\r\ncontent-type: ${type}\r\ncontent-length: 1000\r\n\r\n{`);
    const answered = new Promise<string>((resolve) =>
      socket.once('data', (data) => resolve(`answered ${data.toString().split(' ')[1]}`)),
    );
    const waitedFor = new Promise<string>((resolve) => setTimeout(() => resolve('waited for'), 1000));
    const found = await Promise.race([answered, waitedFor]);
    socket.destroy();
    expect(found).toBe(end);
  });
});
