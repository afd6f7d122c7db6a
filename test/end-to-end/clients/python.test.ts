// The official Python clients, where there is a Python that has them: REFERENCE_PYTHON, which .ci/run makes,
// or python3. It is no requirement of quire's, so elsewhere the test is skipped, and says so.

import { execFile, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { encoderFolder } from '../../engine/encoders/golden.ts';
import { startServer } from '../server-process.ts';

const python = process.env.REFERENCE_PYTHON || 'python3';
const hasClients = spawnSync(python, ['-c', 'import openai, anthropic, pydantic']).status === 0;
if (!hasClients) console.warn(`SKIPPED: ${python} has no openai and anthropic packages (REFERENCE_PYTHON)`);

describe.skipIf(!hasClients)('the Python clients', () => {
  it('chat, stream, call tools, parse, embed, hold sessions, and are refused', async () => {
    const key = 'a-key';
    const encoder = `encoder=${encoderFolder('bert-mean')}`;
    const names = ['--served-model-name', 'quire-demo', '--embedding-model', encoder];
    const server = await startServer(null, [...names, '--api-key', key]);
    const script = fileURLToPath(new URL('./python_clients.py', import.meta.url));
    const run = promisify(execFile)(python, [script, server.url, key]);
    // A check that fails is told before what the server makes of it.
    const { stdout } = await run.finally(() => server.stop());
    for (const [line] of stdout.matchAll(/^SKIPPED: .*$/gm)) console.warn(line);
    expect(stdout.match(/^(passed|SKIPPED): /gm)).toHaveLength(19);
    expect(server.process.exitCode).toBe(0);
  });
});
