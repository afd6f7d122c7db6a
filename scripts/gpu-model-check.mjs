// Whole models on a GPU, for scripts/gpu-check: the same logits as on the CPU, the greedy text of
// transformers, and tokens a second with dummy weights.
//
//   node scripts/gpu-model-check.mjs [--backend cuda] [--model FOLDER] [--stories FOLDER] [--shape FILE]
//                                    [--streams 256] [--in 512] [--out 256]
//
// FOLDER: a model to compare (default the one that ships), and stories260k, for the text. FILE: a config.json
// whose shape is measured (default scripts/shapes/llama-3.1-8b.json). One JSON line a row; exit status 1 when
// logits or text differ. Needs a built quire. Backend null measures the host's part of a step alone.

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { EngineLoop } from '../dist/engine/engine-loop.js';
import { Matchers } from '../dist/engine/grammar/matchers.js';
import { loadModel } from '../dist/engine/model-files.js';
import { openNativeModel } from '../dist/engine/native.js';
import { NullModel } from '../dist/engine/null-model.js';
import { parseModelConfig } from '../dist/engine/parse-config.js';
import { dummyWeights } from '../dist/engine/weight-map.js';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { values } = parseArgs({
  options: {
    backend: { type: 'string', default: 'cuda' },
    model: { type: 'string', default: here('../models/quire-demo') },
    stories: { type: 'string', default: here('../../shared/models/stories260k') },
    shape: { type: 'string', default: here('shapes/llama-3.1-8b.json') },
    streams: { type: 'string', default: '256' },
    in: { type: 'string', default: '512' },
    out: { type: 'string', default: '256' },
  },
});
const { backend } = values;
const [numStreams, numIn, numOut] = [Number(values.streams), Number(values.in), Number(values.out)];

const report = (row) => console.log(JSON.stringify(row));

const limits = {
  blockSize: 16,
  maxModelLen: numIn + numOut,
  maxNumSeqs: numStreams,
  maxNumBatchedTokens: Math.max(numStreams, numIn, 2048),
  maxLogprobs: 0,
  maxLoras: 0,
};
const nativeOptions = {
  ...limits,
  cpuVariant: null,
  roundsActivations: false,
  quantization: 'none',
  dtype: null,
  kvCacheDtype: 'bf16',
  threads: 16,
  cpuAffinity: [],
  seed: 0,
  warmUp: false,
  batchInvariant: false,
  keepLogits: false,
  packedCache: null,
};

/** Logits of all positions of one sequence, on one backend. */
function logitsOf({ config, files }, tokenIds, overrides) {
  const native = openNativeModel(config, files, {
    ...nativeOptions,
    ...{ maxModelLen: 256, maxNumSeqs: 1, maxNumBatchedTokens: 256, keepLogits: true },
    ...overrides,
  });
  native.allocateKvCache(17);
  const { batch } = native;
  const count = tokenIds.length;
  for (let i = 0; i < 16; i++) batch.blockTable[i] = i + 1;
  tokenIds.forEach((tokenId, i) => {
    batch.tokenIds[i] = tokenId;
    batch.positions[i] = i;
    batch.slotMapping[i] = 16 + i;
    batch.logitsRows[i] = i;
    batch.targetTokenIds[i] = -1;
    batch.numLogprobs[i] = -1;
    batch.temperature[i] = 0;
    batch.grammarRows[i] = -1;
  });
  batch.queryStartLoc.set([0, count]);
  batch.contextLens[0] = count;
  batch.seqRows[0] = 0;
  batch.loraRows[0] = -1;
  native.launch(count, 1, count);
  native.collect();
  const rows = Array.from({ length: count }, (_, i) => native.lastLogits(i));
  native.close();
  return rows;
}

async function checkLogits() {
  const model = await loadModel(values.model, { loadFormat: 'auto' });
  const tokenIds = Array.from(
    { length: 200 },
    (_, i) => (i * 7919 + 3) % Math.min(512, model.config.vocabSize),
  );
  const wanted = logitsOf(model, tokenIds, { backend: 'cpu', kvCacheDtype: 'f32', dtype: 'f32' });
  const found = logitsOf(model, tokenIds, { backend, dtype: 'f16' });
  const largest = Math.max(...wanted.map((row) => Math.max(...row.map(Math.abs))));
  const error = Math.max(
    ...wanted.map((row, i) => Math.max(...row.map((x, id) => Math.abs(x - found[i][id])))),
  );
  // 11 bits through all layers: a hundredth of the largest logit (test/native/cuda-model.test.ts).
  const passed = error <= largest / 100;
  report({ name: 'logits beside the CPU', shape: values.model, error, largest, passed });
  return passed;
}

const requestOf = (handle, maxTokens) => ({
  handle,
  promptTokenIds: Int32Array.from({ length: numIn }, (_, i) => (i * 7 + handle * 13) % 90),
  arrivalMs: handle,
  ...{ priority: 0, cacheSalt: '', adapterId: null, temperature: 0, topP: 1, topK: 0, minP: 0 },
  ...{ repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0, logitBias: [], seed: [handle, 0] },
  ...{ badWords: [], allowedTokenIds: null, reasoning: null, grammar: null },
  ...{ maxTokens, minTokens: 0, eosTokenIds: [], stopTokenIds: [], numLogprobs: -1, numPromptLogprobs: -1 },
});

