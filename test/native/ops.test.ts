// Runs the native test program: every op of every variant against native/reference.

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const program = fileURLToPath(new URL('../../native/build/Release/ops_test', import.meta.url));
const groups = [
  'matmul', 'coded', 'integers', 'rounding', 'adapters', 'embed_and_gather', 'rms_norm', 'soft_cap', 'moe', 'activations', 'rope', 'attention', 'copy_blocks', 'sampler', 'philox',
  'float16', 'threads', 'canary',
]; // biome-ignore format: one list

describe('native ops against the reference', () => {
  it.each(groups)('%s', async (group) => {
    const args = ['--filter', group, '--seed', process.env.QUIRE_TEST_SEED ?? '20260101'];
    const { stdout } = await promisify(execFile)(program, args).catch((error) => {
      throw new Error(`${program} ${args.join(' ')}\n${error.stdout}${error.stderr}`);
    });
    expect(stdout).toMatch(/\n[1-9]\d* passed, 0 failed\n$/);
  });
});
