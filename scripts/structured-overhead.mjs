// What structured output costs: the time of a step with and without a grammar, in turns, at several numbers
// of streams. The grammar never ends, so every stream has the same number of tokens.
//
//   npm run build:ts
//   node scripts/structured-overhead.mjs [MODEL] [--dummy] [--tokens N] [--streams 1,16] [--threads N]

import { parseArgs } from 'node:util';
import { defaultSamplingParams, Engine } from '../dist/engine/engine.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dummy: { type: 'boolean', default: false },
    tokens: { type: 'string', default: '64' },
    streams: { type: 'string', default: '1,16,64' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string' },
  },
});
const model = positionals[0] ?? new URL('../models/quire-demo', import.meta.url).pathname;
const maxTokens = Number(values.tokens);
const grammarText = String.raw`root ::= "[" list
list ::= "{\"name\": " string ", \"age\": " [0-9]{1,3} ", \"ok\": " ("true" | "false") "}, " list
string ::= "\"" characters
characters ::= "\"" | [^\u0000-\u001f"\\] characters | "\\" ["\\/bfnrt] characters`;

const engine = await Engine.open({
  model,
  loadFormat: values.dummy ? 'dummy' : 'auto',
  maxModelLen: 512,
  enablePrefixCaching: false,
  ...(values.threads === undefined ? {} : { threads: Number(values.threads) }),
});
const { vocabSize, kernels } = engine.description;
console.log(`${model}: ${vocabSize} tokens in the vocabulary, ${kernels}`);
const compileStart = performance.now();
const grammar = await engine.compileGrammar({ type: 'ebnf', grammar: grammarText });
console.log(
  `first grammar, its worker's start included: ${(performance.now() - compileStart).toFixed(0)} ms`,
);

/** Milliseconds of a step, from first token to last. */
async function stepMs(numStreams, withGrammar) {
  const times = [];
  const stream = async (i) => {
    const request = {
      requestId: `${i}`,
      promptTokenIds: Int32Array.from({ length: 16 }, (_, at) => 40 + ((at * 7 + i) % 60)),
      sampling: { ...defaultSamplingParams, maxTokens, ignoreEos: true, seed: BigInt(i) },
      grammar: withGrammar ? grammar : null,
    };
    for await (const delta of engine.generate(request))
      times.push([performance.now(), delta.tokenIds.length]);
  };
  await Promise.all(Array.from({ length: numStreams }, (_, i) => stream(i)));
  const total = times.reduce((sum, [, tokens]) => sum + tokens, 0);
  return (times.at(-1)[0] - times[0][0]) / (total / numStreams - 1);
}

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
await stepMs(4, true);
for (const numStreams of values.streams.split(',').map(Number)) {
  const free = [];
  const held = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    free.push(await stepMs(numStreams, false));
    held.push(await stepMs(numStreams, true));
  }
  const [a, b] = [median(free), median(held)];
  const perToken = (1000 * (b - a)) / numStreams;
  console.log(
    `${numStreams} streams: ${a.toFixed(2)} ms a step without, ${b.toFixed(2)} ms with a grammar: ` +
      `+${(100 * (b / a - 1)).toFixed(1)}%, ${perToken.toFixed(0)} us a token`,
  );
}
await engine.close();
