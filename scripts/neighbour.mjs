// What decoding loses beside busy neighbours: four streams of a model with made-up weights, quiet and beside
// processes that burn a share of CPU time, in turn. Prints tokens/s and their ratio.
//
//   node scripts/neighbour.mjs MODEL [--neighbours 2] [--share 0.45] [--rounds 3] [--seconds 4] [--threads 2]
//
// MODEL is a folder with a config.json, e.g. scripts/shapes/llama-3.2-1b-awq.

import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { defaultSamplingParams, Engine } from '../dist/engine/engine.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    neighbours: { type: 'string', default: '2' },
    share: { type: 'string', default: '0.45' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
    threads: { type: 'string', default: '2' },
  },
});
const numStreams = 4;
const numRounds = Number(values.rounds);

/**
 * Burns its share of every 20 ms in CPU time, not wall time: it takes as much when it must wait for a core.
 */
const burn = `
  const used = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1000; };
  const start = performance.now();
  const isBehind = () => used() < (performance.now() - start) * ${Number(values.share)};
  setInterval(() => { while (isBehind()) {} }, 20);
`;

const engine = await Engine.open({
  model: positionals[0] ?? 'scripts/shapes/llama-3.2-1b-awq',
  loadFormat: 'dummy',
  backend: 'cpu',
  maxModelLen: 4096,
  maxNumSeqs: numStreams,
  threads: Number(values.threads),
});

/** Tokens/s of all streams from when each has decoded a token. */
async function decodeRate() {
  const stop = new AbortController();
  const sampling = { ...defaultSamplingParams, temperature: 0, ignoreEos: true, maxTokens: 3900 };
  let numTokens = 0;
  let numStarted = 0;
  let startMs = 0;
  const streams = Array.from({ length: numStreams }, async (_, stream) => {
    const promptTokenIds = Int32Array.from({ length: 128 }, (_, i) => 1 + ((i * 31 + stream * 997) % 90_000));
    let isStarted = false;
    const request = { requestId: `stream-${stream}`, promptTokenIds, sampling, signal: stop.signal };
    for await (const { tokenIds } of engine.generate(request)) {
      if (!isStarted && ++numStarted === numStreams) {
        startMs = performance.now();
        setTimeout(() => stop.abort(), Number(values.seconds) * 1000);
      }
      isStarted = true;
      if (startMs > 0 && !stop.signal.aborted) numTokens += tokenIds.length;
    }
  });
  await Promise.all(streams);
  return numTokens / Number(values.seconds);
}

async function besideNeighbours(run) {
  const neighbours = Array.from({ length: Number(values.neighbours) }, () =>
    spawn(process.execPath, ['-e', burn], { stdio: 'ignore' }),
  );
  await new Promise((resolve) => setTimeout(resolve, 500));
  const rate = await run();
  for (const neighbour of neighbours) neighbour.kill();
  return rate;
}

const median = (rates) => rates.toSorted((a, b) => a - b)[rates.length >> 1];
const quiet = [];
const disturbed = [];
await decodeRate();
for (let round = 0; round < numRounds; round++) {
  quiet.push(await decodeRate());
  disturbed.push(await besideNeighbours(decodeRate));
  const [alone, beside] = [quiet[round], disturbed[round]].map((rate) => rate.toFixed(1));
  console.log(`round ${round + 1}: ${alone} tokens/s alone, ${beside} beside neighbours`);
}
const ratio = median(disturbed) / median(quiet);
console.log(
  `median ${median(quiet).toFixed(1)} alone, ${median(disturbed).toFixed(1)} beside: ${ratio.toFixed(2)}x`,
);
await engine.close();
