// Runs the CUDA kernels' test program as built for the emulator: the real sources, on this CPU, against
// native/reference.

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const program = fileURLToPath(new URL('../../native/build/Release/cuda_test', import.meta.url));
const groups = [
  'emulator',
  'warpgroups',
  'elementwise',
  'paged_attention_decode',
  'flash_attention_prefill',
  'wgmma prefill',
  'moe',
  'feed_back',
  'sampler',
  'f8_matmul',
  'awq_matmul',
];

describe('CUDA kernels in the emulator, against the reference', () => {
  it.each(groups)('%s', async (group) => {
    const args = ['--filter', group, '--seed', process.env.QUIRE_TEST_SEED ?? '20260101'];
    const { stdout } = await promisify(execFile)(program, args).catch((error) => {
      throw new Error(`${program} ${args.join(' ')}\n${error.stdout}${error.stderr}`);
    });
    expect(stdout).toMatch(/\n[1-9]\d* passed, 0 failed\n$/);
  });
});
