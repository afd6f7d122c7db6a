// The README's examples run as they stand, and print what it says.

import { execFile } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServerProcess, startServer } from './end-to-end/server-process.ts';
import { greedyCases, hasStories, storiesFolder } from './stories260k.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

it.skipIf(!hasStories)('embeds the engine', async () => {
  const readme = readFileSync(`${root}/README.md`, 'utf8');
  const example = [...readme.matchAll(/```ts\n(.*?)```/gs)]
    .map(([, code]) => code)
    .find((code) => code.includes('Engine.open'));
  expect(example).toContain("'path/to/model'");
  const code = (example as string).replace("'path/to/model'", JSON.stringify(storiesFolder));
  // In dist/, where 'quire' is the package itself.
  const file = `${root}/dist/readme-example.mjs`;
  writeFileSync(file, code);
  const { stdout } = await promisify(execFile)(process.execPath, [file]);
  rmSync(file);
  expect(stdout.length).toBeGreaterThan(100);
  expect(greedyCases[0].text.startsWith(stdout)).toBe(true);
});

interface Example {
  body: Record<string, unknown>;
  /** The lines quoted after it. */
  printed: string;
}

/** Requests of the README's curl lines, each with the answer quoted below it. */
function examples(): Example[] {
  const readme = readFileSync(`${root}/README.md`, 'utf8');
  const pattern = /```sh\ncurl [^`]*?-d '(\{[^`]*?\})'\n```\n\n((?:> .*\n)+)/g;
  return [...readme.matchAll(pattern)].map(([, body, quoted]) => ({
    body: JSON.parse(body),
    printed: quoted.replaceAll(/^> /gm, '').trim(),
  }));
}

describe('the first three examples, on the model that ships', () => {
  let server: ServerProcess;
  beforeAll(async () => {
    server = await startServer(null);
  });
  afterAll(async () => {
    expect(await server?.stop()).toBe(0);
  });

  it('are a chat, a stream and a tool call', () => {
    const bodies = examples().map(({ body }) => body);
    expect(bodies).toHaveLength(3);
    expect(bodies[1].stream).toBe(true);
    expect(bodies[2].tools).toBeDefined();
  });

  it.each(examples())('$body', async ({ body, printed }) => {
    const answer = await fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (body.stream === true) {
      const events = (await answer.text()).split('\n\n').filter((event) => event.startsWith('data: {'));
      const deltas = events.map(
        (event) => JSON.parse(event.slice('data: '.length)).choices[0].delta.content ?? '',
      );
      expect(deltas.join('')).toBe(printed);
      return;
    }
    const { choices, model } = (await answer.json()) as {
      choices: Array<{ message: Message }>;
      model: string;
    };
    expect(model).toBe('quire-demo');
    const [call] = choices[0].message.tool_calls ?? [];
    const shown =
      call === undefined ? choices[0].message.content : `${call.function.name} ${call.function.arguments}`;
    expect(shown).toBe(printed);
  });
});

interface Message {
  content: string | null;
  tool_calls?: Array<{ function: { name: string; arguments: string } }>;
}
