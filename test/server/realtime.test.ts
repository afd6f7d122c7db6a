// /v1/realtime: a session of texts, its conversation and its answers; audio is refused by name.

import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { type AnsweringApp, type Answers, answeringApp } from './fake-answers.ts';
import { SocketClient } from './socket-client.ts';

let app: AnsweringApp;
let client: SocketClient;
afterEach(async () => {
  client.socket.terminate();
  await app.fastify.close();
});

async function open(answers: Answers, path = '/v1/realtime?model=test'): Promise<void> {
  app = await answeringApp(answers);
  await app.fastify.listen({ port: 0, host: '127.0.0.1' });
  const { port } = app.fastify.server.address() as AddressInfo;
  client = new SocketClient(`ws://127.0.0.1:${port}${path}`);
  expect(await client.opened()).toBe(101);
}

const say = (text: string, more = {}) =>
  client.send({
    type: 'conversation.item.create',
    item: { type: 'message', role: 'user', content: [{ type: 'input_text', text }] },
    ...more,
  });
const answered = (count = 1) =>
  client.find(() => client.heard.filter(({ type }) => type === 'response.done').length >= count);
const last = (type: string) => client.heard.findLast((event) => event.type === type);
const never = new Promise<void>(() => {});

const call = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>';
const tool = { type: 'function', name: 'f', parameters: { type: 'object' } };

