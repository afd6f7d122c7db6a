// The load generator against a live server: its report adds up.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli, type ServerProcess, startServer } from '../end-to-end/server-process.ts';
import { hasStories, storiesFolder } from '../stories260k.ts';

describe.skipIf(!hasStories)('quire bench serve', () => {
  let server: ServerProcess;
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quire-bench-'));
    server = await startServer(storiesFolder, ['--backend', 'null', '--max-model-len', '200']);
  });
  afterAll(async () => {
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  async function bench(...flags: string[]) {
    const file = join(folder, 'result.json');
    const run = await runCli(['bench', 'serve', '--base-url', server.url, '--result-file', file, ...flags]);
    return { ...run, result: JSON.parse(await readFile(file, 'utf8')) };
  }

  it('counts what it sent and got', async () => {
    const flags = '--num-prompts 20 --max-concurrency 4 --random-input-len 30 --random-output-len 10';
    const { code, stdout, result } = await bench(...flags.split(' '));
    expect(code).toBe(0);
    for (const word of ['TTFT', 'TPOT', 'ITL', 'E2E', 'mean', 'median', 'p99']) {
      expect(stdout).toContain(word);
    }
    expect(result).toMatchObject({ completed: 20, failed: 0, promptTokens: 600, outputTokens: 200 });
    expect(result.requestsPerS * result.durationS).toBeCloseTo(20, 5);
    expect(result.outputTokensPerS * result.durationS).toBeCloseTo(200, 4);
  });

  it('reads prompts from a file, at a rate', async () => {
    const file = join(folder, 'prompts.txt');
    await writeFile(file, 'Once upon a time\nThe big dog\n');
    const { code, result } = await bench('--dataset', file, '--num-prompts', '6', '--request-rate', '100');
    expect(code).toBe(0);
    expect(result.completed).toBe(6);
  });

  it('counts refused requests as failed and says why', async () => {
    const { code, stdout, stderr, result } = await bench(
      '--num-prompts',
      '3',
      '--random-input-len',
      '500',
      '--num-warmups',
      '0',
    );
    expect(result).toMatchObject({ completed: 0, failed: 3 });
    expect(code).toBe(1);
    expect(stdout + stderr).toContain('context length');
  });
});
