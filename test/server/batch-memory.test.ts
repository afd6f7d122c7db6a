// A batch of 50,000 lines is never in memory as a whole: not while it is checked, run, or made into files.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import pino from 'pino';
import { afterAll, expect, it } from 'vitest';
import { Batches } from '../../server/batches/batches.ts';
import type { Context } from '../../server/context.ts';
import { Responses } from '../../server/responses/responses.ts';
import { openDatabase } from '../../server/store/database.ts';
import { testAppOptions } from './app-options.ts';
import { line } from './batch-client.ts';
import { delta, FakeEngine } from './fake-engine.ts';

const folder = mkdtempSync(join(tmpdir(), 'quire-memory-'));
afterAll(() => rmSync(folder, { recursive: true }));

const numLines = 50_000;
const lineBytes = 1000;
const turn = () => new Promise((resolve) => setImmediate(resolve));

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

async function usedBytes(): Promise<number> {
  collectGarbage();
  // What lies outside the heap goes a turn after its owner.
  await turn();
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

async function* content() {
  const padding = 'x'.repeat(lineBytes - line('id-00000', { prompt: '' }).length - 1);
  for (let i = 0; i < numLines; i += 100) {
    const lines = Array.from({ length: 100 }, (_, j) =>
      line(`id-${String(i + j).padStart(5, '0')}`, { prompt: padding }),
    );
    yield Buffer.from(`${lines.join('\n')}\n`);
    await turn();
  }
}

it('holds far less than its input', async () => {
  const engine = new FakeEngine();
  engine.generate = async function* ({ signal }) {
    // The first ones end, and then nothing goes on until the batch is cancelled.
    if (numAnswered++ >= 1000) await new Promise((resolve) => signal?.addEventListener('abort', resolve));
    yield delta('done', signal?.aborted ? 'abort' : 'stop');
  };
  let numAnswered = 0;
  const database = openDatabase(join(folder, 'store.db'), 1e9);
  const context = {
    engine,
    options: testAppOptions,
    database,
    batchLoad: { numSequences: 0 },
    isDraining: () => false,
    fingerprint: 'fp',
  } as Partial<Context> as Context;
  const batches = new Batches(context, new Responses(context), pino({ level: 'silent' }));
  const file = { owner: 'me', filename: 'in.jsonl', purpose: 'batch' };
  const settle = async () => ({ purpose: 'batch', lifetime: null });
  const input_file_id = await batches.files.upload(file, content(), settle);
  const before = await usedBytes();
  const { id, seq } = batches.create({
    owner: 'me',
    key_salt: '',
    endpoint: '/v1/completions',
    input_file_id,
    completion_window: '24h',
    metadata: null,
    output_lifetime: 3600,
  });
  const grown: Record<string, number> = {};
  const until = async (stage: string, isOver: () => boolean) => {
    for (let turns = 1; !isOver(); turns++) {
      await turn();
      if (turns % 50 === 0) grown[stage] = Math.max(grown[stage] ?? 0, (await usedBytes()) - before);
    }
  };
  await until('checking', () => batches.store.get(id).status === 'in_progress');
  expect(batches.store.get(id).total).toBe(numLines);
  await until('running', () => batches.store.get(id).completed >= 1000);
  batches.cancel(batches.store.get(id));
  await until('filing', () => batches.store.get(id).status === 'cancelled');
  expect(batches.store.dropLines(seq)).toBe(false);
  await batches.stop();
  database.close();
  // The ids of all lines are known while they are checked, and nothing else.
  for (const stage of ['checking', 'running', 'filing']) {
    expect(grown[stage], stage).toBeLessThan((numLines * lineBytes) / 4);
  }
});
