// Which cores this process may compute on, and how many of them it is granted.

import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { ModelError } from './model-error.ts';

/** Cores of a list such as `0-3,8`, in its order; null when it is none, or names a core twice. */
export function parseCpuList(text: string): number[] | null {
  const cores: number[] = [];
  for (const part of text.split(',')) {
    const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim());
    if (match === null) return null;
    const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
    if (last < first || last > 1023) return null;
    for (let core = first; core <= last; core++) cores.push(core);
  }
  return new Set(cores).size === cores.length ? cores : null;
}

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

/** The affinity mask of this process, as the system writes it; null where it does not say. */
function allowedList(): string | null {
  return /^Cpus_allowed_list:\s*(\S+)$/m.exec(readOrNull('/proc/self/status') ?? '')?.[1] ?? null;
}

/** Cores' worth of time that `cpu.max` grants ("quota period", or "max period"); Infinity without a limit. */
export function quotaOf(cpuMax: string): number {
  const [quota, period] = cpuMax.trim().split(/\s+/).map(Number);
  return quota > 0 && period > 0 ? quota / period : Number.POSITIVE_INFINITY;
}

/** The tightest limit on the way from this process's control group (version 2) up to the root it sees. */
function cpuQuota(): number {
  const group = /^0::(\/.*)$/m.exec(readOrNull('/proc/self/cgroup') ?? '')?.[1] ?? '/';
  const parts = group.split('/').filter((part) => part !== '' && part !== '..');
  const folders = parts.map((_, i) => `/${parts.slice(0, i + 1).join('/')}`);
  return Math.min(
    ...['', ...folders].map((folder) => quotaOf(readOrNull(`/sys/fs/cgroup${folder}/cpu.max`) ?? 'max')),
  );
}

/** One thread per core of the affinity mask, and no more than whole cores of the container's quota. */
export function defaultThreads(): number {
  return Math.max(1, Math.floor(Math.min(availableParallelism(), cpuQuota())));
}

/**
 * How many threads compute, and the core of each, none when no list is given. Throws ModelError when the list
 * is none, names a core that this process may not use, or has fewer cores than there are threads.
 */
export function placeThreads(
  threads: number | null,
  affinity: string | null,
): { threads: number; cpuAffinity: number[] } {
  if (affinity === null) return { threads: threads ?? defaultThreads(), cpuAffinity: [] };
  const cores = parseCpuList(affinity);
  if (cores === null) {
    throw new ModelError(
      `--cpu-affinity: found ${JSON.stringify(affinity)}, allowed: cores from 0 to 1023, each once, as in 0-3,8`,
    );
  }
  const list = allowedList();
  const allowed = list === null ? null : parseCpuList(list);
  const missing = allowed === null ? undefined : cores.find((core) => !allowed.includes(core));
  if (missing !== undefined) {
    throw new ModelError(`--cpu-affinity: found core ${missing}, allowed for this process: ${list}`);
  }
  if (threads !== null && threads > cores.length) {
    throw new ModelError(
      `--threads: found ${threads}, allowed with --cpu-affinity ${affinity}: 1 to ${cores.length}`,
    );
  }
  const count = threads ?? cores.length;
  return { threads: count, cpuAffinity: cores.slice(0, count) };
}
