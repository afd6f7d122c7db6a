// The functions that a V8 CPU profile (node --cpu-prof) found on top of the stack most often.
//
//     node scripts/cpu-profile.mjs FILE.cpuprofile [COUNT]

import { readFileSync } from 'node:fs';

const [file, count = '5'] = process.argv.slice(2);
const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(file, 'utf8'));
const nameOf = new Map(
  nodes.map(({ id, callFrame: { functionName, url, lineNumber } }) => [
    id,
    `${functionName || '(anonymous)'}  ${url.split('/').slice(-2).join('/')}${url ? `:${lineNumber + 1}` : ''}`,
  ]),
);
const selfMicroseconds = new Map();
let busy = 0;
samples.forEach((id, i) => {
  const name = nameOf.get(id);
  if (name.startsWith('(idle)') || name.startsWith('(root)')) return;
  selfMicroseconds.set(name, (selfMicroseconds.get(name) ?? 0) + timeDeltas[i]);
  busy += timeDeltas[i];
});
const top = [...selfMicroseconds].sort((a, b) => b[1] - a[1]).slice(0, Number(count));
for (const [name, time] of top) console.log(`${((100 * time) / busy).toFixed(1).padStart(5)}%  ${name}`);
