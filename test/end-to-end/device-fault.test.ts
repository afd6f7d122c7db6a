// A device that faults in the middle of a step: open requests get 500 without a word of the cause, the log
// has one line that names the kernel, and the process ends with 1 for its supervisor. (In the emulator that
// line has block and thread, where a GPU has the shape of the launch.)

import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { startServer } from './server-process.ts';

const fixture = fileURLToPath(new URL('../fixtures/broken-index.mjs', import.meta.url));

describe('a device fault', () => {
  it('ends open requests with 500 and the process with 1', async () => {
    const server = await startServer(null, ['--backend', 'emulated', '--max-model-len', '256'], {
      NODE_OPTIONS: `--import ${fixture}`,
    });
    const exited = once(server.process, 'exit');
    const response = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'Once', max_tokens: 20, temperature: 0 }),
    });
    expect(response.status).toBe(500);
    const { error } = (await response.json()) as { error: { message: string; type: string } };
    expect(error.message).toMatch(/^internal error, see the server's log for request \w+$/);
    expect((await exited)[0]).toBe(1);
    const lines = server
      .output()
      .split('\n')
      .filter((line) => /embed/.test(line));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/embed.*device memory is accessed outside its allocations/);
  });
});
