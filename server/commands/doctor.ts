// `quire doctor`: what this machine has, which backend would be used and why, and what is missing.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { type CudaDevices, cpuFeatures, findBackend, findCudaDevices } from '../../engine/engine.ts';
import { version } from '../serve.ts';

export const doctorHelp = `Usage: quire doctor

Prints the processor and its kernels, the GPUs and their driver, and which backend a model would run on
and why.
`;

/** What the build would need for a GPU, as it looks for it; null where that script is not. */
function findMissing(): string | null {
  const script = fileURLToPath(new URL('../../../scripts/find-cuda.mjs', import.meta.url));
  if (!existsSync(script)) return null;
  const { stdout } = spawnSync(process.execPath, [script, 'missing'], { encoding: 'utf8' });
  return (stdout ?? '').trim();
}

function missingText(): string {
  const missing = findMissing();
  if (missing === null) return 'nvcc and cuBLASLt when quire was built';
  return missing === '' ? 'nothing: npm rebuild builds the CUDA addon' : missing;
}

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;

/** 13000 is 13.0. */
function driverText(driverVersion: number): string {
  if (driverVersion === 0) return 'none';
  return `CUDA ${Math.floor(driverVersion / 1000)}.${Math.floor((driverVersion % 1000) / 10)}`;
}

function gpuLines({ devices, driverVersion, problem }: CudaDevices): string[] {
  return [
    `driver      ${driverText(driverVersion)}`,
    ...devices.map(
      (device, i) =>
        `GPU ${i}       ${device.name}, compute capability ${device.computeCapability}` +
        `${device.isSupported ? '' : ' (8.0 and newer are supported)'}, ${device.numMultiprocessors} multiprocessors, ` +
        `${gigabytes(device.freeBytes)} of ${gigabytes(device.totalBytes)} free`,
    ),
    ...(devices.length === 0 ? [`GPU         none: ${problem}`] : []),
  ];
}

export function doctorReport(gpus: CudaDevices): string {
  const { variants, instructionSets } = cpuFeatures();
  const backend = findBackend(gpus);
  const reason =
    backend === 'cuda'
      ? 'the first GPU can be used'
      : gpus.devices.length > 0
        ? 'no GPU here has compute capability 8.0 or more'
        : gpus.problem;
  return [
    `quire       ${version}, Node ${process.version}`,
    `processor   ${cpus()[0]?.model.trim() ?? 'unknown'}, ${availableParallelism()} threads`,
    `memory      ${gigabytes(freemem())} of ${gigabytes(totalmem())} free`,
    `kernels     ${variants.join(', ')} (best first)`,
    `features    ${instructionSets.join(' ')}`,
    ...gpuLines(gpus),
    ...(gpus.isBuilt ? [] : [`missing     ${missingText()}`]),
    `backend     ${backend}: ${reason}`,
    '',
  ].join('\n');
}

export function runDoctor(): number {
  process.stdout.write(doctorReport(findCudaDevices()));
  return 0;
}
