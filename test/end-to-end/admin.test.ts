// The routes behind --enable-admin against a real process: what they promise of requests, steps and memory.

import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServerProcess, startServer } from './server-process.ts';

const key = 'of-an-operator';
const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
/** One thread, slow enough to be met in the middle; a cache of which every token takes 4 KiB. */
const flags = ['--enable-admin', '--api-key', key, '--threads', '1'];
const cache = ['--kv-cache-memory', '80MiB', '--kv-cache-dtype', 'float32', '--shutdown-timeout', '60'];

let server: ServerProcess;
beforeAll(async () => {
  server = await startServer(null, [...flags, ...cache]);
});
afterAll(() => server.process.kill('SIGKILL'));

async function call(method: string, path: string, body?: object, more: Record<string, string> = {}) {
  const answer = await fetch(server.url + path, {
    method,
    headers: body === undefined ? { authorization: headers.authorization } : { ...headers, ...more },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { status: answer.status, json: (await answer.json()) as Record<string, never> };
}

const post = async (path: string) => (await call('POST', path)).json;
const get = async (path: string) => (await call('GET', path)).json;

const prompt = (first: number, length: number) =>
  Array.from({ length }, (_, i) => 300 + ((first + i) % 1500));

async function complete(body: object, id = 'any'): Promise<{ text: string; finish: string; cached: number }> {
  const { json } = await call('POST', '/v1/completions', { temperature: 0, ...body }, { 'x-request-id': id });
  const { choices, usage } = json as unknown as {
    choices: [{ text: string; finish_reason: string }];
    usage: { prompt_tokens_details: { cached_tokens: number } };
  };
  const [{ text, finish_reason: finish }] = choices;
  return { text, finish, cached: usage.prompt_tokens_details.cached_tokens };
}

/** Tokens that take a while: how many were made so far says whether steps go on. */
const long = { prompt: 'Once', max_tokens: 1500, ignore_eos: true };

async function metric(name: string, labels = ''): Promise<number> {
  const answer = await fetch(`${server.url}/metrics`, { headers });
  const line = new RegExp(`^vllm:${name}\\{[^}]*${labels}[^}]*\\} (\\S+)$`, 'm');
  return Number(line.exec(await answer.text())?.[1]);
}

const untilRunning = async () => {
  const before = await metric('generation_tokens_total');
  while ((await metric('generation_tokens_total')) === before)
    await new Promise((done) => setTimeout(done, 5));
};

/** Bytes of memory that are the process's own. */
function ownBytes(): number {
  const rollup = readFileSync(`/proc/${server.process.pid}/smaps_rollup`, 'utf8');
  return 1024 * Number(/^Anonymous:\s+(\d+) kB$/m.exec(rollup)?.[1]);
}

it('takes the type of a body that is not there', async () => {
  const type = { ...headers, 'content-length': '0' };
  expect((await fetch(`${server.url}/resume`, { method: 'POST', headers: type, body: '' })).status).toBe(200);
  expect((await fetch(`${server.url}/abort`, { method: 'POST', headers: type, body: '' })).status).toBe(400);
});

it('wants a key', async () => {
  for (const path of ['abort', 'pause', 'resume', 'sleep', 'wake_up', 'reset_prefix_cache']) {
    expect((await fetch(`${server.url}/${path}`, { method: 'POST' })).status).toBe(401);
  }
});

describe('/pause', () => {
  it('starts no step, keeps what is under way, and queues what comes', async () => {
    const whole = await complete({ ...long, max_tokens: 300 });
    const running = complete({ ...long, max_tokens: 300 });
    await untilRunning();
    expect(await post('/pause')).toEqual({ status: 'paused' });
    expect(await get('/is_paused')).toEqual({ is_paused: true });
    expect(await get('/health')).toEqual({ status: 'paused' });
    const tokens = await metric('generation_tokens_total');
    const queued = complete({ prompt: 'Hi', max_tokens: 1 });
    // What waits is counted although no step would say so.
    while ((await metric('num_requests_waiting')) !== 1) await new Promise((done) => setTimeout(done, 20));
    expect(await metric('generation_tokens_total')).toBe(tokens);
    expect(await post('/resume')).toEqual({ status: 'resumed' });
    expect(await running).toMatchObject({ text: whole.text, finish: 'length' });
    expect((await queued).finish).toBe('length');
    expect(await get('/health')).toEqual({});
  });

  it('ends what is under way when told to', async () => {
    const running = complete(long);
    await untilRunning();
    await post('/pause?mode=abort');
    expect((await running).finish).toBe('abort');
    await post('/resume');
    const refused = await call('POST', '/pause?mode=wait');
    expect([refused.status, refused.json.error]).toMatchObject([400, { param: 'mode' }]);
  });
});

it('/abort ends requests by id, by the id of the answer, and all', async () => {
  const endings = [
    [{ request_ids: ['mine'] }, 1],
    [{ rid: 'cmpl-mine' }, 1],
    [{ abort_all: true }, 1],
    [{ request_ids: ['another'] }, 0],
  ] as const;
  for (const [body, count] of endings) {
    const running = complete({ ...long, max_tokens: count === 0 ? 50 : 1500 }, 'mine');
    await untilRunning();
    const { json } = await call('POST', '/abort', body);
    expect(json).toEqual({ status: 'ok', num_aborted: count });
    expect((await running).finish).toBe(count === 0 ? 'length' : 'abort');
  }
  const refused = await call('POST', '/abort', {});
  expect([refused.status, refused.json.error]).toMatchObject([400, { param: 'request_ids' }]);
});

it('/reset_prefix_cache forgets when nothing is held, and says so when something is', async () => {
  const asked = { prompt: prompt(0, 64), max_tokens: 1 };
  await complete(asked);
  expect((await complete(asked)).cached).toBe(48);
  const running = complete(long, 'held');
  await untilRunning();
  const refused = await call('POST', '/reset_prefix_cache');
  expect(refused.status).toBe(409);
  expect(refused.json.error).toMatchObject({
    code: 'conflict',
    message: expect.stringMatching(/^\d+ of \d+ KV/),
  });
  await call('POST', '/abort', { request_ids: ['held'] });
  await running;
  let answer = await call('POST', '/reset_prefix_cache');
  // The client hears of the end a step before the blocks are free.
  while (answer.status === 409) answer = await call('POST', '/reset_prefix_cache');
  expect(answer.json).toEqual({ success: true });
  expect((await complete(asked)).cached).toBe(0);
});

it('/sleep gives the cache’s memory back; what waits is answered after /wake_up', async () => {
  for (let i = 0; i < 9; i++) await complete({ prompt: prompt(37 * i, 1900), max_tokens: 1 });
  const whole = await complete({ ...long, max_tokens: 200 });
  const before = ownBytes();
  const running = complete({ ...long, max_tokens: 200 });
  await untilRunning();
  expect(await post('/sleep?level=1')).toEqual({ status: 'sleeping' });
  expect(before - ownBytes()).toBeGreaterThan(50 * 2 ** 20);
  expect(await get('/is_sleeping')).toEqual({ is_sleeping: true });
  expect(await get('/health')).toEqual({ status: 'sleeping' });
  expect(await metric('engine_sleep_state', 'weights_offloaded')).toBe(1);
  const queued = complete({ prompt: prompt(0, 64), max_tokens: 1 });
  expect(await post('/wake_up')).toEqual({ status: 'awake' });
  expect((await running).text).toBe(whole.text);
  expect((await queued).cached).toBe(0);
  expect(await metric('engine_sleep_state', 'awake')).toBe(1);
  expect((await call('POST', '/sleep?level=2')).json.error).toMatchObject({ param: 'level' });
});

it('drains while paused and asleep', async () => {
  const running = complete({ ...long, max_tokens: 100 });
  await untilRunning();
  await post('/pause');
  await post('/sleep');
  const exit = server.stop();
  expect((await running).finish).toBe('length');
  expect(await exit).toBe(0);
});
