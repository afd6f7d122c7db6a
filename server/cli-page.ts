// docs/cli.md, from the table of flags.

import { engineOptions } from './bench/engine-runs.ts';
import { latencyOptions } from './bench/latency.ts';
import { benchOptions } from './bench/options.ts';
import { startupOptions } from './bench/startup.ts';
import { throughputOptions } from './bench/throughput.ts';
import { benchOpsOptions } from './commands/bench-ops.ts';
import { allowedOf, type Option, serveOptions, variableOf } from './options.ts';

function table(options: readonly Option[], hasVariables: boolean): string[] {
  const head = hasVariables
    ? ['flag', 'variable', 'value', 'default', 'what']
    : ['flag', 'value', 'default', 'what'];
  const rows = options.map(({ name, kind, fallback, help }) => {
    const isEmpty = fallback === null || (Array.isArray(fallback) && fallback.length === 0);
    const cells = [`\`--${name}\``, allowedOf(kind), isEmpty ? '' : `\`${fallback}\``, help];
    if (hasVariables) cells.splice(1, 0, `\`${variableOf(name)}\``);
    return `| ${cells.join(' | ')} |`;
  });
  return [`| ${head.join(' | ')} |`, `|${'---|'.repeat(head.length)}`, ...rows];
}

const engineFlags = engineOptions.map(({ name }) => `\`--${name}\``).join(', ');

/** A command that takes flags of the engine too, which are listed above. */
function modelBench(name: string, options: readonly Option[]): string[] {
  return [
    `## quire bench ${name} MODEL`,
    '',
    `Beside these, the flags of \`quire serve\` that shape the engine: ${engineFlags}.`,
    '',
    ...table(
      options.filter((option) => !engineOptions.includes(option)),
      false,
    ),
    '',
  ];
}

export function cliPage(): string {
  return [
    '# Command line',
    '',
    '`node scripts/cli-docs.mjs` makes this page from the table of flags in `server/options.ts`; a test holds them equal.',
    '',
    '## quire serve [MODEL]',
    '',
    'A flag beats its variable. Lists are separated by commas in variables and given as repeated flags. `QUIRE_MODEL`',
    'names the model. A flag or variable that does not exist is an error that names the nearest.',
    '',
    ...table(serveOptions, true),
    '',
    '## quire bench serve',
    '',
    ...table(benchOptions, false),
    '',
    ...modelBench('throughput', throughputOptions),
    ...modelBench('latency', latencyOptions),
    ...modelBench('startup', startupOptions),
    '## quire bench ops [MODEL]',
    '',
    ...table(benchOpsOptions, false),
    '',
  ].join('\n');
}
