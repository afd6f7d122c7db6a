// Thousands of requests drawn from /openapi.json against a real process. A failure prints the seed and the
// request; FUZZ_SEED=SEED and FUZZ_ONLY=NUMBER send that one again.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { faultOf, idsIn } from './answers.ts';
import { FuzzClient } from './client.ts';
import { startProbed } from './probed-server.ts';
import { drawRequest, type FuzzRequest, type OpenApi, type Operation, operationsOf } from './requests.ts';

const seed = Number(process.env.FUZZ_SEED ?? 20_261_126);
const only = process.env.FUZZ_ONLY;
const numAtOnce = 16;
/** Enough to see what they have in common. */
const maxFaults = 10;
const mebibyte = 2 ** 20;
const encoderPaths = ['embeddings', 'rerank', 'score', 'classify', 'moderations'].map(
  (name) => `/v1/${name}`,
);

class Fuzz {
  readonly #client: FuzzClient;
  readonly #url: string;
  readonly #operations: readonly Operation[];
  readonly #ids: string[] = [];
  readonly #faults: string[] = [];
  /** How often each status was answered. */
  readonly statuses = new Map<number, number>();
  /** Operations that were asked for, as the document has them. */
  readonly asked = new Set<Operation>();
  /** Paths of operations that did what they were asked. */
  readonly done = new Set<string>();
  numLeft = 0;

  constructor(url: string, operations: readonly Operation[]) {
    this.#url = url;
    this.#operations = operations;
    this.#client = new FuzzClient(url);
  }

  /** Sends requests [first, last), so many at once. */
  async run(first: number, last: number): Promise<void> {
    let next = first;
    const work = async () => {
      while (next < last && this.#faults.length < maxFaults) {
        await this.#one(drawRequest(this.#operations, seed, next++, this.#ids));
      }
    };
    await Promise.all(Array.from({ length: numAtOnce }, work));
    expect(this.#faults).toEqual([]);
  }

  async #one(request: FuzzRequest): Promise<void> {
    const { method, url, operation } = request;
    if (method === operation.method) this.asked.add(operation);
    // Whoever stops the engine has to hear of it before they can let it go.
    const holds = /^\/(pause|sleep)/.test(url);
    try {
      const answer = await this.#client.send(holds ? { ...request, leavesAfterMs: null } : request);
      if (answer === null) {
        this.numLeft++;
        return;
      }
      this.statuses.set(answer.status, (this.statuses.get(answer.status) ?? 0) + 1);
      this.#ids.push(...idsIn(answer));
      if (answer.status === 200) this.done.add(operation.path);
      const fault = faultOf(request, answer);
      if (fault !== null) throw new Error(`${fault}: ${answer.status} ${answer.body.slice(0, 1000)}`);
    } catch (error) {
      this.#faults.push(`${(error as Error).message}\n${shown(request)}`);
    } finally {
      // The others go on, whatever an operator has done.
      if (holds) await this.#letGo();
    }
  }

  async #letGo(): Promise<void> {
    for (const route of ['resume', 'wake_up']) await fetch(`${this.#url}/${route}`, { method: 'POST' });
  }

  close(): void {
    this.#client.close();
  }
}

function shown({ number, method, url, headers, body }: FuzzRequest): string {
  const text = body?.toString().slice(0, 3000) ?? '';
  return `seed ${seed}, request ${number}: ${method} ${url.slice(0, 500)} ${JSON.stringify(headers)}\n${text}`;
}

async function gauge(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(new RegExp(`^vllm:${name}\\{[^}]*\\} (\\S+)$`, 'm').exec(text)?.[1]);
}

async function untilIdle(url: string): Promise<void> {
  for (const name of ['num_requests_running', 'num_requests_waiting']) {
    while ((await gauge(url, name)) > 0) await new Promise((done) => setTimeout(done, 20));
  }
}

describe('requests drawn from /openapi.json', () => {
  // For a busy machine: a single answer that hangs is found by the client, sooner.
  const limitMs = 600_000;
  it.each([
    { backend: 'null', count: 20_000 },
    { backend: 'cpu', count: 2_000 },
  ])(
    '$count with backend $backend',
    async ({ backend, count }) => {
      const folder = await mkdtemp(join(tmpdir(), 'quire-fuzz-'));
      const server = await startProbed(['--backend', backend, '--store', join(folder, 'store.sqlite')]);
      const document = (await (await fetch(`${server.url}/openapi.json`)).json()) as OpenApi;
      const operations = operationsOf(document);
      const fuzz = new Fuzz(server.url, operations);
      try {
        if (only !== undefined) return await fuzz.run(Number(only), Number(only) + 1);
        await fuzz.run(0, count / 2);
        const before = await server.memory();
        await fuzz.run(count / 2, count);
        await untilIdle(server.url);
        const after = await server.memory();
        const heapGrowth = after.heapUsed + after.external - before.heapUsed - before.external;
        expect(heapGrowth / mebibyte).toBeLessThan(8);
        expect((after.rss - before.rss) / mebibyte).toBeLessThan(48);
        expect(await gauge(server.url, 'kv_cache_usage_perc')).toBe(0);
        expect((await fetch(`${server.url}/health`)).status).toBe(200);
        expect(server.output()).not.toContain('"level":50');
        // The draw must reach what it is meant to reach.
        expect(operations.filter((operation) => !fuzz.asked.has(operation))).toEqual([]);
        expect(encoderPaths.filter((path) => !fuzz.done.has(path))).toEqual([]);
        expect(fuzz.statuses.get(200)).toBeGreaterThan(count / 10);
        expect(fuzz.statuses.get(400)).toBeGreaterThan(count / 10);
        expect(fuzz.numLeft).toBeGreaterThan(count / 100);
      } finally {
        fuzz.close();
        server.kill();
        await rm(folder, { recursive: true, force: true });
      }
    },
    limitMs,
  );
});
