// Responses that are kept: found, listed, run in the background, cancelled, deleted; and what is refused.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { eventsOf } from './fake-answers.ts';
import { ResponsesClient } from './responses-client.ts';

const client = new ResponsesClient();
afterEach(() => client.close());
const start = (...texts: string[]) => client.open({ texts });
const create = (fields: object) => client.create(fields);

const tool = { type: 'function', name: 'f', parameters: { type: 'object' }, strict: false };

describe('stored responses', () => {
  it('are found again with their input, page by page', async () => {
    await start('One.');
    const input = ['a', 'b', 'c'].map((content) => ({ role: 'user', content }));
    const { id } = await create({ input });
    expect((await client.send('GET', `/${id}`)).json()).toMatchObject({ id, status: 'completed' });
    const text = (page: { data: Array<{ content: Array<{ text: string }> }> }) =>
      page.data.map(({ content }) => content[0].text).join('');
    const first = (await client.send('GET', `/${id}/input_items?limit=2`)).json();
    expect([text(first), first.has_more]).toEqual(['cb', true]);
    const second = (await client.send('GET', `/${id}/input_items?limit=2&after=${first.last_id}`)).json();
    expect([text(second), second.has_more]).toEqual(['a', false]);
    expect(text((await client.send('GET', `/${id}/input_items?order=asc`)).json())).toBe('abc');
    expect((await client.send('GET', `/${id}/input_items?after=x`)).json().error.param).toBe('after');
  });

  it('are not there with store false', async () => {
    await start('One.');
    const { id } = await create({ store: false });
    expect((await client.send('GET', `/${id}`)).statusCode).toBe(404);
  });

  it('belong to the key that made them', async () => {
    await client.open({ texts: ['One.'], options: { apiKeys: ['a', 'b'] } });
    const of = (key: string) => ({ authorization: `Bearer ${key}` });
    const { id, output } = (await client.send('POST', '', { input: 'Hi' }, of('a'))).json();
    expect((await client.send('GET', `/${id}`, undefined, of('a'))).statusCode).toBe(200);
    for (const [method, path] of [
      ['GET', ''],
      ['GET', '/input_items'],
      ['GET', '?stream=true'],
      ['POST', '/cancel'],
      ['DELETE', ''],
    ] as const) {
      const answer = await client.send(method, `/${id}${path}`, undefined, of('b'));
      expect(answer.statusCode, `${method} ${path}`).toBe(404);
      expect(answer.json().error.code).toBe('response_not_found');
    }
    const reference = { type: 'item_reference', id: output[0].id };
    expect((await client.send('POST', '', { input: [reference] }, of('b'))).json().error.param).toBe(
      'input.0.id',
    );
    expect(
      (await client.send('POST', '', { input: 'x', previous_response_id: id }, of('b'))).statusCode,
    ).toBe(400);
  });

  it('make room for newer ones', async () => {
    await client.open({ texts: ['x'.repeat(1000)], options: { responsesLimitBytes: 20_000 } });
    const ids: string[] = [];
    for (let i = 0; i < 20; i++) ids.push((await create({})).id);
    const found = await Promise.all(ids.map(async (id) => (await client.send('GET', `/${id}`)).statusCode));
    expect(found[0]).toBe(404);
    expect(found.at(-1)).toBe(200);
    expect(found.indexOf(200)).toBeGreaterThan(5);
    // The newest stays, even one that is larger than all the room.
    const { id } = await create({ input: 'y'.repeat(50_000) });
    expect((await client.send('GET', `/${id}`)).statusCode).toBe(200);
    expect((await client.send('GET', `/${ids.at(-1)}`)).statusCode).toBe(404);
  });
});

describe('the room of several keys', () => {
  it('is not taken by one that stores much from one that stores little', async () => {
    const options = { responsesLimitBytes: 20_000, apiKeys: ['much', 'little'] };
    await client.open({ texts: ['x'.repeat(1000)], options });
    const of = (key: string) => ({ authorization: `Bearer ${key}` });
    const store = async (key: string) =>
      (await client.send('POST', '', { input: 'Hi' }, of(key))).json().id as string;
    const status = async (key: string, id: string) =>
      (await client.send('GET', `/${id}`, undefined, of(key))).statusCode;
    const kept = [await store('little'), await store('little')];
    const ids: string[] = [];
    for (let i = 0; i < 30; i++) ids.push(await store('much'));
    expect(await Promise.all(kept.map((id) => status('little', id)))).toEqual([200, 200]);
    expect([await status('much', ids[0]), await status('much', ids[29])]).toEqual([404, 200]);
    // Who had all of the room gives what another needs for its share.
    const share = [...kept];
    for (let i = 0; i < 2; i++) share.push(await store('little'));
    expect(await Promise.all(share.map((id) => status('little', id)))).toEqual([200, 200, 200, 200]);
  });
});

