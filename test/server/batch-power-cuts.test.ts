// The power goes after any commit: what a batch has lost is nothing, and what it had is never run again.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { afterAll, expect, it } from 'vitest';
import { Batches, epochSeconds } from '../../server/batches/batches.ts';
import type { Context } from '../../server/context.ts';
import { Responses } from '../../server/responses/responses.ts';
import type { BatchRow } from '../../server/store/batches.ts';
import { type Database, openDatabase } from '../../server/store/database.ts';
import { testAppOptions } from './app-options.ts';
import { lines } from './batch-client.ts';
import { delta, FakeEngine } from './fake-engine.ts';

const folder = mkdtempSync(join(tmpdir(), 'quire-power-'));
afterAll(() => rmSync(folder, { recursive: true }));

const numLines = 25;
const customIds = Array.from({ length: numLines }, (_, i) => `id-${i}`);
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Nothing is written or read any more once so many transactions have changed something. */
class Power {
  isOff = false;
  #numLeft: number;

  constructor(numCommits: number) {
    this.#numLeft = numCommits;
  }

  over(database: Database): Database {
    const changes = () => database.prepare('SELECT total_changes()').pluck().get();
    const commit = <T>(run: () => T): T => {
      this.#check();
      if (database.inTransaction) return run();
      const before = changes();
      const result = run();
      if (changes() !== before && --this.#numLeft === 0) this.isOff = true;
      this.#check();
      return result;
    };
    const run = (sql: string) => {
      this.#check();
      const statement = database.prepare(sql);
      const committed = { run: (...values: unknown[]) => commit(() => statement.run(...values)) };
      return new Proxy(statement, {
        get: (target, key) => (key === 'run' ? committed.run : Reflect.get(target, key).bind(target)),
      });
    };
    const transaction = (body: () => unknown) => () => commit(database.transaction(body));
    return { prepare: run, transaction, memory: true } as unknown as Database;
  }

  cut(): void {
    this.isOff = true;
  }

  #check(): void {
    if (this.isOff) throw new Error('the power is off');
  }
}

/** A process over the store, until the batch has ended or the power goes. */
class Life {
  readonly engine = new FakeEngine();
  readonly #database: Database;
  readonly power: Power;
  readonly batches: Batches;

