// Where CUDA is on this machine, for native/binding.gyp: prints one thing about it.
//
//   node scripts/find-cuda.mjs enabled|nvcc|include|libraries
//
// QUIRE_CUDA=1 builds the CUDA addon or fails, 0 does not, auto (the default) does when nvcc and cuBLASLt's
// header and library are found: in CUDA_HOME, in /usr/local/cuda, or in the pip package nvidia-cublas of the
// python3 in PATH or of the environment VIRTUAL_ENV.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';

const wanted = process.env.QUIRE_CUDA ?? 'auto';
if (!['0', '1', 'auto'].includes(wanted)) {
  console.error(`quire: QUIRE_CUDA: found ${wanted}, allowed 0, 1, auto`);
  process.exit(1);
}

function sitePackages() {
  const python = process.env.VIRTUAL_ENV ? join(process.env.VIRTUAL_ENV, 'bin', 'python') : 'python3';
  const { stdout } = spawnSync(python, ['-c', 'import site; print("\\n".join(site.getsitepackages()))'], {
    encoding: 'utf8',
  });
  return (stdout ?? '').split('\n').filter((line) => line !== '');
}

function findNvcc() {
  const homes = [process.env.CUDA_HOME, '/usr/local/cuda'].filter((home) => home);
  const known = homes.map((home) => join(home, 'bin', 'nvcc')).find((path) => existsSync(path));
  if (known !== undefined) return known;
  return spawnSync('nvcc', ['--version']).status === 0 ? 'nvcc' : null;
}

/** The toolkit's folder, as nvcc itself says. */
function toolkitOf(nvcc) {
  const { stderr, stdout } = spawnSync(nvcc, ['--dryrun', '-x', 'cu', '-c', '/dev/null'], {
    encoding: 'utf8',
  });
  return /^#\$ TOP=(.*)$/m.exec(`${stderr}${stdout}`)?.[1].trim() ?? null;
}

function libraryIn(folder, pattern) {
  if (!existsSync(folder)) return null;
  const name = readdirSync(folder)
    .filter((file) => pattern.test(file))
    .sort()
    .at(0);
  return name === undefined ? null : join(folder, name);
}

function findCuda() {
  const nvcc = findNvcc();
  if (nvcc === null) return { missing: 'nvcc' };
  const toolkit = toolkitOf(nvcc);
  const places = [process.env.CUDA_HOME, toolkit, '/usr/local/cuda'].filter((place) => place);
  for (const folder of sitePackages())
    places.push(join(folder, 'nvidia', 'cu13'), join(folder, 'nvidia', 'cublas'));
  for (const place of places) {
    const header = join(place, 'include', 'cublasLt.h');
    const library = ['lib64', 'lib']
      .map((lib) => libraryIn(join(place, lib), /^libcublasLt\.so/))
      .find((path) => path);
    const runtime = ['lib64', 'lib']
      .map((lib) => libraryIn(join(toolkit ?? '/usr/local/cuda', lib), /^libcudart_static\.a$/))
      .find((path) => path);
    if (existsSync(header) && library && runtime)
      return { nvcc, include: join(place, 'include'), library, runtime };
  }
  return { missing: 'cublasLt.h and libcublasLt.so (a CUDA toolkit, or pip install nvidia-cublas)' };
}

const cuda = wanted === '0' ? { missing: 'QUIRE_CUDA=0' } : findCuda();
if (wanted === '1' && cuda.missing !== undefined) {
  console.error(`quire: QUIRE_CUDA=1, but ${cuda.missing} is missing`);
  process.exit(1);
}
const found = cuda.missing === undefined;
const answers = {
  enabled: () => (found ? '1' : '0'),
  missing: () => cuda.missing ?? '',
  nvcc: () => (found ? cuda.nvcc : ''),
  include: () => (found ? cuda.include : ''),
  libraries: () => (found ? `${cuda.library} -Wl,-rpath,${dirname(cuda.library)} ${cuda.runtime}` : ''),
};
console.log(answers[process.argv[2]]());
