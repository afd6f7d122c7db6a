// OpenAI's own WebSocket clients against a real server: responses, several at once, and a realtime session.

import OpenAI from 'openai';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';
import type { ResponsesServerEvent } from 'openai/resources/responses/responses';
import { ResponsesWS } from 'openai/resources/responses/ws';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServerProcess, startServer } from './server-process.ts';

const answer = 'I am quire-demo, a tiny language model that ships with quire to show that it works.';
const ask = { model: 'quire-demo', temperature: 0, input: 'Who are you?' };

describe("openai's WebSocket clients", () => {
  let server: ServerProcess;
  let client: OpenAI;
  beforeAll(async () => {
    server = await startServer(null, ['--served-model-name', 'quire-demo', '--api-key', 'key']);
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'key', maxRetries: 0 });
  });
  afterAll(() => server.stop());

  it('get responses, several at once and one after another', async () => {
    const socket = new ResponsesWS(client);
    const texts: string[] = [];
    const ids: string[] = [];
    for (let i = 0; i < 4; i++) socket.send({ type: 'response.create', ...ask });
    for await (const event of socket.stream()) {
      if (event.type === 'error') throw event.error;
      if (event.type !== 'message') continue;
      const message = event.message as ResponsesServerEvent;
      if (message.type === 'response.output_text.done') texts.push(message.text);
      if (message.type !== 'response.completed') continue;
      ids.push(message.response.id);
      if (ids.length === 4) {
        const next = { ...ask, previous_response_id: message.response.id };
        socket.send({ type: 'response.create', ...next });
      }
      if (ids.length === 5) break;
    }
    expect(texts.slice(0, 4)).toEqual([answer, answer, answer, answer]);
    expect(new Set(ids).size).toBe(5);
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.close();
    await closed;
  });

  it('hold a realtime conversation', async () => {
    // The client knows no other scheme than wss: where it connects is changed on the way.
    const { hostname, port } = new URL(server.url);
    const { createConnection } = await import('node:net');
    const realtime = new OpenAIRealtimeWS(
      {
        model: 'quire-demo',
        options: { createConnection: () => createConnection(Number(port), hostname) },
      } as never,
      client,
    );
    const done = new Promise<string>((resolve, reject) => {
      let text = '';
      realtime.on('error', reject);
      realtime.on('response.output_text.delta', ({ delta }) => {
        text += delta;
      });
      realtime.on('response.done', () => resolve(text));
      realtime.on('session.created', () => {
        realtime.send({ type: 'session.update', session: { type: 'realtime', temperature: 0 } as never });
        const content = [{ type: 'input_text' as const, text: ask.input }];
        realtime.send({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content } });
        realtime.send({ type: 'response.create' });
      });
    });
    expect(await done).toBe(answer);
    realtime.close();
  });

  it('are closed with 1001 when the server ends', async () => {
    const socket = new ResponsesWS(client);
    const opened = new Promise((resolve) => socket.socket.on('open', () => resolve(null)));
    const closed = new Promise<number>((resolve) => socket.on('close', (code) => resolve(code)));
    await opened;
    expect(await server.stop()).toBe(0);
    expect(await closed).toBe(1001);
  });
});
