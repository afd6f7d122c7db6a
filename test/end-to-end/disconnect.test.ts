// Clients that go away at random moments: in the queue, in prefill, in decode, streaming or not. Afterwards
// nothing runs, nothing waits, no block is held, a new request answers, and memory does not grow over the
// rounds.

import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { greedyCases, hasStories, storiesFolder } from '../stories260k.ts';
import { type ServerProcess, startServer } from './server-process.ts';

const numClients = 200;
const numRounds = 20;

/** Sends one completion request over a raw socket and destroys it after `lifeMs`. */
function leavingClient(url: string, body: string, lifeMs: number): Promise<void> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () => {
      socket.write(
        `POST /v1/completions HTTP/1.1\r\nhost: ${hostname}:${port}\r\ncontent-type: application/json\r\n` +
          `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      );
    });
    socket.on('error', () => {});
    socket.on('data', () => {});
    socket.on('close', () => resolve());
    setTimeout(() => socket.destroy(), lifeMs);
  });
}

async function gauges(url: string): Promise<number[]> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return ['num_requests_running', 'num_requests_waiting', 'kv_cache_usage_perc'].map((name) => {
    const line = text.split('\n').find((candidate) => candidate.startsWith(`vllm:${name}{`));
    return Number(line?.split(' ').at(-1));
  });
}

async function idleWithin(url: string, limitMs: number): Promise<number[]> {
  const end = Date.now() + limitMs;
  let last = await gauges(url);
  while (last.some((value) => value !== 0) && Date.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    last = await gauges(url);
  }
  return last;
}

function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
}

describe.skipIf(!hasStories)(`${numClients} clients that leave`, () => {
  let server: ServerProcess;
  beforeAll(async () => {
    // A small heap is collected often, so that what stays in it is what is still held.
    process.env.NODE_OPTIONS = '--max-old-space-size=64';
    server = await startServer(storiesFolder, ['--max-num-seqs', '32', '--max-queued-requests', '1000']);
  });
  afterAll(() => {
    delete process.env.NODE_OPTIONS;
    return server?.stop();
  });

  it(`leaves nothing behind, ${numRounds} times over`, async () => {
    const { prompt, text } = greedyCases[0];
    const resident: number[] = [];
    for (let round = 0; round < numRounds; round++) {
      const clients = Array.from({ length: numClients }, (_, i) => {
        const body = JSON.stringify({
          prompt: prompt.repeat(1 + ((i * 7 + round) % 20)),
          max_tokens: 200,
          ignore_eos: true,
          stream: i % 2 === 0,
          n: 1 + (i % 3),
        });
        return leavingClient(server.url, body, (i * 37 + round * 11) % 400);
      });
      await Promise.all(clients);
      expect(await idleWithin(server.url, 1000), `round ${round}`).toEqual([0, 0, 0]);
      const answer = await fetch(`${server.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ prompt, max_tokens: 80, temperature: 0 }),
      });
      expect(((await answer.json()) as { choices: [{ text: string }] }).choices[0].text).toBe(text);
      resident.push(residentBytes(server.process.pid as number));
    }
    // The first rounds fill heaps and pools. From then on growth would be a leak: the later half of the
    // rounds may use no more than a small share above the earlier half.
    const later = Math.min(...resident.slice(-5));
    const earlier = Math.max(...resident.slice(4, 10));
    expect(later, `resident bytes per round: ${resident.join(' ')}`).toBeLessThan(earlier * 1.1);
  });
});
