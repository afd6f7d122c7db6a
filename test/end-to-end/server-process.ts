// A real server in a process of its own, as a user starts it.

import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';

const cli = fileURLToPath(new URL('../../dist/server/cli.js', import.meta.url));

export interface ServerProcess {
  url: string;
  process: ChildProcess;
  /** Everything it printed so far. */
  output(): string;
  /** Sends SIGTERM and waits for the exit code. */
  stop(): Promise<number | null>;
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs `quire ARGS` to its end. */
export function runCli(args: string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return runToEnd(process.execPath, [cli, ...args], env);
}

/** Runs `quire ARGS` where no file may grow beyond so many kB, as on a disk that fills. */
export function runCliInLittleRoom(args: string[], kilobytes: number): Promise<Ended> {
  const script = `trap '' XFSZ; ulimit -f ${kilobytes}; exec "$@"`;
  return runToEnd('bash', ['-c', script, 'bash', process.execPath, cli, ...args]);
}

function runToEnd(command: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { env: { ...process.env, ...env } });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

/**
 * Starts `quire serve MODEL ARGS` on a free port and waits until /health answers 200. A null model is the one that
 * ships. `within` is a command that ends by running the one behind it.
 */
export async function startServer(
  model: string | null,
  args: string[] = [],
  env: NodeJS.ProcessEnv = {},
  within: string[] = [],
): Promise<ServerProcess> {
  const port = await freePort();
  const place = ['--host', '127.0.0.1', '--port', String(port)];
  const serve = [cli, 'serve', ...(model === null ? [] : [model]), ...place, ...args];
  const [command, ...rest] = [...within, process.execPath, ...serve];
  const child = spawn(command, rest, { env: { ...process.env, ...env } });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  child.stderr.on('data', (chunk) => {
    output += chunk;
  });
  const exited = new Promise<number | null>((resolve) => child.on('exit', (code) => resolve(code)));
  const url = `http://127.0.0.1:${port}`;
  const isHealthy = async () => {
    try {
      return (await fetch(`${url}/health`)).ok;
    } catch {
      return false;
    }
  };
  while (!(await isHealthy())) {
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}:\n${output}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    url,
    process: child,
    output: () => output,
    stop: () => {
      child.kill('SIGTERM');
      return exited;
    },
  };
}
