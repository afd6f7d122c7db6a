// What n-gram speculation gains: greedy output tokens a second with and without, in turns, for one request at
// a time whose answer repeats itself. With --json the answer is held to a schema, and repeats its names.
//
//     node scripts/speculation.mjs MODEL [TOKENS] [--json]

import { defaultSamplingParams, Engine } from '../dist/engine/engine.js';

const isJson = process.argv.includes('--json');
const [model, numTokens = '256'] = process.argv.slice(2).filter((word) => word !== '--json');
const config = { method: 'ngram', numSpeculativeTokens: 5, promptLookupMax: 4, promptLookupMin: 2 };
const line = isJson
  ? '{"city": "Paris", "weather": "sunny", "degrees": 21}, '
  : 'The quick brown fox jumps over the lazy dog, and the dog sleeps on. ';
const properties = { city: { type: 'string' }, weather: { type: 'string' }, degrees: { type: 'integer' } };
const item = { type: 'object', properties, required: Object.keys(properties) };
const schema = { type: 'array', items: item, minItems: 1000 };
const sampling = { ...defaultSamplingParams, temperature: 0, maxTokens: Number(numTokens), ignoreEos: true };

async function open(speculation) {
  let counts = { drafted: 0, accepted: 0 };
  const observer = {
    onStep({ numDraftTokens, numAcceptedByPosition }) {
      counts.drafted += numDraftTokens;
      for (const count of numAcceptedByPosition) counts.accepted += count;
    },
  };
  const engine = await Engine.open({ model, speculation, observer, enablePrefixCaching: false });
  const { tokenIds: promptTokenIds } = await engine.encodeText(line.repeat(8), true);
  const grammar = isJson ? await engine.compileGrammar({ type: 'json_schema', schema }) : null;
  async function run() {
    counts = { drafted: 0, accepted: 0 };
    const tokenIds = [];
    let firstMs = 0;
    const request = { requestId: 'speculation', promptTokenIds, sampling, grammar };
    for await (const delta of engine.generate(request)) {
      if (tokenIds.length === 0) firstMs = performance.now();
      tokenIds.push(...delta.tokenIds);
    }
    const seconds = (performance.now() - firstMs) / 1000;
    return { ...counts, tokenIds: tokenIds.join(), perSecond: (tokenIds.length - 1) / seconds };
  }
  return { engine, run };
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const plain = await open(null);
const speculative = await open(config);
const runs = [];
for (let turn = 0; turn < 6; turn++)
  runs.push({ plain: await plain.run(), speculative: await speculative.run() });
await Promise.all([plain.engine.close(), speculative.engine.close()]);
// The first turn warms up.
const counted = runs.slice(1);
const [before, after] = ['plain', 'speculative'].map((name) =>
  median(counted.map((run) => run[name].perSecond)),
);
const { drafted, accepted } = counted[0].speculative;
const isSame = counted.every((run) => run.plain.tokenIds === run.speculative.tokenIds);
console.log(
  `without: ${before.toFixed(1)} tokens/s, with: ${after.toFixed(1)}, ${(after / before).toFixed(2)} times`,
);
console.log(
  `${accepted} of ${drafted} drafted tokens accepted, ${isSame ? 'the same tokens' : 'OTHER TOKENS'}`,
);
