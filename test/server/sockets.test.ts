// /v1/responses over a WebSocket: the events of a stream, several at once, and how sockets are opened, slowed
// and closed.

import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { type AnsweringApp, type Answers, answeringApp, eventsOf } from './fake-answers.ts';
import { delta } from './fake-engine.ts';
import { SocketClient } from './socket-client.ts';

let app: AnsweringApp;
const clients: SocketClient[] = [];
afterEach(async () => {
  for (const { socket } of clients.splice(0)) socket.terminate();
  await app.fastify.close();
});

let url = '';
async function listen(answers: Answers) {
  app = await answeringApp(answers);
  await app.fastify.listen({ port: 0, host: '127.0.0.1' });
  url = `ws://127.0.0.1:${(app.fastify.server.address() as AddressInfo).port}`;
}

function connect(path = '/v1/responses', options = {}, protocols: string[] = []) {
  const client = new SocketClient(url + path, options, protocols);
  clients.push(client);
  return client;
}

async function open(answers: Answers): Promise<SocketClient> {
  await listen(answers);
  const client = connect();
  expect(await client.opened()).toBe(101);
  return client;
}

const never = new Promise<void>(() => {});
const create = { type: 'response.create', input: 'Hi' };
const isLast = ({ type }: { type: string }) => /\.(completed|incomplete|failed)$/.test(type);
const until = async (condition: () => boolean) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
};