describe('/v1/realtime', () => {
  it('greets, and is updated', async () => {
    await open({ texts: ['Hello.'] });
    const { session, event_id: id } = await client.ofType('session.created');
    expect(id).toMatch(/^event_/);
    expect(session).toMatchObject({
      type: 'realtime',
      model: 'test',
      output_modalities: ['text'],
      tools: [],
    });
    client.send({
      type: 'session.update',
      session: { type: 'realtime', instructions: 'Be kind.', tools: [tool] },
    });
    const updated = await client.ofType('session.updated');
    expect(updated.session).toEqual({ ...(session as object), instructions: 'Be kind.', tools: [tool] });
  });

  it('answers a conversation, in the events of the Realtime API', async () => {
    await open({ texts: ['Hello.', 'Again.'], sizes: () => 100 });
    client.send({ type: 'session.update', session: { instructions: 'Be kind.' } });
    say('Hi');
    client.send({ type: 'response.create', response: { metadata: { a: 'b' } } });
    await answered();
    expect(client.heard.map(({ type }) => type)).toEqual([
      'session.created',
      'session.updated',
      'conversation.item.added',
      'conversation.item.done',
      'response.created',
      'response.output_item.added',
      'conversation.item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'conversation.item.done',
      'response.done',
    ]);
    const { response } = last('response.done') as unknown as { response: Record<string, unknown> };
    expect(response).toMatchObject({
      object: 'realtime.response',
      status: 'completed',
      status_details: null,
      metadata: { a: 'b' },
      max_output_tokens: 'inf',
      output: [
        { object: 'realtime.item', type: 'message', content: [{ type: 'output_text', text: 'Hello.' }] },
      ],
      usage: { input_tokens: 3, output_tokens: 6, total_tokens: 9, input_token_details: { text_tokens: 3 } },
    });
    const inside = client.heard.filter(({ type }) => /^response\.(output|content)/.test(type));
    expect(new Set(inside.map((event) => event.response_id))).toEqual(new Set([response.id]));
    expect(last('response.content_part.done')?.part).toEqual({ type: 'text', text: 'Hello.' });
    expect(new Set(client.heard.map((event) => event.event_id)).size).toBe(client.heard.length);
    say('Once more');
    client.send({ type: 'response.create' });
    await answered(2);
    expect(app.prompts[1].messages).toMatchObject([
      { role: 'system', content: 'Be kind.' },
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Hello.' },
      { role: 'user', content: 'Once more' },
    ]);
  });

  it('calls functions', async () => {
    await open({ texts: [call, 'Done.'] });
    client.send({ type: 'session.update', session: { tools: [tool] } });
    say('Hi');
    client.send({ type: 'response.create' });
    await answered();
    const done = last('response.function_call_arguments.done') as Record<string, unknown> & object;
    expect(done).toMatchObject({
      name: 'f',
      arguments: '{"a": 1}',
      call_id: expect.stringMatching(/^call_/),
    });
    const output = { type: 'function_call_output', call_id: done.call_id, output: 'ok' };
    client.send({ type: 'conversation.item.create', item: output });
    client.send({ type: 'response.create' });
    await answered(2);
    expect(app.prompts[1].messages).toMatchObject([
      { role: 'user' },
      { role: 'assistant', tool_calls: [{}] },
      { role: 'tool', content: 'ok' },
    ]);
  });

  it('answers beside the conversation, with an input of its own', async () => {
    await open({ texts: ['Hello.'] });
    say('Hi');
    const input = [{ type: 'message', role: 'user', content: [{ type: 'input_text', text: 'Other' }] }];
    client.send({ type: 'response.create', response: { conversation: 'none', input, max_output_tokens: 5 } });
    await answered();
    expect(app.prompts[0].messages).toMatchObject([{ content: 'Other' }]);
    expect(app.engine.requests[0].sampling.maxTokens).toBe(5);
    expect(client.heard.filter(({ type }) => type === 'conversation.item.added')).toHaveLength(1);
  });

  it('answers one at a time, and stops when told to', async () => {
    await open({ texts: ['Hello.'], hold: never });
    say('Hi');
    client.send({ type: 'response.create' });
    await client.ofType('response.output_text.delta');
    client.send({ type: 'response.create', event_id: 'second' });
    expect(await client.ofType('error')).toMatchObject({ error: { param: 'response', event_id: 'second' } });
    client.send({ type: 'response.cancel' });
    await answered();
    expect(last('response.done')).toMatchObject({
      response: { status: 'cancelled', status_details: { type: 'cancelled', reason: 'client_cancelled' } },
    });
    client.send({ type: 'response.cancel' });
    await client.find(({ error }) => (error as { code?: string })?.code === 'response_not_found');
  });

  it('keeps items in order, finds and deletes them', async () => {
    await open({ texts: ['Hello.'] });
    const item = (id: string) => ({
      id,
      type: 'message',
      role: 'user',
      content: [{ type: 'input_text', text: id }],
    });
    const put = (id: string, more = {}) =>
      client.send({ type: 'conversation.item.create', item: item(id), ...more });
    put('b');
    put('a', { previous_item_id: 'root' });
    put('c', { previous_item_id: 'b' });
    client.send({ type: 'conversation.item.retrieve', item_id: 'a' });
    expect(await client.ofType('conversation.item.retrieved')).toMatchObject({ item: { id: 'a' } });
    client.send({ type: 'conversation.item.delete', item_id: 'b' });
    await client.ofType('conversation.item.deleted');
    const previous = client.heard.filter(({ type }) => type === 'conversation.item.added');
    expect(previous.map((event) => event.previous_item_id)).toEqual([null, null, 'b']);
    client.send({ type: 'response.create' });
    await answered();
    expect(app.prompts[0].messages).toMatchObject([{ content: 'a' }, { content: 'c' }]);
  });

  it('has room for as much as a body may be', async () => {
    await open({ texts: ['Hello.'], options: { bodyLimitBytes: 2000 } });
    for (let i = 0; i < 3; i++) say('x'.repeat(800));
    expect(await client.ofType('error')).toMatchObject({ error: { param: 'item' } });
    expect(client.heard.filter(({ type }) => type === 'conversation.item.done')).toHaveLength(2);
  });

  const message = (part: object) => ({ type: 'message', role: 'user', content: [part] });
  it.each([
    [{ type: 'input_audio_buffer.append', audio: '' }, 'type'],
    [{ type: 'conversation.item.truncate', item_id: 'x' }, 'type'],
    [{ type: 'session.updates' }, 'type'],
    [{ type: 'session.update' }, 'session'],
    [{ type: 'session.update', session: { output_modalities: ['audio'] } }, 'session.output_modalities'],
    [{ type: 'session.update', session: { audio: { input: {} } } }, 'session.audio'],
    [{ type: 'session.update', session: { type: 'transcription' } }, 'session.type'],
    [{ type: 'session.update', session: { model: 'another' } }, 'session.model'],
    [{ type: 'response.create', response: { output_modalities: ['text', 'audio'] } }, 'response.output_modalities'],
    [{ type: 'response.create', response: { max_output_tokens: 0 } }, 'response.max_output_tokens'],
    [{ type: 'response.create', response: { tools: [{ type: 'mcp' }], input: [message({ type: 'text', text: 'x' })] } }, 'tools.0.type'],
    [{ type: 'conversation.item.create', item: message({ type: 'input_audio', audio: '' }) }, 'item.content.0'],
    [{ type: 'conversation.item.create', item: message({ type: 'text', text: 'x' }), previous_item_id: 'x' }, 'previous_item_id'],
    [{ type: 'conversation.item.retrieve', item_id: 'x' }, 'item_id'],
    [{ type: 'conversation.item.delete', item_id: 'x' }, 'item_id'],
    [{ type: 'response.create' }, 'input'],
  ])('refuses %j', async (event, param) => {
    await open({ texts: ['Hello.'] });
    client.send({ ...event, event_id: 'mine' });
    const { error } = await client.ofType('error');
    expect(error).toMatchObject({ type: 'invalid_request_error', param, event_id: 'mine' });
  }); // biome-ignore format: a line a case
});
