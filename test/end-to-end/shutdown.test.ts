// How a server ends: SIGTERM lets what runs finish, within a limit; a second signal ends it at once.

import { afterEach, describe, expect, it } from 'vitest';
import { hasStories, storiesFolder } from '../stories260k.ts';
import { type ServerProcess, startServer } from './server-process.ts';

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe.skipIf(!hasStories)('the end of a server', () => {
  let server: ServerProcess | null = null;
  afterEach(async () => {
    server?.process.kill('SIGKILL');
    server = null;
  });

  // One thread of plain kernels, slow enough to be met in the middle of an answer.
  const slow = ['--cpu', 'portable', '--threads', '1'];
  const start = async (...flags: string[]) => {
    server = await startServer(storiesFolder, [...slow, ...flags]);
    return server;
  };

  /** Resolves with the reader once the first text came. */
  async function startStream({ url }: ServerProcess, maxTokens: number) {
    const answer = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'Once', max_tokens: maxTokens, ignore_eos: true, stream: true, n: 8 }),
    });
    const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    return reader;
  }

  async function rest(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string> {
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return text;
      text += Buffer.from(value);
    }
  }

  it('finishes what runs and refuses what comes', async () => {
    const running = await start();
    const reader = await startStream(running, 400);
    const exit = running.stop();
    while (!running.output().includes('draining')) await sleep(5);
    const late = await fetch(`${running.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'Once' }),
    });
    expect(late.status).toBe(503);
    expect(late.headers.get('retry-after')).toBe('10');
    expect(await rest(reader)).toMatch(/\[DONE\]\n\n$/);
    expect(await exit).toBe(0);
  });

  it('stops waiting at --shutdown-timeout', async () => {
    const running = await start('--shutdown-timeout', '0.1');
    const reader = await startStream(running, 500);
    const exit = running.stop();
    expect(await rest(reader)).toContain('"finish_reason":"abort"');
    expect(await exit).toBe(0);
  });

  /** Steps of a length that is known. */
  const paced = ['--backend', 'null', '--null-step-time', '20'];

  it('ends at once at a second signal', async () => {
    const running = await start(...paced);
    const reader = await startStream(running, 500);
    const exit = running.stop();
    while (!running.output().includes('draining')) await sleep(5);
    await sleep(400);
    running.process.kill('SIGTERM');
    expect(await exit).toBe(143);
    await expect(rest(reader)).rejects.toThrow();
  });

  it('takes a signal that its group got and npm passes on for one', async () => {
    const running = await start(...paced);
    const reader = await startStream(running, 40);
    const exit = running.stop();
    while (!running.output().includes('draining')) await sleep(5);
    running.process.kill('SIGTERM');
    expect(await rest(reader)).toMatch(/\[DONE\]\n\n$/);
    expect(await exit).toBe(0);
  });

  it('ends well while idle', async () => {
    expect(await (await start()).stop()).toBe(0);
  });
});
