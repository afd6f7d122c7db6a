import { describe, expect, it } from 'vitest';
import { doctorReport } from '../../dist/server/commands/doctor.js';
import { runCli } from '../end-to-end/server-process.ts';

const gpu = {
  name: 'NVIDIA H200',
  computeCapability: '9.0',
  isSupported: true,
  numMultiprocessors: 132,
  freeBytes: 140e9,
  totalBytes: 150e9,
};

describe('quire doctor', () => {
  it('says what would run on this machine', async () => {
    const { code, stdout } = await runCli(['doctor']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^kernels {5}.*portable \(best first\)$/m);
    expect(stdout).toMatch(/^backend {5}(cpu|cuda): ./m);
  });

  it('names a GPU, its driver and its memory', () => {
    const report = doctorReport({ isBuilt: true, devices: [gpu], driverVersion: 13020, problem: '' });
    expect(report).toContain('driver      CUDA 13.2\n');
    expect(report).toContain(
      'GPU 0       NVIDIA H200, compute capability 9.0, 132 multiprocessors, 140.0 GB of 150.0 GB free\n',
    );
    expect(report).toContain('backend     cuda: the first GPU can be used\n');
  });

  it('names what the build of the CUDA addon lacks', () => {
    const problem = 'quire was built without CUDA';
    const report = doctorReport({ isBuilt: false, devices: [], driverVersion: 0, problem });
    expect(report).toMatch(/^missing {5}(nothing: npm rebuild|nvcc|cublasLt\.h|QUIRE_CUDA=0)/m);
    expect(report).toContain(`backend     cpu: ${problem}\n`);
  });

  it('says why a GPU cannot be used', () => {
    const old = { ...gpu, computeCapability: '7.5', isSupported: false };
    expect(doctorReport({ isBuilt: true, devices: [old], driverVersion: 12040, problem: '' })).toContain(
      'backend     cpu: no GPU here has compute capability 8.0 or more\n',
    );
    const none = doctorReport({
      isBuilt: true,
      devices: [],
      driverVersion: 0,
      problem: 'no CUDA-capable device is detected',
    });
    expect(none).toContain('GPU         none: no CUDA-capable device is detected\n');
    expect(none).toContain('backend     cpu: no CUDA-capable device is detected\n');
  });
});
