// What a start says of itself: its phases, as `quire bench startup` reads them, and what became of packed
// weights.

import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { runCli, startServer } from './server-process.ts';

const awq = fileURLToPath(new URL('../golden/awq', import.meta.url));

it('bench startup starts servers with the flags it was given and reports every phase', async () => {
  const flags = ['--backend', 'null', '--max-model-len', '64', '--num-iters=1', '--num-iters-warmup=0'];
  const { code, stdout, stderr } = await runCli(['bench', 'startup', awq, ...flags]);
  expect(code, stderr).toBe(0);
  const times = new Map(
    [...stdout.matchAll(/^(\S.*?) +(\d+) +(\d+) +(\d+) ms$/gm)].map(([, phase, mean]) => [
      phase,
      Number(mean),
    ]),
  );
  expect([...times.keys()]).toEqual([
    'process and imports',
    'config and headers (1)',
    'engine thread (1)',
    'weights and buffers (1)',
    'tokenizer (2), beside (1)',
    'routes (1)',
    'start to listening',
    'request for one token',
    'start to first token',
  ]);
  expect(times.get('start to listening')).toBeGreaterThan(times.get('process and imports') ?? 0);
  expect(times.get('start to first token')).toBeGreaterThan(times.get('start to listening') ?? 0);
});

it('bench startup says why a server does not start', async () => {
  const { code, stderr } = await runCli(['bench', 'startup', awq, '--max-model-len', '1M', '--num-iters=1']);
  expect(code).toBe(1);
  expect(stderr).toMatch(/the server ended with 1: quire: --max-model-len: found 1048576/);
});

it('a server says what became of its packed weights', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'quire-startup-'));
  await cp(awq, folder, { recursive: true });
  const lineOf = async (flags: string[]) => {
    const server = await startServer(folder, ['--log-format', 'json', ...flags]);
    await server.stop();
    return /"msg":"([^"]*packed[^"]*)"/.exec(server.output())?.[1] ?? null;
  };
  const file = join(folder, 'packed-weights.quire');
  expect(await lineOf(['--packed-cache', 'auto'])).toMatch(`packed the weights and wrote them to ${file}`);
  expect(await lineOf([])).toBeNull();
  expect(await lineOf(['--packed-cache', file])).toBe(`read the packed weights from ${file}`);
  expect(await lineOf(['--packed-cache', file, '--backend', 'reference'])).toMatch(
    /no weights .* are packed here/,
  );
  await rm(folder, { recursive: true });
});

it('keeps the packed weights of a draft model apart, and says so too', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'quire-startup-'));
  const [main, draft] = ['main', 'draft'].map((name) => join(folder, name));
  for (const to of [main, draft]) await cp(awq, to, { recursive: true });
  const speculation = ['--speculative-config', JSON.stringify({ model: draft, num_speculative_tokens: 2 })];
  const linesOf = async (asked: string) => {
    const server = await startServer(main, ['--log-format=json', '--packed-cache', asked, ...speculation]);
    await server.stop();
    return [...server.output().matchAll(/"msg":"([^"]*packed weights[^"]*)"/g)].map(([, line]) => line);
  };
  const read = (file: string) => `read the packed weights from ${file}`;
  const auto = [main, draft].map((of) => join(of, 'packed-weights.quire'));
  await linesOf('auto');
  expect(await linesOf('auto')).toEqual(auto.map(read));
  const file = join(folder, 'kept');
  await linesOf(file);
  expect(await linesOf(file)).toEqual([file, `${file}.draft`].map(read));
  await rm(folder, { recursive: true });
});
