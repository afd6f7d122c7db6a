import { describe, expect, it } from 'vitest';
import { defaultThreads, parseCpuList, placeThreads, quotaOf } from '../../engine/cpu-cores.ts';
import { runCli } from '../end-to-end/server-process.ts';

describe('cores', () => {
  it('reads lists', () => {
    expect(parseCpuList('0-3,8')).toEqual([0, 1, 2, 3, 8]);
    expect(parseCpuList('5')).toEqual([5]);
    for (const bad of ['', 'a', '3-1', '0,,1', '0-', '-1', '0-1,1', '1024', '0-99999']) {
      expect(parseCpuList(bad), bad).toBeNull();
    }
  });

  it('reads quotas', () => {
    expect(quotaOf('max 100000\n')).toBe(Number.POSITIVE_INFINITY);
    expect(quotaOf('150000 100000\n')).toBe(1.5);
    expect(quotaOf('')).toBe(Number.POSITIVE_INFINITY);
  });

  it('places threads', () => {
    expect(placeThreads(null, null)).toEqual({ threads: defaultThreads(), cpuAffinity: [] });
    expect(placeThreads(3, null)).toEqual({ threads: 3, cpuAffinity: [] });
    expect(placeThreads(null, '0')).toEqual({ threads: 1, cpuAffinity: [0] });
    expect(() => placeThreads(2, '0')).toThrow('--threads: found 2, allowed with --cpu-affinity 0: 1 to 1');
    expect(() => placeThreads(null, '0-1023')).toThrow(
      /^--cpu-affinity: found core \d+, allowed for this process: \d/,
    );
    expect(() => placeThreads(null, 'x')).toThrow(
      '--cpu-affinity: found "x", allowed: cores from 0 to 1023, each once, as in 0-3,8',
    );
  });

  it('says so in one line', async () => {
    const { code, stderr } = await runCli(['serve', '--backend', 'cpu', '--cpu-affinity', '1023']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/--cpu-affinity: found core 1023, allowed for this process: \S+\n$/);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });
});
