// Thousands of requests drawn from /openapi.json against a real process. A failure prints the seed and the
// request; FUZZ_SEED and FUZZ_ONLY=NUMBER send that one again.

import { fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { freePort } from '../server-process.ts';
import { faultOf, idsIn } from './answers.ts';
import { FuzzClient } from './client.ts';
import { drawRequest, type FuzzRequest, type OpenApi, operationsOf } from './requests.ts';

const seed = Number(process.env.FUZZ_SEED ?? 20_261_126);
const only = process.env.FUZZ_ONLY;
const numAtOnce = 16;
/** Enough to see what they have in common. */
const maxFaults = 10;
const mebibyte = 2 ** 20;

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));
/** Everything small, so that limits are met; everything that is off by default is on. */
const flags = [
  '--served-model-name', 'quire-demo', '--lora-modules', `rhymes=${path('../../../models/quire-demo-rhymes')}`,
  '--max-model-len', '256', '--max-num-seqs', '32', '--num-gpu-blocks-override', '256', '--body-limit', '256KiB',
  '--grammar-timeout', '1', '--enable-admin', '--allow-runtime-lora', '--log-level', 'error', '--log-format', 'json',
]; // biome-ignore format: flags and their values

interface Memory {
  rss: number;
  heapUsed: number;
  external: number;
}

/** The server, and a way to ask it for its memory. */
async function startProbed(more: string[]) {
  const port = await freePort();
  const args = ['serve', '--host', '127.0.0.1', '--port', String(port), ...flags, ...more];
  const probe = path('./memory-probe.mjs');
  const child = fork(path('../../../dist/server/cli.js'), args, {
    execArgv: ['--expose-gc', '--import', probe],
    silent: true,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      output += chunk;
    });
  }
  const url = `http://127.0.0.1:${port}`;
  while (
    !(await fetch(`${url}/health`).then(
      ({ ok }) => ok,
      () => false,
    ))
  ) {
    if (child.exitCode !== null) throw new Error(`the server ended:\n${output}`);
    await new Promise((done) => setTimeout(done, 50));
  }
  const memory = () =>
    new Promise<Memory>((resolve) => {
      child.once('message', resolve as never);
      child.send('memory');
    });
  return { url, child, memory, output: () => output };
}

class Fuzz {
  readonly #client: FuzzClient;
  readonly #url: string;
  readonly #document: OpenApi;
  readonly #ids: string[] = [];
  readonly statuses = new Map<number, number>();
  readonly routes = new Set<string>();
  readonly faults: string[] = [];
  numLeft = 0;

  constructor(url: string, document: OpenApi) {
    this.#url = url;
    this.#document = document;
    this.#client = new FuzzClient(url);
  }

  /** Sends requests [first, last), so many at once. */
  async run(first: number, last: number): Promise<void> {
    const operations = operationsOf(this.#document);
    let next = first;
    const work = async () => {
      while (next < last && this.faults.length < maxFaults)
        await this.#one(drawRequest(operations, seed, next++, this.#ids));
    };
    await Promise.all(Array.from({ length: numAtOnce }, work));
    expect(this.faults).toEqual([]);
  }

  async #one(request: FuzzRequest): Promise<void> {
    const { method, url, headers, body, number } = request;
    const shown = () =>
      `seed ${seed}, request ${number}: ${method} ${url.slice(0, 500)} ${JSON.stringify(headers)}\n${body?.toString().slice(0, 3000)}`;
    const answer = await this.#client.send(request).catch((error: Error) => {
      this.faults.push(`${error.message}\n${shown()}`);
      return null;
    });
    if (/^\/(pause|sleep)/.test(url)) {
      for (const route of ['resume', 'wake_up']) await fetch(`${this.#url}/${route}`, { method: 'POST' });
    }
    if (answer === null) {
      this.numLeft++;
      return;
    }
    const fault = faultOf(request, answer);
    if (fault !== null) {
      this.faults.push(`${fault}: ${answer.status} ${answer.body.slice(0, 1000)}\n${shown()}`);
    }
    this.#ids.push(...idsIn(answer));
    this.statuses.set(answer.status, (this.statuses.get(answer.status) ?? 0) + 1);
    if (answer.status < 300) this.routes.add(`${request.operation.method} ${request.operation.path}`);
  }

  close(): void {
    this.#client.close();
  }
}

async function gauge(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(new RegExp(`^vllm:${name}\\{[^}]*\\} (\\S+)$`, 'm').exec(text)?.[1]);
}

describe('requests drawn from /openapi.json', () => {
  it.each([
    { backend: 'null', count: 20_000 },
    { backend: 'cpu', count: 1_000 },
  ])('$count with backend $backend', async ({ backend, count }) => {
    const folder = await mkdtemp(join(tmpdir(), 'quire-fuzz-'));
    const server = await startProbed(['--backend', backend, '--store', join(folder, 'store.sqlite')]);
    const document = (await (await fetch(`${server.url}/openapi.json`)).json()) as OpenApi;
    const fuzz = new Fuzz(server.url, document);
    try {
      if (only !== undefined) return await fuzz.run(Number(only), Number(only) + 1);
      await fuzz.run(0, count / 2);
      const before = await server.memory();
      await fuzz.run(count / 2, count);
      while ((await gauge(server.url, 'num_requests_running')) > 0)
        await new Promise((done) => setTimeout(done, 20));
      const after = await server.memory();
      expect((after.heapUsed + after.external - before.heapUsed - before.external) / mebibyte).toBeLessThan(
        8,
      );
      expect((after.rss - before.rss) / mebibyte).toBeLessThan(64);
      expect(await gauge(server.url, 'kv_cache_usage_perc')).toBe(0);
      expect((await fetch(`${server.url}/health`)).status).toBe(200);
      expect(server.child.exitCode).toBeNull();
      // The draw must reach what it is meant to reach.
      const numDone = fuzz.statuses.get(200) ?? 0;
      expect(numDone).toBeGreaterThan(count / 10);
      expect(fuzz.statuses.get(400)).toBeGreaterThan(count / 10);
      expect(fuzz.numLeft).toBeGreaterThan(count / 100);
      if (process.env.FUZZ_VERBOSE) {
        console.log(fuzz.statuses, fuzz.numLeft, [...fuzz.routes].sort().join('\n'), before, after);
      }
    } finally {
      fuzz.close();
      server.child.kill('SIGKILL');
      await rm(folder, { recursive: true, force: true });
      if (server.output() !== '') console.log(server.output().slice(0, 5000));
    }
  });
});
