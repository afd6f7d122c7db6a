// What clients may meet before a route: upgrades that are none, requests that are none, browsers' questions.

import { type AddressInfo, connect, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { delta, FakeEngine } from './fake-engine.ts';
import { serve } from './serve.ts';

function answering(): FakeEngine {
  const engine = new FakeEngine();
  engine.answer = async function* () {
    yield delta('a', 'stop');
  };
  return engine;
}

async function connected(options: object = {}): Promise<Socket> {
  const { fastify } = await serve(answering(), options);
  await fastify.listen({ port: 0, host: '127.0.0.1' });
  const socket = connect((fastify.server.address() as AddressInfo).port, '127.0.0.1');
  await new Promise((resolve) => socket.once('connect', resolve));
  return socket;
}

/** Sends it, and reads until what came has the length that it names. */
function exchange(socket: Socket, request: string): Promise<{ status: number; head: string; body: string }> {
  return new Promise((resolve, reject) => {
    let text = '';
    const onData = (data: Buffer) => {
      text += data;
      const [head, body = ''] = text.split(/\r\n\r\n(.*)/s);
      const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? Number.NaN);
      if (!(Buffer.byteLength(body) >= length)) return;
      socket.off('data', onData).off('close', onClose);
      resolve({ status: Number(head.split(' ')[1]), head, body });
    };
    const onClose = () => reject(new Error(`closed after ${JSON.stringify(text)}`));
    socket.on('data', onData).on('close', onClose);
    socket.write(request);
  });
}

const lines = (...all: string[]) => `${all.join('\r\n')}\r\n\r\n`;
const h2c = ['connection: Upgrade, HTTP2-Settings', 'upgrade: h2c', 'http2-settings: AAEAAEAA'];

describe('an upgrade to HTTP/2, as Java asks for it', () => {
  it('is answered over HTTP/1.1, body and all, and the connection goes on', async () => {
    const socket = await connected();
    const body = JSON.stringify({ prompt: 'Hi' });
    const entity = ['content-type: application/json', `content-length: ${body.length}`];
    for (let i = 0; i < 2; i++) {
      const got = await exchange(socket, lines('GET /v1/models HTTP/1.1', 'host: x', ...h2c));
      expect([got.status, JSON.parse(got.body).object]).toEqual([200, 'list']);
      const post = lines('POST /v1/completions HTTP/1.1', 'host: x', ...h2c, ...entity) + body;
      const answer = await exchange(socket, post);
      expect([answer.status, JSON.parse(answer.body).choices[0].text]).toEqual([200, 'a']);
    }
    socket.destroy();
  });
});

describe('what is no request', () => {
  const upgrade = ['connection: Upgrade', 'upgrade: websocket'];
  it.each([
    [
      'headers too large',
      lines('GET / HTTP/1.1', 'host: x', `a: ${'a'.repeat(20_000)}`),
      431,
      'headers_too_large',
    ],
    ['not HTTP', 'hello\r\n\r\n', 400, 'malformed_request'],
    [
      'a chunk without a size',
      lines('POST /v1/completions HTTP/1.1', 'host: x', 'transfer-encoding: chunked', '', 'x'),
      400,
      'malformed_request',
    ],
    [
      'two lengths',
      lines('POST / HTTP/1.1', 'host: x', 'content-length: 1', 'transfer-encoding: chunked'),
      400,
      'malformed_request',
    ],
    [
      'a WebSocket without a key',
      lines('GET /v1/responses HTTP/1.1', 'host: x', ...upgrade),
      400,
      'malformed_request',
    ],
  ])('%s is answered in the shape of every error', async (_name, request, status, code) => {
    const socket = await connected();
    const ended = new Promise((resolve) => socket.once('close', resolve));
    const answer = await exchange(socket, request);
    expect(answer.head).toMatch(/^content-type: application\/json/m);
    const { error } = JSON.parse(answer.body);
    expect([answer.status, error.code, error.type]).toEqual([status, code, 'invalid_request_error']);
    expect(Object.keys(error)).toEqual(['message', 'type', 'param', 'code']);
    await ended;
  });

  it.each([
    ['a compressed body', { 'content-type': 'application/json', 'content-encoding': 'gzip' }],
    ['plain text', { 'content-type': 'text/plain' }],
    ['a form', { 'content-type': 'application/x-www-form-urlencoded' }],
  ])('%s is a 415', async (_name, headers) => {
    const { fastify } = await serve(answering());
    const answer = await fastify.inject({ method: 'POST', url: '/v1/completions', headers, payload: '{}' });
    expect([answer.statusCode, answer.json().error.code]).toEqual([415, 'unsupported_media_type']);
  });
});

describe('a page in a browser', () => {
  const origin = 'https://a.example';
  const options = { allowedOrigins: [origin], apiKeys: ['key'] };
  const ask = (method: string, from = origin) => ({
    method: 'OPTIONS' as const,
    url: '/v1/responses/resp_1',
    headers: {
      origin: from,
      'access-control-request-method': method,
      'access-control-request-headers': 'authorization,content-type',
    },
  });

  it.each(['GET', 'POST', 'DELETE'])('may ask, without a key, whether it may %s with one', async (method) => {
    const { fastify } = await serve(answering(), options);
    const { statusCode, headers } = await fastify.inject(ask(method));
    expect(statusCode).toBe(204);
    expect(headers['access-control-allow-origin']).toBe(origin);
    expect(headers['access-control-allow-methods']).toContain(method);
    expect(headers['access-control-allow-headers']).toBe('authorization,content-type');
  });

  it('is told nothing when it is another', async () => {
    const { fastify } = await serve(answering(), options);
    const other = await fastify.inject(ask('POST', 'https://b.example'));
    expect(other.headers['access-control-allow-origin']).toBeUndefined();
  });

  it('can read why it was refused', async () => {
    const { fastify } = await serve(answering(), options);
    const answer = await fastify.inject({ url: '/v1/models', headers: { origin } });
    expect(answer.statusCode).toBe(401);
    expect(answer.headers['access-control-allow-origin']).toBe(origin);
    expect(answer.headers['access-control-expose-headers']).toContain('x-request-id');
  });
});

describe('the end of a server', () => {
  it('does not wait for connections that never said anything', async () => {
    const { fastify } = await serve(answering());
    await fastify.listen({ port: 0, host: '127.0.0.1' });
    const { port } = fastify.server.address() as AddressInfo;
    const isTaken = new Promise((resolve) => fastify.server.once('connection', resolve));
    const socket = connect(port, '127.0.0.1');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    await isTaken;
    await fastify.close();
    await closed;
  }, 20_000);
});
