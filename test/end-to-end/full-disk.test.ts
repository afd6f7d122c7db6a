// A disk that is really full: a small file system of the server's own, filled by somebody else. What needs
// the store says so, what does not goes on, and all is well when there is room again.

import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { form, line } from '../server/batch-client.ts';
import { type ServerProcess, startServer } from './server-process.ts';

const folder = mkdtempSync(join(tmpdir(), 'quire-full-'));
/** Runs a command with 28 MiB of memory for a disk, which nobody else sees. */
const ownDisk = [
  'unshare', '--map-root-user', '--mount',
  'sh', '-c', 'mount -t tmpfs -o size=28m tmpfs "$0" && exec "$@"', folder,
]; // biome-ignore format: a command
const canMount = spawnSync(ownDisk[0], [...ownDisk.slice(1), 'true']).status === 0;

let server: ServerProcess;
/** The file that takes all the room, seen through the process. */
let filler: string;

beforeAll(async () => {
  if (!canMount) return;
  const store = ['--store', join(folder, 'store.db')];
  const flags = ['--backend', 'null', '--null-step-time', '1', '--log-level', 'error', ...store];
  server = await startServer(null, flags, {}, ownDisk);
  filler = `/proc/${server.process.pid}/root${folder}/filler`;
});
afterAll(async () => {
  if (canMount) expect(await server.stop()).toBe(0);
  rmdirSync(folder);
});

function fillDisk(): void {
  writeFileSync(filler, '');
  for (let size = 64 * 1024; size > 0; size >>= 1) {
    try {
      for (;;) appendFileSync(filler, Buffer.alloc(size));
    } catch {
      // Smaller pieces may still fit.
    }
  }
}

async function ask(method: string, path: string, body?: object) {
  const answer = await fetch(server.url + path, {
    method,
    headers: body === undefined ? {} : { 'content-type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  return { status: answer.status, text, json: () => JSON.parse(text) };
}

async function upload(content: string | Buffer) {
  const { url, headers, payload } = form(content);
  const answer = await fetch(server.url + url, { method: 'POST', headers, body: payload });
  return { status: answer.status, body: JSON.parse(await answer.text()) };
}

const input = { input: 'Hi', max_output_tokens: 4 };
const full = { error: { code: 'store_full', type: 'server_error' } };
const createBatch = (id: string) =>
  ask('POST', '/v1/batches', { input_file_id: id, endpoint: '/v1/completions', completion_window: '24h' });

describe.skipIf(!canMount)('a full disk', () => {
  let inputId = '';
  let storedId = '';

  it('stores while there is room', async () => {
    const lines = Array.from({ length: 50 }, (_, i) => line(`id-${i}`, { prompt: 'Hi', max_tokens: 4 }));
    inputId = (await upload(lines.join('\n'))).body.id;
    storedId = (await ask('POST', '/v1/responses', input)).json().id;
  });

  it('leaves room to delete something', async () => {
    const { status, body } = await upload(Buffer.alloc(30_000_000, 120));
    expect([status, body]).toMatchObject([507, full]);
    const ids = [];
    for (let last = await upload(Buffer.alloc(500_000)); ; last = await upload(Buffer.alloc(500_000))) {
      if (last.status !== 200) break;
      ids.push(last.body.id);
    }
    expect(ids.length).toBeGreaterThan(2);
    for (const id of ids) expect((await ask('DELETE', `/v1/files/${id}`)).status).toBe(200);
    while ((await upload(Buffer.alloc(500_000))).status !== 200);
  });

  it('is said to who stores something, and to nobody else', async () => {
    fillDisk();
    // What was freed inside the store has room left.
    for (const size of [1_000_000, 20_000]) while ((await upload(Buffer.alloc(size))).status !== 507);
    const refused = [
      await upload('x'),
      await ask('POST', '/v1/responses', input),
      await ask('POST', '/v1/responses', { ...input, background: true }),
      await createBatch(inputId),
    ];
    expect(refused.map((answer) => answer.status)).toEqual([507, 507, 507, 507]);
    const stream = await ask('POST', '/v1/responses', { ...input, stream: true });
    expect(stream.text.trim().split('\n\n').at(-1)).toMatch(/^event: response.failed\n.*the store is full/);
    const answered = [
      await ask('POST', '/v1/responses', { ...input, store: false }),
      await ask('POST', '/v1/completions', { prompt: 'Hi', max_tokens: 4 }),
      await ask('GET', `/v1/responses/${storedId}`),
      await ask('GET', `/v1/files/${inputId}/content`),
      await ask('GET', '/health'),
    ];
    expect(answered.map((answer) => answer.status)).toEqual([200, 200, 200, 200, 200]);
    expect(server.output()).not.toContain('request failed');
  });

  it('is forgotten when there is room again', async () => {
    rmSync(filler);
    expect((await upload('x')).status).toBe(200);
    const { id } = (await ask('POST', '/v1/responses', input)).json();
    expect((await ask('GET', `/v1/responses/${id}`)).status).toBe(200);
    const batch = (await createBatch(inputId)).json();
    for (let status = ''; status !== 'completed'; ) {
      const now = (await ask('GET', `/v1/batches/${batch.id}`)).json();
      status = now.status;
      expect(now.errors).toBeNull();
    }
  });

  it('loses no line of a batch, and runs none twice', async () => {
    const numLines = 64;
    // Some are done soon; the others run for a second, in which the disk is filled.
    const lines = Array.from({ length: numLines }, (_, i) =>
      line(`id-${i}`, { prompt: 'Hi', max_tokens: i < 8 ? 4 : 1000 }),
    );
    const { id } = (await createBatch((await upload(lines.join('\n'))).body.id)).json();
    const get = async () => (await ask('GET', `/v1/batches/${id}`)).json();
    while ((await get()).request_counts.completed === 0);
    fillDisk();
    const isHeld = () => server.output().includes('a batch could not go on');
    while (!isHeld() && (await get()).status === 'in_progress');
    rmSync(filler);
    let batch = await get();
    while (!['completed', 'failed'].includes(batch.status)) batch = await get();
    // It fails where that could be written, and else goes on.
    if (batch.status === 'failed') expect(batch.errors.data[0].code).toBe('store_full');
    else expect(batch.request_counts.completed).toBe(numLines);
    const { text } = await ask('GET', `/v1/files/${batch.output_file_id}/content`);
    const ids = text
      .trimEnd()
      .split('\n')
      .map((answer) => JSON.parse(answer).custom_id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.length).toBe(batch.request_counts.completed);
  });
});
