// A real server in a process of its own, which also answers how much memory it has.

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { encoderFolder } from '../../engine/encoders/golden.ts';
import { freePort } from '../server-process.ts';

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** Everything small, so that limits are met; everything that is off by default is on. */
const flags = [
  '--served-model-name', 'quire-demo', '--lora-modules', `rhymes=${path('../../../models/quire-demo-rhymes')}`,
  '--embedding-model', `embedder=${encoderFolder('bert-mean')}`,
  '--embedding-model', `cross=${encoderFolder('bert-cross')}`,
  '--embedding-model', `labels=${encoderFolder('distilbert-labels')}`,
  '--max-model-len', '256', '--max-num-seqs', '32', '--num-gpu-blocks-override', '256', '--body-limit', '256KiB',
  '--grammar-timeout', '1', '--enable-admin', '--allow-runtime-lora', '--log-level', 'error', '--log-format', 'json',
]; // biome-ignore format: flags and their values

/** Bytes, after the garbage was collected. */
export interface Memory {
  rss: number;
  heapUsed: number;
  external: number;
}

export interface ProbedServer {
  url: string;
  memory(): Promise<Memory>;
  /** Everything it printed so far. */
  output(): string;
  kill(): void;
}

export async function startProbed(more: readonly string[]): Promise<ProbedServer> {
  const port = await freePort();
  const args = ['serve', '--host', '127.0.0.1', '--port', String(port), ...flags, ...more];
  const child = fork(path('../../../dist/server/cli.js'), args, {
    execArgv: ['--expose-gc', '--import', path('./memory-probe.mjs')],
    silent: true,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      output += chunk;
    });
  }
  const url = `http://127.0.0.1:${port}`;
  const isHealthy = () =>
    fetch(`${url}/health`)
      .then(({ ok }) => ok)
      .catch(() => false);
  while (!(await isHealthy())) {
    if (child.exitCode !== null) throw new Error(`the server ended:\n${output}`);
    await new Promise((done) => setTimeout(done, 50));
  }
  return {
    url,
    memory: () =>
      new Promise((resolve) => {
        child.once('message', (memory) => resolve(memory as Memory));
        child.send('memory');
      }),
    output: () => output,
    kill: () => child.kill('SIGKILL'),
  };
}
