// Downloads from a hub that breaks off, refuses, or is away; the cache has Python's layout.

import { createHash } from 'node:crypto';
import { mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { resolveModel } from '../../engine/hub.ts';

const commit = `${'c0ffee'.repeat(6)}c0ff`;
const weights = Buffer.alloc(300_000, 'weights');
const sha256 = createHash('sha256').update(weights).digest('hex');
const files: Record<string, Buffer> = {
  'config.json': Buffer.from('{"architectures": ["LlamaForCausalLM"]}'),
  'tokenizer.json': Buffer.from('{}'),
  'model.safetensors': weights,
  'README.md': Buffer.from('not wanted'),
  'modeling_evil.py': Buffer.from('import os'),
};

/** The part of the Hub's HTTP interface that downloads use. */
class FakeHub {
  readonly requests: Array<{ path: string; range: string | undefined; authorization: string | undefined }> =
    [];
  token: string | null = null;
  /** Bytes of the weights after which the connection breaks, once. */
  breakAfter: number | null = null;
  damages = false;
  #server: Server = createServer((request, response) => this.#answer(request, response));

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  #answer({ url = '', headers }: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent(url.split('?')[0]);
    this.requests.push({ path, range: headers.range, authorization: headers.authorization });
    const json = (value: unknown, status = 200) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (this.token !== null && headers.authorization !== `Bearer ${this.token}`)
      return void json({ error: 'no' }, 401);
    if (!path.includes('org/model')) return void json({ error: 'Repository not found' }, 404);
    if (path.startsWith('/api/models/org/model/revision/')) {
      return void json({
        _id: '1',
        id: 'org/model',
        sha: commit,
        private: false,
        gated: false,
        downloads: 0,
        likes: 0,
        lastModified: '2026-01-01T00:00:00.000Z',
      });
    }
    if (path.startsWith('/api/models/org/model/tree/')) {
      return void json(
        Object.entries(files).map(([name, content]) => ({
          type: 'file',
          path: name,
          size: content.length,
          oid: createHash('sha1').update(content).digest('hex'),
          ...(name === 'model.safetensors'
            ? { lfs: { oid: sha256, size: content.length, pointerSize: 134 } }
            : {}),
        })),
      );
    }
    const name = path.replace(`/org/model/resolve/${commit}/`, '');
    this.#send(name, headers.range, response);
  }

  #send(name: string, range: string | undefined, response: ServerResponse): void {
    const content = files[name];
    if (content === undefined) return void response.writeHead(404).end();
    const from = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
    response.writeHead(range === undefined ? 200 : 206, { 'content-length': content.length - from });
    const body = Buffer.from(content.subarray(from));
    if (this.damages && name === 'model.safetensors') body[10] ^= 1;
    if (name !== 'model.safetensors' || this.breakAfter === null) return void response.end(body);
    const part = body.subarray(0, this.breakAfter);
    this.breakAfter = null;
    response.write(part, () => setTimeout(() => response.destroy(), 20));
  }
}

describe('models from a hub', () => {
  let hub: FakeHub;
  let cache = '';
  let env: NodeJS.ProcessEnv = {};
  const quiet = () => {};

  beforeEach(async () => {
    hub = new FakeHub();
    cache = await mkdtemp(join(tmpdir(), 'quire-hub-'));
    env = { HF_ENDPOINT: await hub.start(), HF_HUB_CACHE: cache };
  });
  afterEach(async () => {
    hub.stop();
    await rm(cache, { recursive: true, force: true });
  });

  it('fetches what a model needs and nothing else, into the standard cache', async () => {
    const folder = await resolveModel('org/model', env, quiet);
    expect(folder).toBe(join(cache, 'models--org--model', 'snapshots', commit));
    expect(await readFile(join(folder, 'model.safetensors'))).toEqual(weights);
    expect(await readlink(join(folder, 'model.safetensors'))).toBe(`../../blobs/${sha256}`);
    expect(await readFile(join(cache, 'models--org--model', 'refs', 'main'), 'utf8')).toBe(commit);
    const fetched = hub.requests.map(({ path }) => path).filter((path) => path.includes('/resolve/'));
    expect(fetched.some((path) => /README|\.py/.test(path))).toBe(false);
  });

  it('fetches nothing twice', async () => {
    await resolveModel('org/model', env, quiet);
    hub.requests.length = 0;
    await resolveModel('org/model', env, quiet);
    expect(hub.requests.filter(({ path }) => path.includes('/resolve/'))).toEqual([]);
  });

  it('goes on where a broken download stopped', async () => {
    hub.breakAfter = 100_000;
    await expect(resolveModel('org/model', env, quiet)).rejects.toThrow(/org\/model/);
    const folder = await resolveModel('org/model', env, quiet);
    expect(await readFile(join(folder, 'model.safetensors'))).toEqual(weights);
    const ranges = hub.requests
      .filter(({ path }) => path.endsWith('model.safetensors'))
      .map(({ range }) => range);
    expect(ranges).toEqual([undefined, expect.stringMatching(/^bytes=[1-9]\d*-$/)]);
  });

  it('refuses what arrives damaged, and keeps none of it', async () => {
    hub.damages = true;
    await expect(resolveModel('org/model', env, quiet)).rejects.toThrow(
      /model.safetensors .*arrived damaged/,
    );
    hub.damages = false;
    await resolveModel('org/model', env, quiet);
  });

  it('brings the token, and says what is wrong without one', async () => {
    hub.token = 'hf_secret';
    await expect(resolveModel('org/model', env, quiet)).rejects.toThrow(
      /wants a token for org\/model.*set HF_TOKEN/,
    );
    await expect(resolveModel('org/model', { ...env, HF_TOKEN: 'hf_other' }, quiet)).rejects.toThrow(
      /check HF_TOKEN/,
    );
    await expect(resolveModel('org/model', { ...env, HF_TOKEN: 'odd' }, quiet)).rejects.toThrow(
      'HF_TOKEN: a token of the Hub begins with hf_',
    );
    await resolveModel('org/model', { ...env, HF_TOKEN: 'hf_secret\n' }, quiet);
    const file = join(cache, 'token');
    await writeFile(file, 'hf_secret\n');
    await resolveModel('org/model', { ...env, HF_TOKEN_PATH: file }, quiet);
  });

  it('names a model that does not exist', async () => {
    await expect(resolveModel('org/other', env, quiet)).rejects.toThrow(/has no model org\/other/);
  });

  it('uses the cache when the hub is away or forbidden', async () => {
    const folder = await resolveModel('org/model', env, quiet);
    hub.stop();
    const lines: string[] = [];
    expect(await resolveModel('org/model', env, (line) => lines.push(line))).toBe(folder);
    expect(lines.join('')).toMatch(/cannot be reached, using the cached org\/model/);
    expect(await resolveModel('org/model', { ...env, HF_HUB_OFFLINE: '1' }, quiet)).toBe(folder);
    const offline = { ...env, HF_HUB_OFFLINE: '1' };
    await expect(resolveModel('org/another', offline, quiet)).rejects.toThrow(
      /is not in the cache .* HF_HUB_OFFLINE forbids/,
    );
  });

  it.each(['../../nowhere', '/nowhere', '~/x', 'a/../b', 'a/b/c', ''])('%s is no Hub id', async (named) => {
    await expect(resolveModel(named, env, quiet)).rejects.toThrow(/is not a folder, and not a Hub id/);
  });
});
