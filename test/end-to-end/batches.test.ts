// Batches by OpenAI's own client, against a process that is killed again and again.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI, { toFile } from 'openai';
import { afterAll, afterEach, expect, it } from 'vitest';
import { randomInts } from '../engine/random.ts';
import { type ServerProcess, startServer } from './server-process.ts';

const folder = mkdtempSync(join(tmpdir(), 'quire-batches-'));
afterAll(() => rmSync(folder, { recursive: true }));

let server: ServerProcess | null = null;
afterEach(() => {
  server?.process.kill('SIGKILL');
  server = null;
});

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const clientOf = ({ url }: ServerProcess) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });

async function start(...flags: string[]) {
  server = await startServer(null, ['--log-level', 'warn', ...flags]);
  return { server, client: clientOf(server) };
}

const chatLine = (customId: string, content: string, more: object = {}) =>
  JSON.stringify({
    custom_id: customId,
    method: 'POST',
    url: '/v1/chat/completions',
    body: { messages: [{ role: 'user', content }], temperature: 0, ...more },
  });

async function create(client: OpenAI, content: string) {
  const file = await client.files.create({
    file: await toFile(Buffer.from(content), 'input.jsonl'),
    purpose: 'batch',
  });
  return client.batches.create({
    input_file_id: file.id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
    metadata: { what: 'test' },
  });
}

async function ended(client: OpenAI, id: string): Promise<OpenAI.Batch> {
  for (;;) {
    const batch = await client.batches.retrieve(id);
    if (['completed', 'failed', 'expired', 'cancelled'].includes(batch.status)) return batch;
    await sleep(50);
  }
}

async function answersOf(client: OpenAI, id: string | null | undefined) {
  if (id == null) return [];
  const text = await (await client.files.content(id)).text();
  return text
    .trimEnd()
    .split('\n')
    .map((answer) => JSON.parse(answer));
}

it('answers the client as the same requests one by one would be', async () => {
  const { client } = await start();
  const questions = ['Who are you?', 'How do I set an API key?'];
  const input = questions.map((question, i) => chatLine(`q${i}`, question)).join('\n');
  const created = await create(client, input);
  expect(created).toMatchObject({ object: 'batch', status: 'validating', metadata: { what: 'test' } });
  const batch = await ended(client, created.id);
  expect(batch.status).toBe('completed');
  const answers = await answersOf(client, batch.output_file_id);
  for (const [i, content] of questions.entries()) {
    const alone = await client.chat.completions.create({
      model: 'quire-demo',
      messages: [{ role: 'user', content }],
      temperature: 0,
    });
    expect(answers[i].response.body.choices).toEqual(alone.choices);
  }
  const batches = [];
  for await (const one of client.batches.list({ limit: 1 })) batches.push(one.id);
  expect(batches).toEqual([created.id]);
  const files = [];
  for await (const file of client.files.list({ limit: 1, order: 'asc' })) files.push(file.id);
  expect(files).toEqual([batch.input_file_id, batch.output_file_id]);
  expect(await client.files.delete(batch.input_file_id)).toMatchObject({ deleted: true });
  await expect(client.files.retrieve(batch.input_file_id)).rejects.toThrow(OpenAI.NotFoundError);
});

it('loses and repeats nothing when the process is killed at any moment', async () => {
  const randomMs = randomInts(2026);
  const path = join(folder, 'killed.db');
  const flags = ['--store', path, '--backend', 'null', '--null-step-time', '2', '--max-num-seqs', '8'];
  const numLines = 600;
  const input = Array.from({ length: numLines }, (_, i) => chatLine(`id-${i}`, `Hi ${i}`, { max_tokens: 8 }));
  let { client } = await start(...flags);
  const { id } = await create(client, input.join('\n'));
  let numDone = 0;
  let numKilledEarly = 0;
  for (let i = 0; i < 5; i++) {
    await sleep(randomMs(30, 300));
    const before = await client.batches.retrieve(id);
    server?.process.kill('SIGKILL');
    if (before.status === 'completed') break;
    numKilledEarly++;
    ({ client } = await start(...flags));
    const after = (await client.batches.retrieve(id)).request_counts;
    // What a client was told is done stays done.
    expect(after?.completed).toBeGreaterThanOrEqual(before.request_counts?.completed ?? 0);
    expect(after?.completed).toBeGreaterThanOrEqual(numDone);
    numDone = after?.completed ?? 0;
  }
  expect(numKilledEarly).toBeGreaterThan(1);
  if (numKilledEarly < 5) ({ client } = await start(...flags));
  const batch = await ended(client, id);
  expect(batch).toMatchObject({
    status: 'completed',
    request_counts: { total: numLines, completed: numLines, failed: 0 },
  });
  const answers = await answersOf(client, batch.output_file_id);
  expect(answers.map(({ custom_id }) => custom_id)).toEqual(input.map((_, i) => `id-${i}`));
  expect(batch.usage?.output_tokens).toBe(8 * numLines);
});

it('answers who waits while lines fill every place', async () => {
  const flags = ['--backend', 'null', '--null-step-time', '5', '--max-num-seqs', '2'];
  const { client, server } = await start(...flags);
  const content = 'Hi';
  // Ten seconds at least.
  const input = Array.from({ length: 4 }, (_, i) => chatLine(`id-${i}`, content, { max_tokens: 1000 }));
  const { id } = await create(client, input.join('\n'));
  const numRunning = async () =>
    /^vllm:num_requests_running\{.*\} (\d+)/m.exec(await (await fetch(`${server.url}/metrics`)).text())?.[1];
  while ((await numRunning()) !== '2') await sleep(5);
  const asked = { model: 'quire-demo', messages: [{ role: 'user' as const, content }], max_tokens: 8 };
  const { choices } = await client.chat.completions.create(asked);
  expect(choices[0].finish_reason).toBe('length');
  const batch = await client.batches.retrieve(id);
  expect(batch).toMatchObject({ status: 'in_progress', request_counts: { completed: 0 } });
  await client.batches.cancel(id);
  expect(await ended(client, id)).toMatchObject({ status: 'cancelled' });
});
