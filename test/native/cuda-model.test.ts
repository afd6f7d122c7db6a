// The model on the CUDA kernels, run by the emulator: the same logits and the same text as on the CPU, as far
// as 16-bit activations go.

import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { defaultSamplingParams, Engine, type EngineOptions, normalize } from '../../dist/engine/engine.js';
import { EngineLoop } from '../../engine/engine-loop.ts';
import { loadModel } from '../../engine/model-files.ts';
import type { NativeModel } from '../../engine/native.ts';
import { dummyWeights } from '../../engine/weight-map.ts';
import { FakeMatchers, fakeGrammar } from '../engine/fake-matchers.ts';
import { randomInts } from '../engine/random.ts';
import { engineRequest, runToEnd, testLimits } from '../engine/requests.ts';
import { nearCopy } from '../near-copy.ts';
import { greedyCases, hasStories, storiesFolder } from '../stories260k.ts';
import { forward, openForForward } from './forward.ts';

const golden: { tokenIds: number[]; positions: Array<{ argmax: number; logits: Record<string, number> }> } =
  JSON.parse(readFileSync(new URL('../golden/stories260k-logits.json', import.meta.url), 'utf8'));

const {
  'quire-demo': hiddenStates,
}: Record<string, Array<{ tokenIds: number[]; values: number[] }>> = JSON.parse(
  readFileSync(new URL('../golden/hidden-states.json', import.meta.url), 'utf8'),
).cases;

const families = fileURLToPath(new URL('../golden/families', import.meta.url));

describe.each(readdirSync(families))('%s on the emulated GPU', (family) => {
  const expected: { tokenIds: number[]; logits: number[][] } = JSON.parse(
    readFileSync(`${families}/${family}/logits.json`, 'utf8'),
  );

  it.each([40, 7, 1])('has the logits of transformers, in chunks of %i', async (chunkSize) => {
    const model = await loadModel(`${families}/${family}`, { loadFormat: 'auto' });
    const native = openForForward(model, { backend: 'emulated', dtype: 'f16', maxNumBatchedTokens: 64 });
    const logits = forward(native, expected.tokenIds, chunkSize, 16);
    native.close();
    // Numbers of 11 bits through a few layers: a hundredth of the largest logit.
    const largest = Math.max(...expected.logits.flat().map(Math.abs));
    const errors = logits.flatMap((row, position) =>
      Array.from(row, (logit, id) => Math.abs(logit - expected.logits[position][id])),
    );
    expect(Math.max(...errors)).toBeLessThanOrEqual(largest / 100);
  });
});

describe('4-bit weights that the kernels do not have, on the emulated GPU', () => {
  it('are numbers of 16 bits: those of experts, and of heads that are padded', async () => {
    const { config } = await loadModel(`${families}/mixtral`, { loadFormat: 'dummy' });
    const changed = { ...config, intermediateSize: 64, awq: { groupSize: 32 } };
    const model = { config: changed, files: dummyWeights(changed, {}) } as Awaited<
      ReturnType<typeof loadModel>
    >;
    expect(model.files.tensors.some(({ dtype, expert }) => dtype === 'w4' && expert >= 0)).toBe(true);
    expect(model.files.tensors.some(({ dtype, slot }) => dtype === 'w4' && slot === 'q_proj')).toBe(true);
    const logitsOn = (options: Parameters<typeof openForForward>[1]) => {
      const native = openForForward(model, options);
      const logits = forward(native, [3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 89, 79], 5, 16);
      native.close();
      return logits;
    };
    const wanted = logitsOn({});
    const found = logitsOn({ backend: 'emulated', dtype: 'f16', maxNumBatchedTokens: 64 });
    const largest = Math.max(...wanted.flatMap((row) => [...row].map(Math.abs)));
    const errors = found.flatMap((row, i) => Array.from(row, (logit, id) => Math.abs(logit - wanted[i][id])));
    expect(Math.max(...errors)).toBeLessThanOrEqual(largest / 100);
  });
});