  constructor(path: string, numCommits = Number.POSITIVE_INFINITY, now = epochSeconds) {
    this.engine.answer = async function* ({ promptTokenIds }) {
      await turn();
      yield delta(Buffer.from(promptTokenIds).toString(), 'stop');
    };
    this.#database = openDatabase(path, 1e8);
    this.power = new Power(numCommits);
    const context = {
      engine: this.engine,
      options: testAppOptions,
      database: this.power.over(this.#database),
      batchLoad: { numSequences: 0 },
      isDraining: () => false,
      fingerprint: 'fp',
    } as Partial<Context> as Context;
    this.batches = new Batches(context, new Responses(context), pino({ level: 'silent' }), now);
  }

  async create(): Promise<string> {
    const { files, store } = this.batches;
    async function* content() {
      yield Buffer.from(lines(numLines));
    }
    const file = { owner: 'me', filename: 'in.jsonl', purpose: 'batch' };
    const input_file_id = await files.upload(file, content(), async () => ({
      purpose: 'batch',
      lifetime: null,
    }));
    const what = { endpoint: '/v1/completions', completion_window: '24h', metadata: null };
    return store.create({ owner: 'me', key_salt: '', input_file_id, output_lifetime: 3600, ...what }).id;
  }

  get numOpen(): number {
    const sql =
      "SELECT count(*) FROM batches WHERE status NOT IN ('completed', 'cancelled', 'expired', 'failed')";
    return this.#database.prepare(sql).pluck().get() as number;
  }

  /** Lines whose results are committed, or in a file already. */
  done(): string[] {
    const results = 'SELECT custom_id FROM batch_lines JOIN batch_results USING (batch, line)';
    const chunks =
      "SELECT content FROM file_chunks JOIN files ON id = file_id WHERE purpose = 'batch_output'";
    const text = Buffer.concat(this.#database.prepare(chunks).pluck().all() as Buffer[]).toString();
    const inFiles = [...text.matchAll(/"custom_id":"([^"]*)"/g)].map(([, id]) => id);
    return [...(this.#database.prepare(results).pluck().all() as string[]), ...inFiles];
  }

  /** Starts that are counted, by line. */
  starts(): number[] {
    return this.#database.prepare('SELECT starts FROM batch_lines ORDER BY line').pluck().all() as number[];
  }

  async untilOver(): Promise<void> {
    this.batches.start();
    while (!this.power.isOff && this.numOpen > 0) await turn();
  }

  async stop(): Promise<void> {
    await this.batches.stop();
    this.#database.close();
  }

  async answers(id: string): Promise<{ batch: BatchRow; outputs: string[]; errors: string[] }> {
    const batch = this.batches.store.get(id);
    const idsIn = async (fileId: string | null) => {
      const parts: Buffer[] = [];
      if (fileId !== null) for await (const part of this.batches.files.read(fileId)) parts.push(part);
      const text = Buffer.concat(parts).toString().trimEnd();
      return text === '' ? [] : text.split('\n').map((answer) => JSON.parse(answer).custom_id as string);
    };
    return { batch, outputs: await idsIn(batch.output_file_id), errors: await idsIn(batch.error_file_id) };
  }
}

async function created(path: string, now = epochSeconds): Promise<string> {
  const life = new Life(path, undefined, now);
  const id = await life.create();
  await life.stop();
  return id;
}

// Validating takes three commits at a time: to drop lines, to add them, and to begin.
it.each([3, 4, 5, 6, 7, 9, 12, 30])(
  'loses and repeats nothing when it goes after %d commits',
  async (numCommits) => {
    const path = join(folder, `${numCommits}.db`);
    const id = await created(path);
    let numLives = 0;
    for (let isOver = false; !isOver; numLives++) {
      const life = new Life(path, numCommits);
      const done = life.done();
      await life.untilOver();
      isOver = life.numOpen === 0;
      await life.stop();
      const ran = life.engine.requests.map(({ promptTokenIds }) => Buffer.from(promptTokenIds).toString());
      expect(ran.filter((customId) => done.includes(customId))).toEqual([]);
      expect(new Set(ran).size).toBe(ran.length);
    }
    if (numCommits < 10) expect(numLives).toBeGreaterThan(1);
    const life = new Life(path);
    const { batch, outputs, errors } = await life.answers(id);
    await life.stop();
    expect(batch).toMatchObject({ status: 'completed', total: numLines, completed: numLines, failed: 0 });
    expect(outputs).toEqual(customIds);
    expect(errors).toEqual([]);
  },
);

it('cuts the power where it says it does', async () => {
  const path = join(folder, 'cut.db');
  await created(path);
  const life = new Life(path, 3);
  await life.untilOver();
  expect(life.numOpen).toBe(1);
  expect(() => life.batches.store.open()).toThrow('the power is off');
  await life.stop();
});

it('expires a batch whose window went by while the server was off, and keeps what was done', async () => {
  const path = join(folder, 'expired.db');
  const id = await created(path);
  const first = new Life(path, 6);
  await first.untilOver();
  const numDone = first.done().length;
  await first.stop();
  expect(numDone).toBeGreaterThan(0);
  const later = new Life(path, undefined, () => epochSeconds() + 24 * 3600 + 1);
  later.engine.answer = async function* ({ signal }) {
    await new Promise((resolve) => signal?.addEventListener('abort', resolve));
    yield delta('', 'abort');
  };
  await later.untilOver();
  const { batch, outputs, errors } = await later.answers(id);
  await later.stop();
  expect(batch.status).toBe('expired');
  expect(batch.expired_at).not.toBeNull();
  expect(outputs.length).toBe(numDone);
  expect([...outputs, ...errors].toSorted()).toEqual(customIds.toSorted());
});

it('cancels where a cancel was under way', async () => {
  const path = join(folder, 'cancelling.db');
  const id = await created(path);
  const first = new Life(path, 6);
  await first.untilOver();
  await first.stop();
  const second = new Life(path);
  second.batches.store.cancel(second.batches.store.get(id).seq);
  await second.untilOver();
  const { batch, outputs, errors } = await second.answers(id);
  await second.stop();
  expect(batch.status).toBe('cancelled');
  expect(second.engine.requests).toEqual([]);
  expect([...outputs, ...errors].toSorted()).toEqual(customIds.toSorted());
});

it('gives a line up under which the server ended three times, and no other', async () => {
  const path = join(folder, 'killer.db');
  const id = await created(path);
  const ran: string[][] = [];
  for (let isOver = false; !isOver; ) {
    const life = new Life(path);
    const { power, engine } = life;
    engine.answer = async function* ({ promptTokenIds }) {
      const customId = Buffer.from(promptTokenIds).toString();
      if (customId === 'id-6') power.cut();
      await turn();
      yield delta(customId, 'stop');
    };
    await life.untilOver();
    isOver = life.numOpen === 0;
    await life.stop();
    ran.push(engine.requests.map(({ promptTokenIds }) => Buffer.from(promptTokenIds).toString()));
  }
  // Four run at once; those that have seen two ends run one by one.
  expect(ran.map((ids) => ids.slice(-4))).toEqual([
    ['id-4', 'id-5', 'id-6', 'id-7'],
    ['id-4', 'id-5', 'id-6', 'id-7'],
    ['id-4', 'id-5', 'id-6'],
    ['id-21', 'id-22', 'id-23', 'id-24'],
  ]);
  const life = new Life(path);
  const { batch, outputs, errors } = await life.answers(id);
  const parts: Buffer[] = [];
  for await (const part of life.batches.files.read(batch.error_file_id as string)) parts.push(part);
  await life.stop();
  expect(batch).toMatchObject({ status: 'completed', completed: numLines - 1, failed: 1 });
  expect(outputs).toEqual(customIds.filter((customId) => customId !== 'id-6'));
  expect(errors).toEqual(['id-6']);
  const [entry] = Buffer.concat(parts).toString().split('\n');
  expect(JSON.parse(entry)).toMatchObject({
    response: null,
    error: { code: 'server_ended', message: expect.stringContaining('ended 3 times') },
  });
});

/** A process whose lines hang until it is stopped in order. */
async function stopped(path: string, status: 'ok' | 'dead'): Promise<number[]> {
  const life = new Life(path);
  life.engine.answer = async function* ({ signal }) {
    await new Promise((resolve) => signal?.addEventListener('abort', resolve));
    yield delta('', 'abort');
  };
  life.batches.start();
  while (life.engine.requests.length < 4) await turn();
  expect(life.starts().slice(0, 5)).toEqual([1, 1, 1, 1, 0]);
  life.engine.healthNow = { status, heartbeatAgeMs: 1 };
  await life.batches.stop();
  const starts = life.starts();
  await life.stop();
  return starts;
}

it('counts no start that ended in order, however often', async () => {
  const path = join(folder, 'stopped.db');
  await created(path);
  for (let i = 0; i < 5; i++) expect(await stopped(path, 'ok')).toEqual(Array(numLines).fill(0));
  const last = new Life(path);
  await last.untilOver();
  expect(last.engine.requests.length).toBe(numLines);
  await last.stop();
});

it('counts the starts that ended with the engine', async () => {
  const path = join(folder, 'engine.db');
  await created(path);
  expect((await stopped(path, 'dead')).slice(0, 5)).toEqual([1, 1, 1, 1, 0]);
});
