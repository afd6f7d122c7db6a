// scripts/gpu-model-check.mjs, which needs a GPU to say anything: all of it, in the emulator.

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const pathOf = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

it('gpu-model-check runs to its end', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [
    pathOf('scripts/gpu-model-check.mjs'),
    ...['--backend', 'emulated', '--shape', pathOf('models/quire-demo/config.json')],
    ...['--streams', '2', '--in', '118', '--out', '2'],
  ]);
  const rows: Array<{ name: string; passed?: boolean }> = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const names = rows.map(({ name }) => name);
  for (const name of ['logits beside the CPU', 'greedy text', '1 stream, bf16', '1 stream, awq over bf16']) {
    expect(names).toContain(name);
  }
  expect(names.at(-1)).toBe('scheduler in a step');
  expect(rows.filter(({ passed }) => passed === false)).toEqual([]);
}, 120_000);
