// A server with a draft model, from the command line: the same answers, counted in vLLM's metrics, through
// sleep and waking; and what it says when the draft model cannot be one.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nearCopy } from '../near-copy.ts';
import { runCli, type ServerProcess, startServer } from './server-process.ts';

const model = fileURLToPath(new URL('../../models/quire-demo', import.meta.url));
const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

function draftFolder(): string {
  const folder = nearCopy(model);
  folders.push(folder);
  return folder;
}

const configFor = (draft: string, more: object = {}) =>
  JSON.stringify({ model: draft, num_speculative_tokens: 4, ...more });

const messages = [{ role: 'user', content: 'Who are you?' }];
const chats = [
  { messages, temperature: 0, n: 2 },
  { messages, temperature: 0.9, seed: 7, n: 3, max_tokens: 30 },
  {
    messages,
    temperature: 1.2,
    top_p: 0.9,
    seed: 3,
    repetition_penalty: 1.2,
    logprobs: true,
    top_logprobs: 2,
  },
  { messages, temperature: 0.8, seed: 5, bad_words: ['tiny'], min_tokens: 20, max_tokens: 40 },
  {
    messages,
    temperature: 0.7,
    seed: 2,
    max_tokens: 50,
    structured_outputs: { regex: '(I|You) [a-z ]{20,40}[.]' },
  },
  // The draft model knows no adapter.
  { messages, model: 'rhymes', temperature: 0, max_tokens: 40 },
];

async function ask(server: ServerProcess, path: string, body?: object): Promise<Response> {
  return fetch(`${server.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body ?? {}),
  });
}

async function answersOf(server: ServerProcess): Promise<unknown[]> {
  const answers = chats.map(async (chat) => {
    const answer = await ask(server, '/v1/chat/completions', chat);
    expect(answer.status).toBe(200);
    return ((await answer.json()) as { choices: unknown[] }).choices;
  });
  return Promise.all(answers);
}

describe('a server with a draft model', () => {
  let plain: ServerProcess;
  let server: ServerProcess;
  let wanted: unknown[];

  beforeAll(async () => {
    const shared = ['--lora-modules', `rhymes=${model}-rhymes`];
    plain = await startServer(model, shared);
    wanted = await answersOf(plain);
    server = await startServer(model, [
      ...shared,
      '--enable-admin',
      '--kv-cache-memory',
      '64MiB',
      '--speculative-config',
      configFor(draftFolder()),
    ]);
  });
  afterAll(async () => {
    expect(await plain?.stop()).toBe(0);
    expect(await server?.stop()).toBe(0);
  });

  async function counted(): Promise<(name: string) => number> {
    const text = await (await fetch(`${server.url}/metrics`)).text();
    return (name) => {
      const line = text.split('\n').find((one) => one.startsWith(`vllm:${name}{`));
      return Number(line?.split(' ').at(-1));
    };
  }

  it('answers as without, and counts drafts', async () => {
    expect(await answersOf(server)).toEqual(wanted);
    const value = await counted();
    expect(value('spec_decode_num_drafts_total')).toBeGreaterThan(10);
    const drafted = value('spec_decode_num_draft_tokens_total');
    const accepted = value('spec_decode_num_accepted_tokens_total');
    expect(accepted).toBeGreaterThan(drafted / 4);
    expect(accepted).toBeLessThan(drafted);
  });

  it('goes on after sleep and an emptied prefix cache', async () => {
    for (const path of ['/sleep', '/wake_up', '/reset_prefix_cache']) {
      expect((await ask(server, path)).status, path).toBe(200);
    }
    const before = (await counted())('spec_decode_num_accepted_tokens_total');
    expect(await answersOf(server)).toEqual(wanted);
    expect((await counted())('spec_decode_num_accepted_tokens_total')).toBeGreaterThan(before);
  });

  it('has a series for every query of the dashboard', async () => {
    const dashboard = readFileSync(new URL('../../docker/grafana/quire.json', import.meta.url), 'utf8');
    const names = new Set(dashboard.match(/vllm:\w+/g));
    const value = await counted();
    expect(names).toContain('vllm:spec_decode_num_accepted_tokens_total');
    for (const name of names) expect(value(name.slice('vllm:'.length)), name).toBeGreaterThanOrEqual(0);
  });
});

describe('a draft model that cannot be one', () => {
  const tokenizerOf = (change: (vocab: Record<string, number>) => void) => {
    const folder = mkdtempSync(join(tmpdir(), 'quire-tokens-'));
    folders.push(folder);
    for (const name of ['config.json', 'model.safetensors']) {
      writeFileSync(join(folder, name), readFileSync(join(model, name)));
    }
    const tokenizer = JSON.parse(readFileSync(join(model, 'tokenizer.json'), 'utf8'));
    change(tokenizer.model.vocab);
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
    return folder;
  };

  it.each([
    ['is not there', () => 'no/such/folder', {}, /model: no\/such\/folder is not a folder, and not a Hub id/],
    ['is no model', () => tmpdir(), {}, /has no config\.json/],
    [
      'is too short for what is asked',
      () => model,
      { max_model_len: 4096 },
      /max_model_len: found 4096, .* 2048/,
    ],
    [
      'has other tokens',
      () =>
        tokenizerOf((vocab) => {
          const [a, b] = Object.keys(vocab).filter((token) => vocab[token] === 300 || vocab[token] === 301);
          [vocab[a], vocab[b]] = [vocab[b], vocab[a]];
        }),
      {},
      /the tokens of .* are not those of .*: token 300 is ".*" there and ".*" here/,
    ],
  ])('%s', async (_name, folder, more, message) => {
    const config = configFor(folder(), more);
    const ended = await runCli(['serve', model, '--port', '0', '--speculative-config', config], {
      HF_HUB_OFFLINE: '1',
    });
    expect(ended.code).toBe(1);
    expect(ended.stderr.trim().split('\n')).toHaveLength(1);
    expect(ended.stderr).toMatch(message);
    expect(ended.stderr).toContain('--speculative-config: ');
  });
});
