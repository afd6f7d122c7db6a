// A real Prometheus with docker/prometheus.yml (the target replaced by a live server) scrapes and answers
// queries.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort, type ServerProcess, startServer } from '../end-to-end/server-process.ts';
import { greedyCases, hasStories, storiesFolder } from '../stories260k.ts';

const hasPrometheus = (() => {
  try {
    execFileSync('prometheus', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    console.warn(
      'SKIPPED: scraping by a real Prometheus, because no `prometheus` is installed (Debian: prometheus)',
    );
    return false;
  }
})();

describe.skipIf(!hasPrometheus || !hasStories)('a scraping Prometheus', () => {
  let server: ServerProcess;
  let prometheus: ChildProcess;
  let api: string;
  const folder = mkdtempSync(join(tmpdir(), 'quire-prometheus-'));

  beforeAll(async () => {
    server = await startServer(storiesFolder, ['--served-model-name', 'stories']);
    const config = readFileSync(new URL('../../docker/prometheus.yml', import.meta.url), 'utf8')
      .replace('quire:8000', new URL(server.url).host)
      .replace('scrape_interval: 5s', 'scrape_interval: 1s');
    writeFileSync(join(folder, 'prometheus.yml'), config);
    const port = await freePort();
    api = `http://127.0.0.1:${port}/api/v1/query`;
    prometheus = spawn('prometheus', [
      `--config.file=${folder}/prometheus.yml`,
      `--storage.tsdb.path=${folder}/data`,
      `--web.listen-address=127.0.0.1:${port}`,
    ]);
  });
  afterAll(async () => {
    prometheus?.kill('SIGKILL');
    await server?.stop();
    if (existsSync(folder)) rmSync(folder, { recursive: true, force: true });
  });

  async function query(expression: string): Promise<number | null> {
    const answer = await fetch(`${api}?query=${encodeURIComponent(expression)}`).catch(() => null);
    if (!answer?.ok) return null;
    const { data } = (await answer.json()) as { data: { result: Array<{ value: [number, string] }> } };
    return data.result.length === 0 ? null : Number(data.result[0].value[1]);
  }

  it('finds the series of what was served', async () => {
    const { prompt, promptTokenIds } = greedyCases[0];
    await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt, max_tokens: 20, temperature: 0 }),
    });
    const expected: Record<string, number> = {
      'vllm:generation_tokens_total': 20,
      'vllm:prompt_tokens_total': promptTokenIds.length,
      'vllm:num_requests_running': 0,
      'vllm:time_to_first_token_seconds_count': 1,
      'vllm:request_success_total{finished_reason="length"}': 1,
      'up{job="quire"}': 1,
    };
    const end = Date.now() + 30_000;
    while ((await query('vllm:generation_tokens_total')) !== 20 && Date.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    for (const [expression, value] of Object.entries(expected)) {
      expect(await query(expression), expression).toBe(value);
    }
  });
});
