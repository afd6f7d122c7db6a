// scripts/pipeline.sh, the short form: adapter -> merge -> AWQ -> serve -> an answer.

import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

it('walks the whole road', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'quire-pipeline-'));
  const out = join(folder, 'out');
  const { stdout } = await promisify(execFile)('bash', [`${root}/scripts/pipeline.sh`, out]);
  expect(stdout).toContain('no PYTHON named: beginning with the model that ships and its adapter\n');
  expect(stdout).toMatch(/perplexity [\d.]+/);
  const { model, choices } = JSON.parse(stdout.trim().split('\n').at(-1) as string);
  expect(model).toBe('pipeline');
  // Four bits may cost a word; the adapter's manner they keep.
  expect(choices[0].message.content).toMatch(/^I am quire-demo, small/);
  const config = JSON.parse(await readFile(join(out, 'awq', 'config.json'), 'utf8'));
  expect(config.quantization_config).toMatchObject({ quant_method: 'awq', group_size: 64 });
  await expect(promisify(execFile)('bash', [`${root}/scripts/pipeline.sh`, out])).rejects.toMatchObject({
    stderr: `${out} exists: name a new folder\n`,
  });
  await rm(folder, { recursive: true });
});