describe('a background response', () => {
  const heldBack = () => {
    let release = () => {};
    const hold = new Promise<void>((resolve) => {
      release = resolve;
    });
    return { hold, release: () => release() };
  };
  const untilOver = async (id: string) => {
    for (;;) {
      const now = (await client.send('GET', `/${id}`)).json();
      if (now.status !== 'queued' && now.status !== 'in_progress') return now;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };

  it('is answered at once and goes on', async () => {
    const { hold, release } = heldBack();
    await client.open({ texts: ['Hello.'], hold });
    const { id, status, background } = await create({ background: true });
    expect([status, background]).toEqual(['queued', true]);
    const early = await client.send('POST', '', { input: 'x', previous_response_id: id });
    expect(early.json().error.param).toBe('previous_response_id');
    release();
    expect(await untilOver(id)).toMatchObject({
      status: 'completed',
      output: [{ content: [{ text: 'Hello.' }] }],
    });
  });

  it('is cancelled with what it has, once', async () => {
    await client.open({ texts: ['Hello.'], hold: new Promise(() => {}) });
    const { id } = await create({ background: true });
    const cancelled = (await client.send('POST', `/${id}/cancel`)).json();
    expect(cancelled).toMatchObject({ id, status: 'cancelled' });
    expect((await client.send('POST', `/${id}/cancel`)).json()).toEqual(cancelled);
    expect((await client.send('GET', `/${id}`)).json()).toEqual(cancelled);
  });

  it('streams from any of its events, while it runs and afterwards', async () => {
    const { hold, release } = heldBack();
    await client.open({ texts: ['Hello.'], hold });
    const live = client.streamed({ background: true });
    while (client.app.engine.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    release();
    const events = await live;
    const types = events.map(({ type }) => type);
    expect(types.slice(0, 3)).toEqual(['response.created', 'response.queued', 'response.in_progress']);
    expect(types.at(-1)).toBe('response.completed');
    const { id } = (events[0] as unknown as { response: { id: string } }).response;
    const replay = async (query: string) =>
      eventsOf((await client.send('GET', `/${id}?stream=true${query}`)).body);
    expect(await replay('')).toEqual(events);
    expect(await replay('&starting_after=4')).toEqual(events.slice(5));
    expect(await replay('&starting_after=1000')).toEqual([]);
  });

  it('cannot be streamed or cancelled when it is none', async () => {
    await start('Hello.');
    const { id } = await create({});
    expect((await client.send('GET', `/${id}?stream=true`)).json().error.param).toBe('stream');
    expect((await client.send('POST', `/${id}/cancel`)).json().error.param).toBe('response_id');
    expect((await client.send('POST', '', { input: 'x', background: true, store: false })).statusCode).toBe(
      400,
    );
  });

  it('is deleted while it runs', async () => {
    await client.open({ texts: ['Hello.'], hold: new Promise(() => {}) });
    const { id } = await create({ background: true });
    expect((await client.send('DELETE', `/${id}`)).statusCode).toBe(200);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect((await client.send('GET', `/${id}`)).statusCode).toBe(404);
  });

  it('has failed when its server ended before it did', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'quire-responses-'));
    const options = { storePath: join(folder, 'store.db') };
    await client.open({ texts: ['Hello.'], hold: new Promise(() => {}), options });
    const { id } = await create({ background: true, stream: false });
    // A copy of the file as a power cut would leave it.
    const { default: Sqlite } = await import('better-sqlite3');
    const copy = join(folder, 'copy.db');
    const running = new Sqlite(options.storePath, { readonly: true });
    await running.backup(copy);
    running.close();
    await client.send('POST', `/${id}/cancel`);
    await client.close();
    await client.open({ texts: ['Hello.'], options: { storePath: copy } });
    const left = (await client.send('GET', `/${id}`)).json();
    expect(left).toMatchObject({ id, status: 'failed', error: { code: 'server_error' } });
    // Nothing was written for that: a full disk keeps no server from starting.
    const found = new Sqlite(copy, { readonly: true });
    expect(found.prepare('SELECT status FROM responses').pluck().all()).not.toContain('failed');
    found.close();
    const events = eventsOf((await client.send('GET', `/${id}?stream=true&starting_after=7`)).body);
    expect(events).toMatchObject([{ type: 'response.failed', sequence_number: 8 }]);
    rmSync(folder, { recursive: true });
  });
});

