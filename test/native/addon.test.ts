// The addon refuses what it cannot do with an exception, never with a crash.

import { readdirSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { loadModel } from '../../engine/model-files.ts';
import { cpuFeatures, type NativeModel, openNativeModel } from '../../engine/native.ts';
import { hasStories, storiesFolder } from '../stories260k.ts';
import { forwardOptions, openForForward, stepChunks } from './forward.ts';

const load = () => loadModel(storiesFolder, { loadFormat: 'auto' });
const chunk = { row: 0, tokenIds: [1, 2, 3], start: 0 };

it('names the kernels of this machine, portable ones always', () => {
  const { variants, instructionSets } = cpuFeatures();
  expect(variants).toContain('portable');
  expect(Array.isArray(instructionSets)).toBe(true);
});

describe.skipIf(!hasStories)('a native model', () => {
  it.each([
    ['blockSize', 12],
    ['blockSize', 0],
    ['maxNumSeqs', 0],
    ['maxNumSeqs', -1],
    ['maxNumBatchedTokens', 2 ** 40],
    ['maxModelLen', 0.5],
    ['threads', 0],
    ['threads', 1e9],
    ['maxLogprobs', -1],
    ['backend', 'gpu'],
    ['cpuVariant', 'neon'],
    ['kvCacheDtype', 'f64'],
    ['kvCacheDtype', 'f8'],
    ['dtype', 'i8'],
    ['seed', 'x'],
  ])('refuses %s %s', async (name, value) => {
    const { config, files } = await load();
    expect(() => openNativeModel(config, files, { ...forwardOptions, [name]: value } as never)).toThrow(
      new RegExp(`${name}|allowed|cannot run the CPU variant|need a GPU`),
    );
  });

  it.each(['amx', 'avx512', 'avx2', 'portable'] as const)(
    'has the %s kernels if it names them',
    async (cpuVariant) => {
      const { config, files } = await load();
      const open = () =>
        openNativeModel(config, files, { ...forwardOptions, roundsActivations: true, cpuVariant });
      if (cpuFeatures().variants.includes(cpuVariant)) {
        const native = open();
        expect(native.description).toContain(`cpu ${cpuVariant}`);
        native.close();
      } else {
        expect(open).toThrow(`this machine cannot run the CPU variant ${cpuVariant}`);
      }
    },
  );

  it('refuses a tensor beyond the end of its file', async () => {
    const { config, files } = await load();
    const [first, ...others] = files.tensors;
    const outside = { ...files, tensors: [{ ...first, offset: 2 ** 40 }, ...others] };
    expect(() => openNativeModel(config, outside, forwardOptions)).toThrow(/outside|beyond|end of/);
  });

  it('refuses counts that are none, and steps beyond the arena', async () => {
    const model = openForForward(await load());
    for (const args of [
      [-1, 1, 1],
      [1, 1.5, 1],
      [1e6, 1, 1],
      [1, 1e6, 1],
      [1, 1, 1e6],
      ['1', 1, 1],
    ]) {
      expect(() => model.launch(...(args as [number, number, number]))).toThrow();
    }
    model.close();
  });

  it('computes a step in two calls as in one, and in no other order', async () => {
    const model = openForForward(await load());
    const whole = stepChunks(model, [chunk], forwardOptions.blockSize);
    const inTwo = new Proxy(model, {
      get: (target, name: keyof NativeModel) => {
        if (name !== 'launch') {
          const value = target[name];
          return typeof value === 'function' ? value.bind(target) : value;
        }
        return (numTokens: number, numSeqs: number, numRows: number) => {
          target.forward(numTokens, numSeqs);
          expect(() => target.forward(numTokens, numSeqs)).toThrow('before the one before it has sampled');
          expect(() => target.sample(numTokens + 1, 0)).toThrow('out of bounds');
          expect(() => target.freeKvCache()).toThrow('a step is under way');
          target.sample(numRows, 0);
        };
      },
    });
    expect(() => model.sample(1, 0)).toThrow('there is no step to sample');
    expect(stepChunks(inTwo, [chunk], forwardOptions.blockSize)).toEqual(whole);
    model.close();
  });

  it('closes twice, and refuses everything afterwards', async () => {
    const model = openForForward(await load());
    stepChunks(model, [chunk], forwardOptions.blockSize);
    model.close();
    model.close();
    expect(() => model.launch(1, 1, 1)).toThrow('the model is closed');
    expect(() => model.allocateKvCache(10)).toThrow('the model is closed');
    expect(() => model.copyBlocks(Int32Array.of(1, 2))).toThrow('the model is closed');
  });

  it('is one of several, which do not disturb each other', async () => {
    const [a, b] = [openForForward(await load()), openForForward(await load())];
    const alone = stepChunks(a, [chunk], forwardOptions.blockSize).map((row) => Float32Array.from(row));
    stepChunks(b, [{ ...chunk, tokenIds: [9, 8, 7] }], forwardOptions.blockSize);
    expect(stepChunks(a, [chunk], forwardOptions.blockSize)).toEqual(alone);
    a.close();
    expect(stepChunks(b, [chunk], forwardOptions.blockSize)).toEqual(alone);
    b.close();
  });

  it('computes with the threads of a model beside it, which may be closed first', async () => {
    const { config, files } = await load();
    const options = { ...forwardOptions, threads: 17 };
    const numThreads = () => readdirSync('/proc/self/task').length;
    const start = numThreads();
    const alone = openNativeModel(config, files, options);
    const numOwn = numThreads() - start;
    const beside = openNativeModel(config, files, options, alone);
    // Those that read its files are its own.
    expect(numThreads() - start - numOwn).toBeLessThanOrEqual(numOwn - 12);
    const logitsOf = (model: typeof alone) => {
      model.allocateKvCache(20);
      return stepChunks(model, [chunk], forwardOptions.blockSize).map((row) => Float32Array.from(row));
    };
    const expected = logitsOf(alone);
    alone.close();
    expect(logitsOf(beside)).toEqual(expected);
    expect(() => openNativeModel(config, files, options, alone)).toThrow('the model is closed');
    beside.close();
  });

  it('opens in worker threads, which may end without closing it', async () => {
    const built = (name: string) =>
      JSON.stringify(new URL(`../../dist/engine/${name}.js`, import.meta.url).href);
    const source = `
      const { loadModel } = await import(${built('model-files')});
      const { openNativeModel } = await import(${built('native')});
      const { parentPort, workerData } = await import('node:worker_threads');
      const { config, files } = await loadModel(workerData.folder, { loadFormat: 'auto' });
      const model = openNativeModel(config, files, workerData.options);
      model.allocateKvCache(20);
      parentPort.postMessage(model.description);
    `;
    for (let round = 0; round < 3; round++) {
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
        workerData: { folder: storiesFolder, options: forwardOptions },
      });
      const description = await new Promise((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      });
      expect(description).toMatch(/^cpu /);
      await worker.terminate();
    }
  });
});
