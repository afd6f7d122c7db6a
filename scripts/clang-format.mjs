// Formats every C++ and CUDA file; with --check changes nothing and fails when one is not formatted.

import { execFileSync, spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);
const binary = join(
  dirname(require.resolve('clang-format/package.json')),
  'bin',
  `${process.platform}_x64`,
  'clang-format',
);
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'])
  .toString()
  .split('\n')
  .filter((path) => /\.(h|cc|cu|cuh)$/.test(path));
const mode = process.argv.includes('--check') ? ['--dry-run', '--Werror'] : ['-i'];
const result = spawnSync(binary, [...mode, ...files], { stdio: 'inherit' });
if (result.error)
  console.error(`clang-format: no binary for this platform at ${binary}: ${result.error.message}`);
process.exit(result.status ?? 1);
