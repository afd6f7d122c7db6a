// Builds the native addon with node-gyp, downloading nothing: the headers are npm packages. Compiler output
// is shown when the build fails or with --verbose. NATIVE_CHECKS=1 compiles in the validation of every batch
// index.

import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const nodeGyp = join(dirname(require.resolve('node-gyp/package.json')), 'bin', 'node-gyp.js');
const verbose = process.argv.includes('--verbose');

for (const [command, install] of [
  ['make', 'make'],
  ['python3', 'python3'],
  [process.env.CXX ?? 'g++', 'g++'],
]) {
  if (spawnSync(command, ['--version']).status !== 0) {
    console.error(
      `quire: ${command} is needed to build the native addon: install it (Debian: apt-get install ${install})`,
    );
    process.exit(1);
  }
}

// Settings that npm hands on (a user's nodedir, say) must not reach node-gyp: ours are complete.
const env = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^npm_(config|package_config_node_gyp)_(nodedir|disturl|dist_url)$/i.test(name),
  ),
);
const result = spawnSync(
  process.execPath,
  [
    nodeGyp,
    'configure',
    'build',
    `--nodedir=${join(root, 'native', 'headers')}`,
    `--jobs=${availableParallelism()}`,
  ],
  { cwd: join(root, 'native'), env, encoding: 'utf8', stdio: verbose ? 'inherit' : 'pipe' },
);
if (result.status !== 0) {
  if (!verbose) console.error(`${result.stdout}${result.stderr}`);
  console.error('quire: the native addon could not be built, see above');
  process.exit(1);
}