describe('/v1/responses as a WebSocket', () => {
  it('has the events of a stream', async () => {
    const client = await open({ texts: ['<think>So.</think>Hello.'] });
    client.send({ ...create, stream_id: 'mine' });
    await client.find(isLast);
    const payload = { input: 'Hi', stream: true };
    const { body } = await app.fastify.inject({ method: 'POST', url: '/v1/responses', payload });
    const shape = (events: Array<Record<string, unknown>>) =>
      events.map(({ type, sequence_number: number, delta: text }) => [type, number, text]);
    expect(shape(client.heard)).toEqual(shape(eventsOf(body)));
    expect(new Set(client.heard.map((event) => event.stream_id))).toEqual(new Set(['mine']));
  });

  it('tells several at once apart, and goes on from one that is not stored', async () => {
    const client = await open({ texts: ['One.', 'Two.', 'Three.'] });
    for (const input of ['a', 'b', 'c']) client.send({ ...create, input, store: false });
    await until(() => client.heard.filter(isLast).length === 3);
    const streams = new Set(client.heard.map((event) => event.stream_id));
    expect(streams.size).toBe(3);
    for (const id of streams) {
      const events = client.heard.filter((event) => event.stream_id === id);
      expect(events.map(({ sequence_number: number }) => number)).toEqual(events.map((_, i) => i));
      expect((events[0].response as { id: string }).id).toBe(id);
    }
    const newest = client.heard.filter(isLast).at(-1)?.stream_id;
    client.send({ ...create, previous_response_id: newest, stream_id: 'next' });
    await client.find((event) => isLast(event) && event.stream_id === 'next');
    expect(app.prompts.at(-1)?.messages).toHaveLength(3);
    const other = connect();
    await other.opened();
    other.send({ ...create, previous_response_id: newest });
    expect(await other.ofType('error')).toMatchObject({ code: 'previous_response_not_found', status: 400 });
  });

  it('cancels one and lets the others run', async () => {
    const client = await open({ texts: ['Hello.'], hold: never });
    client.send({ ...create, stream_id: 'a' });
    client.send({ ...create, stream_id: 'b' });
    client.send({ type: 'response.cancel', stream_id: 'a' });
    const last = await client.find(isLast);
    expect(last).toMatchObject({
      stream_id: 'a',
      type: 'response.incomplete',
      response: { status: 'cancelled' },
    });
    await client.find(({ stream_id, type }) => stream_id === 'b' && type === 'response.created');
    client.send({ type: 'response.cancel', stream_id: 'a' });
    expect(await client.ofType('error')).toMatchObject({ code: 'response_not_found', param: 'stream_id' });
    expect(app.engine.requests.map(({ signal }) => signal?.aborted)).toEqual([true, false]);
  });

  it('stops what runs when it closes', async () => {
    const client = await open({ texts: ['Hello.'], hold: never });
    client.send(create);
    await client.ofType('response.output_text.delta');
    client.socket.terminate();
    await until(() => app.engine.requests[0].signal?.aborted === true);
  });

  it.each([
    ['no JSON', 'hello', 'malformed_json', null],
    ['a list', '[]', 'malformed_json', null],
    ['no type', '{}', 'invalid_value', 'type'],
    ['another type', '{"type": "session.update"}', 'unsupported_value', 'type'],
    ['a bad field', '{"type": "response.create", "input": 5}', 'invalid_value', 'input'],
    [
      'a hosted tool',
      JSON.stringify({ ...create, tools: [{ type: 'mcp' }] }),
      'unsupported_value',
      'tools.0.type',
    ],
    ['a stream id that is none', JSON.stringify({ ...create, stream_id: 5 }), 'invalid_value', 'stream_id'],
    ['a warm-up', JSON.stringify({ ...create, generate: false }), 'unsupported_value', 'generate'],
    ['deep nesting', `{"a":${'['.repeat(400)}${']'.repeat(400)}}`, 'invalid_value', null],
    ['bytes', Buffer.from('{}'), 'malformed_json', null],
  ])('says what is wrong with %s, and goes on', async (_name, message, code, param) => {
    const client = await open({ texts: ['Hello.'] });
    client.socket.send(message);
    expect(await client.ofType('error')).toMatchObject({ status: 400, code, error: { code, param } });
    client.send(create);
    await client.ofType('response.completed');
  });

  it('runs no more than 16 at once', async () => {
    const client = await open({ texts: ['Hello.'], hold: never, options: { maxQueuedRequests: 100 } });
    for (let i = 0; i < 17; i++) client.send({ ...create, stream_id: `${i}` });
    expect(await client.ofType('error')).toMatchObject({ code: 'queue_full', stream_id: '16', status: 429 });
  });

  it('closes at a message that is too large', async () => {
    const client = await open({ texts: ['Hello.'], options: { bodyLimitBytes: 1000 } });
    client.send({ ...create, input: 'x'.repeat(2000) });
    expect((await client.closed).code).toBe(1009);
  });

  it('makes nothing that a slow reader has no room for', async () => {
    const client = await open({ texts: [''], template: '' });
    // More than all buffers between the two ends have room for.
    const numDeltas = 240;
    const large = { ...delta(''), text: 'x'.repeat(50_000), textLengths: null };
    let numMade = 0;
    let isOver = false;
    app.engine.answer = async function* () {
      for (; numMade < numDeltas; numMade++) yield large;
      yield delta('', 'stop');
      isOver = true;
    };
    client.send({ ...create, store: false });
    await client.ofType('response.output_text.delta');
    client.socket.pause();
    const made: number[] = [];
    await until(() => made.push(numMade) > 20 && made.at(-20) === numMade);
    expect(isOver).toBe(false);
    client.socket.resume();
    const last = await client.find(isLast);
    expect(last).toMatchObject({ type: 'response.completed' });
    const deltas = client.heard.filter(({ type }) => type === 'response.output_text.delta');
    expect(deltas.length).toBe(numDeltas);
  });

  it('is let go when it answers no pings', async () => {
    await listen({ texts: ['Hello.'], options: { ssePingIntervalMs: 5 } });
    const silent = connect('/v1/responses', { autoPong: false });
    const alive = connect();
    await Promise.all([silent.opened(), alive.opened()]);
    expect((await silent.closed).code).toBe(1006);
    alive.send(create);
    await alive.ofType('response.completed');
  });
});

