// What a draft model costs, and how often it is right: the time of a step with and without, in turns, and the
// share of drafted tokens that were accepted. `dummy` makes both models of random numbers: then nearly no guess
// is right, and what is left is the cost.
//
//     node scripts/draft-model.mjs MODEL DRAFT [auto|dummy] [REQUESTS] [TOKENS]

import { defaultSamplingParams, Engine } from '../dist/engine/engine.js';

const [model, draft, loadFormat = 'auto', numRequests = '1', numTokens = '64'] = process.argv.slice(2);
const numSpeculativeTokens = 4;
const speculation = { method: 'draft_model', numSpeculativeTokens, model: draft, maxModelLen: null };
const prompts = [
  'Write a story about a fox.',
  'Who are you?',
  'Explain what a server does.',
  'What is the weather in Paris?',
];

async function open(options) {
  let steps = [];
  const observer = { onStep: (stats) => steps.push(stats) };
  const maxNumSeqs = Number(numRequests);
  const engine = await Engine.open({
    model,
    loadFormat,
    maxModelLen: 1024,
    maxNumSeqs,
    observer,
    ...options,
  });
  async function answer(i, temperature) {
    const messages = [{ role: 'user', content: prompts[i % prompts.length] }];
    const { tokenIds: promptTokenIds } =
      engine.description.chatTemplate === null
        ? await engine.encodeText(messages[0].content, true)
        : await engine.encodeChat({ messages });
    const sampling = { ...defaultSamplingParams, temperature, seed: BigInt(i), maxTokens: Number(numTokens) };
    const request = { requestId: `${i}`, promptTokenIds, sampling: { ...sampling, ignoreEos: true } };
    const found = [];
    for await (const delta of engine.generate(request)) found.push(...delta.tokenIds);
    return found;
  }
  async function run(temperature) {
    steps = [];
    const answers = Array.from({ length: Number(numRequests) }, (_, i) => answer(i, temperature));
    const tokenIds = (await Promise.all(answers)).join();
    const drafted = steps.reduce((sum, { numDraftTokens }) => sum + numDraftTokens, 0);
    const accepted = steps.reduce(
      (sum, one) => sum + one.numAcceptedByPosition.reduce((a, b) => a + b, 0),
      0,
    );
    // Steps of all requests and nothing else; those with drafts, where there are any.
    const whole = steps.filter(
      ({ numRunning, numPromptTokens, numDrafts }) =>
        numRunning === Number(numRequests) &&
        numPromptTokens === 0 &&
        (drafted === 0 || numDrafts === numRunning),
    );
    return { tokenIds, drafted, accepted, stepMs: median(whole.map(({ stepMs }) => stepMs)) };
  }
  return { engine, run };
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

/** The chance of each guess with which a step yields so many tokens. */
function neededChance(tokensPerStep) {
  const yielded = (p) =>
    Array.from({ length: numSpeculativeTokens + 1 }, (_, i) => p ** i).reduce((a, b) => a + b);
  let [low, high] = [0, 1];
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2;
    if (yielded(middle) < tokensPerStep) low = middle;
    else high = middle;
  }
  return high;
}

const plain = await open({});
const drafted = await open({ speculation });
for (const temperature of [0, 1]) {
  const runs = [];
  for (let turn = 0; turn < 6; turn++) {
    runs.push({ plain: await plain.run(temperature), drafted: await drafted.run(temperature) });
  }
  // The first turn warms up.
  const counted = runs.slice(1);
  const [before, after] = ['plain', 'drafted'].map((name) => median(counted.map((run) => run[name].stepMs)));
  const last = counted[0].drafted;
  const isSame = counted.every((run) => run.plain.tokenIds === run.drafted.tokenIds);
  const ratio = after / before;
  console.log(
    `temperature ${temperature}: a step takes ${before.toFixed(2)} ms, with ${numSpeculativeTokens} drafts ${after.toFixed(2)} ms, ${ratio.toFixed(2)} times; ` +
      `even when ${(100 * neededChance(ratio)).toFixed(0)}% of guesses are right; ` +
      `${last.accepted} of ${last.drafted} were, ${isSame ? 'the same tokens' : 'OTHER TOKENS'}`,
  );
}
await Promise.all([plain.engine.close(), drafted.engine.close()]);
