// No container engine runs in the tests, so the files are read: every path, flag, variable, port and user
// they name must exist.

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { serveOptions, variableOf } from '../../server/options.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const dockerfile = readFileSync(`${root}/Dockerfile`, 'utf8');
const instructions = dockerfile
  .split('\n')
  .filter((line) => /^[A-Z]+ /.test(line))
  .map((line) => ({ name: line.split(' ')[0], value: line.slice(line.indexOf(' ') + 1) }));
const of = (name: string) =>
  instructions.filter((instruction) => instruction.name === name).map(({ value }) => value);
const variables = new Set(serveOptions.map(({ name }) => variableOf(name)));
const defaultPort = String(serveOptions.find(({ name }) => name === 'port')?.fallback);

describe('Dockerfile', () => {
  it('copies only what is in the repository or made by an earlier stage', () => {
    const built =
      /^(\/app\/(package\.json|node_modules|dist|native\/build\/Release\/quire\.node)|\/usr\/local\/bin\/node)$/;
    for (const copy of of('COPY')) {
      const [, stage, paths] = /^(?:--from=(\w+) )?(.+)$/.exec(copy) ?? [];
      const sources = paths.split(' ').slice(0, -1);
      for (const source of sources) {
        if (stage === undefined) expect(existsSync(`${root}/${source}`), source).toBe(true);
        else expect(source).toMatch(built);
      }
    }
    const stages = of('FROM').map((from) => / AS (\w+)$/.exec(from)?.[1]);
    expect(stages).toEqual(['build', 'node', 'cpu', 'cuda']);
  });

  it('sets only variables that exist, listens on its port, drains on SIGTERM and runs as a user', () => {
    for (const env of of('ENV')) {
      for (const [, name] of env.matchAll(/(QUIRE_\w+)=/g)) expect(variables).toContain(name);
    }
    expect(of('EXPOSE')).toEqual([defaultPort, defaultPort]);
    expect(of('STOPSIGNAL')).toEqual(['SIGTERM', 'SIGTERM']);
    expect(of('USER')).toEqual(['node', 'node']);
    expect(of('HEALTHCHECK')).toHaveLength(2);
    expect(readFileSync(`${root}/docker/healthcheck.mjs`, 'utf8')).toContain(`|| ${defaultPort}`);
  });

  it('starts what the package calls its binary', () => {
    const { bin } = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'));
    for (const entry of of('ENTRYPOINT')) expect(JSON.parse(entry)).toEqual(['node', bin.quire, 'serve']);
  });
});

describe('docker/compose.yml', () => {
  const compose = parse(readFileSync(`${root}/docker/compose.yml`, 'utf8'));

  it('builds a target of the Dockerfile and passes flags and variables that exist', () => {
    const { quire } = compose.services;
    expect(existsSync(`${root}/docker/${quire.build.context}/Dockerfile`)).toBe(true);
    expect(dockerfile).toContain(` AS ${quire.build.target}\n`);
    const flags = quire.command.filter((part: string) => part.startsWith('--'));
    for (const flag of flags) expect(serveOptions.map(({ name }) => `--${name}`)).toContain(flag);
    for (const name of Object.keys(quire.environment)) {
      if (name.startsWith('QUIRE_')) expect(variables).toContain(name);
    }
    expect(quire.ports).toEqual([`127.0.0.1:8000:${defaultPort}`]);
    const drain = Number(serveOptions.find(({ name }) => name === 'shutdown-timeout')?.fallback);
    expect(Number.parseInt(quire.stop_grace_period, 10)).toBeGreaterThan(drain);
  });

  it('mounts files that exist and named volumes that are declared', () => {
    for (const service of Object.values(compose.services) as Array<{ volumes?: string[] }>) {
      for (const volume of service.volumes ?? []) {
        const [source] = volume.split(':');
        if (source.startsWith('.')) expect(existsSync(`${root}/docker/${source}`), source).toBe(true);
        else expect(Object.keys(compose.volumes)).toContain(source);
      }
    }
  });

  it('has Prometheus scrape the service at its port', () => {
    const { scrape_configs: jobs } = parse(readFileSync(`${root}/docker/prometheus.yml`, 'utf8'));
    expect(jobs[0].static_configs[0].targets).toEqual([`quire:${defaultPort}`]);
    expect(Object.keys(compose.services)).toContain('quire');
  });
});