describe('the number of connections', () => {
  it('is bounded for WebSockets, before the upgrade', async () => {
    await listen({ texts: ['Hello.'], options: { maxWebSockets: 2 } });
    const [first, second] = [connect(), connect('/v1/realtime')];
    expect([await first.opened(), await second.opened()]).toEqual([101, 101]);
    expect(await connect().opened()).toBe(503);
    const answer = await fetch(`${url.replace('ws', 'http')}/v1/responses`);
    expect(answer.status).toBe(426);
    second.socket.close();
    await second.closed;
    await until(() => app.fastify.websocketServer.clients.size === 1);
    expect(await connect().opened()).toBe(101);
  });

  it('leaves room for other keys', async () => {
    await listen({ texts: ['Hello.'], options: { maxWebSockets: 4, apiKeys: ['one', 'two'] } });
    const as = (key: string) => connect('/v1/responses', { headers: { 'x-api-key': key } }).opened();
    expect([await as('one'), await as('one'), await as('one')]).toEqual([101, 101, 503]);
    expect([await as('two'), await as('two'), await as('two')]).toEqual([101, 101, 503]);
  });

  it('is bounded for all', async () => {
    await listen({ texts: ['Hello.'], options: { maxConnections: 2 } });
    const [first, second] = [connect(), connect()];
    expect([await first.opened(), await second.opened()]).toEqual([101, 101]);
    await expect(fetch(`${url.replace('ws', 'http')}/ping`)).rejects.toThrow();
    first.socket.terminate();
    await first.closed;
    await until(() => app.fastify.websocketServer.clients.size === 1);
    expect((await fetch(`${url.replace('ws', 'http')}/ping`)).status).toBe(200);
  });
});

describe('the end of the server', () => {
  it('closes idle sockets, and others when they are done', async () => {
    let release = () => {};
    const hold = new Promise<void>((resolve) => {
      release = resolve;
    });
    const busy = await open({ texts: ['Hello.'], hold });
    const idle = connect();
    await idle.opened();
    busy.send(create);
    await busy.ofType('response.output_text.delta');
    app.drain();
    expect(await idle.closed).toEqual({ code: 1001, reason: 'the server is shutting down' });
    busy.send({ ...create, stream_id: 'late' });
    expect(await busy.ofType('error')).toMatchObject({ code: 'draining', stream_id: 'late' });
    release();
    expect((await busy.closed).code).toBe(1001);
    expect(busy.heard.at(-1)?.type).toBe('response.completed');
  });

  it('does not wait for sockets that stay', async () => {
    const client = await open({ texts: ['Hello.'] });
    client.socket.pause();
    await app.fastify.close();
  });
});

describe('the upgrade', () => {
  it('needs a key, as a header or as a protocol', async () => {
    await listen({ texts: ['Hello.'], options: { apiKeys: ['k1'] } });
    const status = (options: object, protocols: string[] = []) =>
      connect('/v1/responses', options, protocols).opened();
    expect(await status({})).toBe(401);
    expect(await status({ headers: { authorization: 'Bearer k2' } })).toBe(401);
    expect(await status({ headers: { authorization: 'Bearer k1' } })).toBe(101);
    expect(await status({}, ['realtime', 'openai-insecure-api-key.k2'])).toBe(401);
    const page = connect('/v1/realtime', {}, ['realtime', 'openai-insecure-api-key.k1']);
    expect(await page.opened()).toBe(101);
    expect(page.socket.protocol).toBe('realtime');
  });

  it('checks Host and Origin', async () => {
    const options = { allowedHosts: ['127.0.0.1'], allowedOrigins: ['https://mine.example'] };
    await listen({ texts: ['Hello.'], options });
    const status = (headers: object) => connect('/v1/responses', { headers }).opened();
    expect(await status({ origin: 'https://other.example' })).toBe(403);
    expect(await status({ host: 'other.example' })).toBe(403);
    expect(await status({ origin: 'https://mine.example' })).toBe(101);
    expect(await status({})).toBe(101);
  });

  it('is open to every page with * among the origins', async () => {
    await listen({ texts: ['Hello.'], options: { allowedOrigins: ['*'] } });
    const page = connect('/v1/responses', { headers: { origin: 'https://any.example' } });
    expect(await page.opened()).toBe(101);
  });

  it('is said to be needed, and is only where there is a socket', async () => {
    await listen({ texts: ['Hello.'] });
    const answer = await fetch(`${url.replace('ws', 'http')}/v1/responses`);
    expect([answer.status, ((await answer.json()) as { error: { code: string } }).error.code]).toEqual([
      426,
      'upgrade_required',
    ]);
    expect(await connect('/v1/chat').opened()).toBe(404);
    expect(await connect('/v1/realtime?model=gpt-0').opened()).toBe(404);
  });
});