const loopOf = (native, numBlocks, vocabSize) =>
  new EngineLoop(
    native,
    { ...limits, numBlocks, vocabSize, longPrefillTokenThreshold: 0, enablePrefixCaching: false },
    new Matchers(new Int32Array(new SharedArrayBuffer(64)), vocabSize),
    () => performance.now(),
  );

/** The greedy text of transformers, token by token, where the small model that it is of is at hand. */
async function checkText() {
  if (!existsSync(`${values.stories}/config.json`)) {
    report({ name: 'greedy text', shape: values.stories, skipped: 'it is not there' });
    return true;
  }
  const { cases, maxTokens } = JSON.parse(readFileSync(here('../test/golden/stories260k-text.json'), 'utf8'));
  const { config, files } = await loadModel(values.stories, { loadFormat: 'auto' });
  const native = openNativeModel(config, files, { ...nativeOptions, backend, dtype: 'f16' });
  const numBlocks = 1 + Math.ceil(limits.maxModelLen / limits.blockSize);
  native.allocateKvCache(numBlocks);
  const wrong = cases.filter(({ promptTokenIds, tokenIds }) => {
    const loop = loopOf(native, numBlocks, config.vocabSize);
    const request = { ...requestOf(1, maxTokens), promptTokenIds: Int32Array.from(promptTokenIds) };
    loop.handle({ type: 'add', request });
    const found = [];
    while (loop.hasWork) found.push(...loop.step().tokenIds);
    return found.join() !== tokenIds.join();
  });
  native.close();
  const passed = wrong.length === 0;
  report({ name: 'greedy text', shape: values.stories, cases: cases.length, wrong: wrong.length, passed });
  return passed;
}

/** Output tokens a second of `count` requests at once, from the first prompt to the last token. */
function run(native, numBlocks, vocabSize, count) {
  const loop = loopOf(native, numBlocks, vocabSize);
  for (let handle = 1; handle <= count; handle++)
    loop.handle({ type: 'add', request: requestOf(handle, numOut) });
  const startMs = performance.now();
  const arrivals = [];
  let tokens = 0;
  while (loop.hasWork) {
    const { tokenIds } = loop.step();
    tokens += tokenIds.length;
    if (tokenIds.length > 0) arrivals.push(performance.now());
  }
  const gaps = arrivals.slice(1).map((ms, i) => ms - arrivals[i]);
  gaps.sort((a, b) => a - b);
  return { tokensPerSecond: (tokens / (performance.now() - startMs)) * 1000, stepMs: gaps[gaps.length >> 1] };
}

/** What scheduling, filling and reading a step of decodes takes on the host. */
function hostStepMs() {
  const numBlocks = numStreams * Math.ceil((numIn + numOut) / 16) + 1;
  const vocabSize = 1000;
  const sizes = { ...limits, maxBlocksPerSeq: Math.ceil(limits.maxModelLen / 16), vocabSize };
  return run(new NullModel(sizes, 0), numBlocks, vocabSize, numStreams).stepMs;
}

function measure(rawConfig, label, quantization) {
  const raw = quantization === null ? rawConfig : { ...rawConfig, quantization_config: quantization };
  const config = parseModelConfig(raw, values.shape);
  const files = dummyWeights(config, raw);
  const native = openNativeModel(config, files, {
    ...nativeOptions,
    backend,
    dtype: 'bf16',
    warmUp: backend === 'cuda',
  });
  const numBlocks = numStreams * Math.ceil(limits.maxModelLen / limits.blockSize) + 1;
  native.allocateKvCache(numBlocks);
  const one = run(native, numBlocks, config.vocabSize, 1);
  // What one token must read: all weights but the embedding, of which it needs a row.
  const embedding = config.tieWordEmbeddings ? 0 : config.vocabSize * config.hiddenSize * 2;
  const bytes = native.memory.weightBytes - embedding;
  report({ name: `1 stream, ${label}`, shape: values.shape, ...one, readTBs: bytes / one.stepMs / 1e9 });
  const many = run(native, numBlocks, config.vocabSize, numStreams);
  report({ name: `${numStreams} streams, ${label}`, shape: `${numIn} in, ${numOut} out`, ...many });
  native.close();
  return { one, many };
}

async function checkAll(hostMs) {
  if (!(await checkLogits()) || !(await checkText())) process.exitCode = 1;
  const rawConfig = JSON.parse(readFileSync(values.shape, 'utf8'));
  const plain = measure(rawConfig, 'bf16', null);
  const awq = { quant_method: 'awq', bits: 4, group_size: 128, zero_point: true };
  for (const [label, quantization] of [
    ['awq', awq],
    ['fp8', { quant_method: 'fp8' }],
  ]) {
    const { one } = measure(rawConfig, label, quantization);
    const ratio = one.tokensPerSecond / plain.one.tokensPerSecond;
    report({ name: `1 stream, ${label} over bf16`, shape: values.shape, ratio });
  }
  const shape = `${numStreams} streams, bf16`;
  report({ name: 'scheduler in a step', shape, hostMs, ofStep: hostMs / plain.many.stepMs });
}

const hostMs = hostStepMs();
report({ name: 'scheduler', shape: `${numStreams} streams`, hostMs });
if (backend !== 'null') await checkAll(hostMs);