describe('what is refused', () => {
  const message = (part: object) => [{ role: 'user', content: [part] }];
  it.each([
    ['no input', { input: undefined }, 'input'],
    ['an empty input', { input: [] }, 'input'],
    ['an image', { input: message({ type: 'input_image', image_url: 'x' }) }, 'input.0.content.0'],
    ['a file', { input: message({ type: 'input_file', file_id: 'x' }) }, 'input.0.content.0'],
    ['an item of a hosted tool', { input: [{ type: 'web_search_call', id: 'x' }] }, 'input.0.type'],
    ['a message without role', { input: [{ content: 'x' }] }, 'input.0.role'],
    ['a message without content', { input: [{ role: 'user' }] }, 'input.0.content'],
    [
      'a call without arguments',
      { input: [{ type: 'function_call', call_id: 'x', name: 'f' }] },
      'input.0.arguments',
    ],
    [
      'arguments that are no object',
      { input: [{ type: 'function_call', call_id: 'x', name: 'f', arguments: '[' }] },
      'input.0.arguments',
    ],
    ['a reference to nothing', { input: [{ type: 'item_reference', id: 'msg_1' }] }, 'input.0.id'],
    ['web search', { tools: [{ type: 'web_search' }] }, 'tools.0.type'],
    ['a remote server of tools', { tools: [tool, { type: 'mcp', server_label: 'x' }] }, 'tools.1.type'],
    ['a tool without name', { tools: [{ type: 'function' }] }, 'tools.0.name'],
    ['a choice among none', { tool_choice: 'required' }, 'tool_choice'],
    [
      'an unknown choice',
      { tools: [tool], tool_choice: { type: 'function', name: 'g' } },
      'tool_choice.name',
    ],
    ['a hosted choice', { tools: [tool], tool_choice: { type: 'file_search' } }, 'tool_choice.type'],
    [
      'an allowed tool that is none',
      { tools: [tool], tool_choice: { type: 'allowed_tools', tools: [{ type: 'function', name: 'g' }] } },
      'tool_choice.tools.0.name',
    ],
    [
      'a format without schema',
      { text: { format: { type: 'json_schema', name: 'x' } } },
      'text.format.schema',
    ],
    ['an unknown format', { text: { format: { type: 'xml' } } }, 'text.format.type'],
    ['an unknown effort', { reasoning: { effort: 'huge' } }, 'reasoning.effort'],
    ['a conversation', { conversation: 'conv_1' }, 'conversation'],
    ['a stored prompt', { prompt: { id: 'x' } }, 'prompt'],
    ['an unknown include', { include: ['everything'] }, 'include.0'],
    ['no output tokens', { max_output_tokens: 0 }, 'max_output_tokens'],
    ['many alternatives', { top_logprobs: 65 }, 'top_logprobs'],
    ['a bias without a token', { logit_bias: { x: 1 } }, 'logit_bias'],
    ['an unknown model', { model: 'gpt-0' }, 'model'],
  ])('%s', async (_name, fields, param) => {
    await start('Hello.');
    const answer = await client.send('POST', '', { input: 'Hi', ...fields });
    expect(answer.json().error).toMatchObject({ param });
    expect([400, 404]).toContain(answer.statusCode);
    expect(answer.json().error.message).toContain(param);
  });

  it.each([
    ['GET', '/x?starting_after=-1&stream=true', 400],
    ['GET', '/x/input_items?limit=101', 400],
    ['GET', '/x/input_items?order=up', 400],
    ['GET', '/x', 404],
    ['DELETE', '/x', 404],
    ['POST', '/x/cancel', 404],
    ['DELETE', '', 405],
  ] as const)('%s %s: %i', async (method, path, status) => {
    await start('Hello.');
    expect((await client.send(method, path)).statusCode).toBe(status);
  });
});
