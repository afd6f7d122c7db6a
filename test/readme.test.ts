// The README's embedding example runs as it stands, but for the model's path.

import { execFile } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
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
