// What the pages of docs/ say, held equal to the tables they describe, in both directions.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { cliPage } from '../../server/cli-page.ts';
import { errorTable } from '../../server/errors.ts';
import { Metrics } from '../../server/metrics.ts';

const page = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');

describe('docs', () => {
  it('cli.md is the table of flags (node scripts/cli-docs.mjs makes it)', () => {
    expect(page('cli.md')).toBe(cliPage());
  });

  it('errors.md lists every error with its status and type, and no other', () => {
    const rows = [...page('errors.md').matchAll(/^\| `(\w+)` \| (\d+) \| `(\w+)` \|/gm)].map(
      ([, code, status, type]) => ({ code, status: Number(status), type }),
    );
    const table = Object.values(errorTable).map(({ code, status, type }) => ({ code, status, type }));
    expect(rows).toEqual(table);
  });

  it('metrics.md lists every vllm: metric, and no other', async () => {
    const metrics = new Metrics('m', 1000);
    metrics.setEngine({ blockSize: 16, numBlocks: 10, maxNumSeqs: 4 } as never, true);
    metrics.setSleepState(() => false);
    metrics.setSpeculation(3);
    metrics.setAdapters(4, () => ({ running: [], waiting: [] }));
    const exposed = [...(await metrics.render()).matchAll(/^# TYPE (vllm:\w+) (\w+)/gm)].map(
      ([, name]) => name,
    );
    const listed = [...page('metrics.md').matchAll(/`(vllm:\w+)`/g)].map(([, name]) => name);
    expect([...new Set(listed)].sort()).toEqual(exposed.sort());
  });
});