function waitedFor(native: NativeModel): NativeModel {
  return new Proxy(native, {
    get: (target, name: keyof NativeModel) => {
      const value = name === 'isAsync' ? false : target[name];
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

const storiesVocabSize = 512;

/** One of each kind that needs to know what was sampled before, and some that end with a hidden state. */
function variedRequest(handle: number, hasGrammar: boolean) {
  const promptTokenIds = [1, 400 + handle, 20, 30 + (handle % 3)];
  if (handle % 6 === 5)
    return engineRequest(handle, promptTokenIds, { wantsHiddenState: true, maxTokens: 1 });
  return engineRequest(handle, promptTokenIds, {
    maxTokens: 6 + handle,
    temperature: handle % 2,
    seed: [handle, 1],
    repetitionPenalty: handle % 3 === 0 ? 1.3 : 1,
    presencePenalty: handle % 4 === 0 ? 0.5 : 0,
    frequencyPenalty: handle % 5 === 0 ? 0.5 : 0,
    minTokens: handle % 6,
    stopTokenIds: [400, 401, 402],
    numPromptLogprobs: handle % 4 === 1 ? 0 : -1,
    grammar: hasGrammar ? fakeGrammar(`grammar ${handle % 2}`, storiesVocabSize) : null,
  });
}

describe('quire-demo on the emulated GPU', () => {
  it('gives the hidden states of transformers, as far as 16 bits go', async () => {
    const model = fileURLToPath(new URL('../../models/quire-demo', import.meta.url));
    const engine = await Engine.open({ model, backend: 'emulated', dtype: 'float16', maxModelLen: 256 });
    const found = await Promise.all(
      hiddenStates.map(({ tokenIds }) =>
        engine.embed({ requestId: 'test', promptTokenIds: Int32Array.from(tokenIds) }),
      ),
    );
    await engine.close();
    const errors = found.flatMap((state, i) =>
      Array.from(normalize(state), (value, j) => Math.abs(value - hiddenStates[i].values[j])),
    );
    expect(Math.max(...errors)).toBeLessThan(2e-3);
  });
});

describe('a GPU refuses when the model opens', () => {
  it.each([
    [{ headSize: 320 }, { dtype: 'f16' }, 'head size 320 is not supported: up to 256 is'],
    [{}, { dtype: 'f32' }, 'a GPU runs float16 or bfloat16: name one of them as --dtype'],
    [{}, { dtype: null }, 'a GPU runs float16 or bfloat16: name one of them as --dtype'],
  ] as const)('%j %j', async (change, options, message) => {
    const model = await loadModel(`${families}/llama2`, { loadFormat: 'auto' });
    const changed = { ...model, config: { ...model.config, ...change } };
    expect(() => openForForward(changed, { backend: 'emulated', ...options })).toThrow(message);
  });

  it('nothing in the middle: what a kernel does wrong ends the step, and names the kernel', async () => {
    const model = await loadModel(`${families}/llama2`, { loadFormat: 'auto' });
    const native = openForForward(model, { backend: 'emulated', dtype: 'f16', maxNumBatchedTokens: 64 });
    expect(() => forward(native, [1, 2 ** 30], 2, 16)).toThrow(
      /^embed, block 0 \d 0, thread \d+: device memory is accessed outside its allocations$/,
    );
    native.close();
  });

  it('weights that it cannot hold, and says what it could', async () => {
    const model = await loadModel(`${families}/llama2`, { loadFormat: 'dummy' });
    // The emulator's GPU has 1 GiB.
    const config = { ...model.config, vocabSize: 600_000, hiddenSize: 1024 };
    const files = dummyWeights(config, {});
    const large = { ...model, config, files };
    expect(() => openForForward(large, { backend: 'emulated', dtype: 'f16' })).toThrow(
      "the weights take 2.3 GiB and 1.0 GiB of the GPU's 1.0 GiB are free: there is room for 0.5 billion",
    );
  });
});

describe.skipIf(!hasStories)('stories260k on the emulated GPU', () => {
  const numTokens = 90;
  const tokenIds = golden.tokenIds.slice(0, numTokens);

  async function logitsOf(dtype: 'f16' | 'bf16', chunkSize: number): Promise<Float32Array[]> {
    const model = await loadModel(storiesFolder, { loadFormat: 'auto' });
    const native = openForForward(model, { backend: 'emulated', dtype, maxNumBatchedTokens: 96 });
    const logits = forward(native, tokenIds, chunkSize, 16);
    native.close();
    return logits;
  }

  it.each([
    // What transformers itself is off by at that precision, against its own float32.
    ['f16', 90, 0.0277],
    ['f16', 13, 0.0277],
    ['f16', 1, 0.0277],
    ['bf16', 90, 0.266],
  ] as const)(
    'has the logits of transformers in %s, in chunks of %i',
    async (dtype, chunkSize, tolerance) => {
      const logits = await logitsOf(dtype, chunkSize);
      const errors = golden.positions
        .slice(0, numTokens)
        .flatMap(({ logits: expected }, position) =>
          Object.entries(expected).map(([id, logit]) => Math.abs(logits[position][Number(id)] - logit)),
        );
      expect(Math.max(...errors)).toBeLessThanOrEqual(tolerance);
      const argmax = logits.map((row) => row.indexOf(Math.max(...row)));
      const wrong = argmax.filter((id, position) => id !== golden.positions[position].argmax);
      expect(wrong.length).toBeLessThanOrEqual(dtype === 'f16' ? 0 : 3);
    },
  );

  it('keeps keys and values in 8 bits when asked to, near what it is in 16', async () => {
    const model = await loadModel(storiesFolder, { loadFormat: 'auto' });
    const logitsWith = (kvCacheDtype: 'bf16' | 'f8') => {
      const native = openForForward(model, { backend: 'emulated', dtype: 'f16', kvCacheDtype });
      const { kvBytesPerBlock } = native.memory;
      const logits = forward(native, tokenIds.slice(0, 40), 9, 16);
      native.close();
      return { kvBytesPerBlock, logits };
    };
    const whole = logitsWith('bf16');
    const halved = logitsWith('f8');
    expect(halved.kvBytesPerBlock).toBe(whole.kvBytesPerBlock / 2);
    const errors = halved.logits.flatMap((row, i) =>
      Array.from(row, (logit, id) => Math.abs(logit - whole.logits[i][id])),
    );
    expect(Math.max(...errors)).toBeGreaterThan(0);
    // Three bits of mantissa: a sixteenth of a key or a value at most.
    const largest = Math.max(...whole.logits.flatMap((row) => [...row].map(Math.abs)));
    expect(Math.max(...errors)).toBeLessThan(largest / 8);
  });

  it('computes the same bits in any chunks when batch-invariant, and only then', async () => {
    const model = await loadModel(storiesFolder, { loadFormat: 'auto' });
    const logitsOf = (batchInvariant: boolean, chunkSize: number) => {
      const options = {
        backend: 'emulated',
        dtype: 'bf16',
        maxNumBatchedTokens: 50,
        batchInvariant,
      } as const;
      const native = openForForward(model, options);
      const logits = forward(native, tokenIds.slice(0, 40), chunkSize, 16);
      native.close();
      return logits;
    };
    const whole = logitsOf(true, 40);
    expect(logitsOf(true, 7)).toEqual(whole);
    expect(logitsOf(true, 1)).toEqual(whole);
    expect(logitsOf(false, 1)).not.toEqual(logitsOf(false, 40));
  });

  it('is the same after a warm-up, which leaves nothing behind', async () => {
    const model = await loadModel(storiesFolder, { loadFormat: 'auto' });
    const options = { backend: 'emulated', dtype: 'f16', maxNumBatchedTokens: 96 } as const;
    const logitsWhen = (warmUp: boolean) => {
      const native = openForForward(model, { ...options, warmUp });
      const logits = forward(native, tokenIds.slice(0, 30), 9, 16);
      native.close();
      return logits;
    };
    expect(logitsWhen(true)).toEqual(logitsWhen(false));
  });

  it.each([
    [1, 0],
    [16, 0],
    [16, 5],
    [16, 12],
  ])(
    'gives the same tokens a step behind as at once, up to %i at a time, %i of 12 with a grammar',
    async (maxNumSeqs, numHeld) => {
      const model = await loadModel(storiesFolder, { loadFormat: 'auto' });
      const { hiddenSize } = model.config;
      const numBlocks = 1 + 8 * maxNumSeqs;
      const sizes = { hiddenSize, blockSize: 16, vocabSize: storiesVocabSize };
      const limits = { ...testLimits, ...sizes, maxNumSeqs, numBlocks };
      const tokensOf = (isAsync: boolean) => {
        const int = randomInts(numHeld);
        const native = openForForward(model, {
          backend: 'emulated',
          dtype: 'f16',
          ...limits,
          keepLogits: false,
          packedCache: null,
        });
        // One that is waited for at once has no use for what it could do meanwhile.
        const loop = new EngineLoop(
          isAsync ? native : waitedFor(native),
          limits,
          new FakeMatchers(storiesVocabSize, () => int(0, 4)),
          () => 0,
        );
        for (let handle = 1; handle <= 12; handle++)
          loop.handle({ type: 'add', request: variedRequest(handle, handle % 12 < numHeld) });
        const outputs = runToEnd(loop);
        native.close();
        return Array.from({ length: 12 }, (_, i) => outputs.of(i + 1));
      };
      expect(tokensOf(true)).toEqual(tokensOf(false));
    },
  );

  it('writes the text of transformers, many requests at once', async () => {
    const engine = await Engine.open({
      model: storiesFolder,
      backend: 'emulated',
      dtype: 'float16',
      kvCacheBytes: 1 << 24,
    });
    const write = async (prompt: string, maxTokens: number) => {
      const { tokenIds: promptTokenIds } = await engine.encodeText(prompt, true);
      const sampling = { ...defaultSamplingParams, temperature: 0, maxTokens };
      let text = '';
      for await (const delta of engine.generate({ requestId: 'test', promptTokenIds, sampling }))
        text += delta.text;
      return text;
    };
    const expected = greedyCases[0];
    const [whole, ...others] = await Promise.all([
      write(expected.prompt, 80),
      ...Array.from({ length: 6 }, (_, i) => write(expected.prompt, 10 + 5 * i)),
    ]);
    expect(whole).toBe(expected.text);
    for (const other of others) expect(expected.text.startsWith(other)).toBe(true);
    await engine.close();
  });

  it('writes the same with guesses as without when batch-invariant, two models in one process', async () => {
    const draftFolder = nearCopy(storiesFolder);
    const run = async (speculation: EngineOptions['speculation']) => {
      let numAccepted = 0;
      const engine = await Engine.open({
        model: storiesFolder,
        backend: 'emulated',
        dtype: 'float16',
        batchInvariant: true,
        kvCacheBytes: 1 << 22,
        maxNumSeqs: 4,
        maxNumBatchedTokens: 64,
        seed: 1,
        speculation,
        observer: {
          onStep: ({ numAcceptedByPosition }) => {
            for (const count of numAcceptedByPosition) numAccepted += count;
          },
        },
      });
      const write = async (i: number) => {
        const { promptTokenIds: prompt, tokenIds: answer } = greedyCases[i % 2];
        // The last repeats what it has read.
        const ids = i < 2 ? prompt : [...prompt, ...answer.slice(0, 24), ...prompt];
        const promptTokenIds = Int32Array.from(ids);
        const sampling = { ...defaultSamplingParams, temperature: i % 2, maxTokens: 16, seed: BigInt(i) };
        const tokenIds: number[] = [];
        for await (const delta of engine.generate({ requestId: `${i}`, promptTokenIds, sampling })) {
          tokenIds.push(...delta.tokenIds);
        }
        return tokenIds;
      };
      const outputs = await Promise.all([0, 1, 2].map(write));
      await engine.close();
      return { outputs, numAccepted };
    };
    const numSpeculativeTokens = 3;
    const plain = await run(null);
    const lookup = { method: 'ngram', promptLookupMax: 2, promptLookupMin: 1, numSpeculativeTokens } as const;
    const byLookup = await run(lookup);
    const byModel = await run({
      method: 'draft_model',
      model: draftFolder,
      maxModelLen: null,
      numSpeculativeTokens,
    });
    rmSync(draftFolder, { recursive: true });
    expect(plain.numAccepted).toBe(0);
    expect([byLookup.outputs, byModel.outputs]).toEqual([plain.outputs, plain.outputs]);
    expect(byLookup.numAccepted).toBeGreaterThan(0);
    expect(byModel.numAccepted).toBeGreaterThan(5);
  });
});
