// The rules of docs/architecture.md that a program can check, checked. Function lengths in TypeScript are
// Biome's noExcessiveLinesPerFunction.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename, dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const maxFileLines = 500;
const maxFunctionLines = 70;
const maxColumns = 110;

const filesOf = (...flags: string[]) =>
  execFileSync('git', ['ls-files', ...flags], { cwd: root })
    .toString()
    .split('\n')
    .filter((path) => path !== '');
const tracked = filesOf('--cached', '--others', '--exclude-standard');
const typescript = tracked.filter((path) => /\.(ts|mjs)$/.test(path));
const native = tracked.filter((path) => /\.(h|cc|cu|cuh)$/.test(path));
const source = [...typescript, ...native];
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const texts = new Map(source.map((path) => [path, read(path)]));

/** [importer, imported] pairs of project files. */
function importsOf(path: string): string[] {
  const text = texts.get(path) ?? '';
  if (native.includes(path)) {
    return [...text.matchAll(/^#include "([^"]+)"/gm)].map(([, name]) => {
      const beside = normalize(join(dirname(path), name));
      return texts.has(beside) ? beside : normalize(join('native', name));
    });
  }
  return [...text.matchAll(/(?:from|import)\s*\(?'(\.[^']+)'/g)].map(([, name]) =>
    normalize(join(dirname(path), name)),
  );
}

/**
 * Functions of a clang-formatted file: a line that ends in `{` opens one when its block closes at the same
 * indent.
 */
function longNativeFunctions(path: string): string[] {
  const lines = (texts.get(path) ?? '').split('\n');
  const found: string[] = [];
  lines.forEach((line, start) => {
    const isFunction = /^( {0,2})[^\s#/}].*\)( const| noexcept| override)* \{$/.exec(line);
    const isOther = /^\s*(if|for|while|switch|return|namespace|struct|class|enum)\b|\[.*\]\(/.test(line);
    if (isFunction === null || isOther) return;
    const end = lines.indexOf(`${isFunction[1]}}`, start);
    if (end - start + 1 > maxFunctionLines) found.push(`${path}:${start + 1} has ${end - start + 1} lines`);
  });
  return found;
}

describe('sizes', () => {
  it(`no file has more than ${maxFileLines} lines`, () => {
    const long = source.filter((path) => (texts.get(path) ?? '').split('\n').length > maxFileLines + 1);
    expect(long).toEqual([]);
  });

  // A literal cannot be broken, so what it holds does not count.
  const withoutLiterals = (line: string) => line.replace(/'[^']*'|`[^`]*`|\/\S+\//g, "''");

  it(`no line has more than ${maxColumns} columns`, () => {
    const long = source.flatMap((path) =>
      (texts.get(path) ?? '')
        .split('\n')
        .flatMap((line, i) => ([...withoutLiterals(line)].length > maxColumns ? [`${path}:${i + 1}`] : [])),
    );
    expect(long).toEqual([]);
  });

  it(`no native function has more than ${maxFunctionLines} lines`, () => {
    expect(native.flatMap(longNativeFunctions)).toEqual([]);
  });
});

describe('words', () => {
  it('leaves nothing to be done later and names no drawer', () => {
    const banned = new RegExp(['TO', 'DO|FIX', 'ME|X', 'XX\\b'].join(''));
    expect(source.filter((path) => banned.test(texts.get(path) ?? ''))).toEqual([]);
    const drawers = /(^|[-_.])(util|utils|helper|helpers|misc|common|manager)([-_.]|$)/;
    expect(source.filter((path) => drawers.test(basename(path)) && basename(path) !== 'common.gypi')).toEqual(
      [],
    );
  });
});

describe('imports', () => {
  const allowed: Array<[folder: RegExp, mayImport: RegExp]> = [
    // The server sees the engine's face and the clock, and at start-up what finds a model. Commands see what
    // they run besides.
    [/^server\/(?!commands\/)/, /^(server\/|engine\/(engine|clock|hub)\.ts$)/],
    [
      /^server\/commands\//,
      /^(server\/|engine\/(engine|hub|merge-lora|perplexity|encode-file|cpu-cores|op-bench|quantize\/quantize-model)\.ts$)/,
    ],
    [/^engine\//, /^engine\//],
    [/^native\/reference\//, /^native\/(reference\/|[^/]+\.h$)/],
    [/^native\/cpu\//, /^native\/(cpu\/|[^/]+\.h$)/],
    [/^native\/cuda\//, /^native\/(cuda\/|simt\/simt\.h$|[^/]+\.h$)/],
    [/^native\/simt\//, /^native\/(simt\/|cuda\/[^/]+\.h$|[^/]+\.h$)/],
    [/^native\/[^/]+$/, /^native\/([^/]+$|(cpu|cuda|reference)\/[^/]+\.h$)/],
  ];

  it.each(allowed)('%s imports only what it may', (folder, mayImport) => {
    const wrong = source
      .filter((path) => folder.test(path))
      .flatMap((path) =>
        importsOf(path)
          .filter((imported) => !mayImport.test(imported))
          .map((imported) => `${path} -> ${imported}`),
      );
    expect(wrong).toEqual([]);
  });

  it('loads the addon in one place and Node-API in one', () => {
    const loads = typescript.filter(
      (path) => /^(engine|server)\//.test(path) && /node-gyp-build/.test(texts.get(path) ?? ''),
    );
    expect(loads).toEqual(['engine/native.ts']);
    const napi = native.filter((path) =>
      /#include [<"](js_native_api|node_api|napi)\.h/.test(texts.get(path) ?? ''),
    );
    expect(napi.filter((path) => !path.startsWith('native/addon'))).toEqual([]);
  });

  it('keeps the scheduling core pure: no addon, no I/O, no clock, no randomness', () => {
    const core = ['request', 'block-pool', 'kv-cache', 'scheduler'].map((name) => `engine/${name}.ts`);
    for (const path of core) {
      const text = texts.get(path) ?? '';
      expect(text, path).not.toBe('');
      expect(text, path).not.toMatch(
        /Math\.random|Date\.|performance\.|hrtime|randomBytes|clock\.ts|native\.ts|node:fs/,
      );
    }
  });

  it('has no cycles', () => {
    const state = new Map<string, 'open' | 'done'>();
    const cycles: string[] = [];
    const visit = (path: string, trail: string[]): void => {
      if (state.get(path) === 'done') return;
      if (state.get(path) === 'open') {
        cycles.push([...trail.slice(trail.indexOf(path)), path].join(' -> '));
        return;
      }
      state.set(path, 'open');
      for (const imported of importsOf(path)) if (texts.has(imported)) visit(imported, [...trail, path]);
      state.set(path, 'done');
    };
    for (const path of source) visit(path, []);
    expect(cycles).toEqual([]);
  });
});

describe('the top level', () => {
  it('holds what the architecture names and tools need, nothing else', () => {
    // A log that somebody left lying there is not the project's.
    const entries = new Set(filesOf('--cached').map((path) => path.split('/')[0]));
    const expected = [
      '.ci', '.clang-format', '.dockerignore', '.gitignore', '.npmrc', 'Dockerfile', 'LICENSE',
      'README.md', 'biome.json', 'docker', 'docs', 'engine', 'models', 'native', 'package-lock.json', 'package.json', 'scripts', 'server',
      'test', 'tsconfig.build.json', 'tsconfig.json', 'vitest.config.ts',
    ]; // biome-ignore format: one list
    expect([...entries].sort()).toEqual(expected.sort());
  });
});
