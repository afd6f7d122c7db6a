// What goes into a layer's matrices when the model reads the calibration text: through our own forward pass.

import type { LayerSlot } from '../model-config.ts';
import type { LoadedModel } from '../model-files.ts';
import { type NativeModel, openNativeModel } from '../native.ts';
import type { Matrix } from './groups.ts';

const blockSize = 32;

export class Activations {
  readonly #model: NativeModel;
  readonly #tokenIds: Int32Array;

  /** tokenIds: the calibration text, cut to what the model takes in. */
  constructor(loaded: LoadedModel, tokenIds: Int32Array, threads: number) {
    this.#tokenIds = tokenIds;
    this.#model = openNativeModel(loaded.config, loaded.files, {
      backend: 'cpu',
      cpuVariant: null,
      dtype: null,
      kvCacheDtype: 'f32',
      blockSize,
      maxNumSeqs: 1,
      maxNumBatchedTokens: tokenIds.length,
      maxModelLen: tokenIds.length,
      maxLogprobs: 0,
      maxLoras: 0,
      threads,
      keepLogits: false,
      seed: 0,
    });
    this.#model.allocateKvCache(1 + Math.ceil(tokenIds.length / blockSize));
  }

  /** Runs the text with the layer's inputs kept; inputsOf tells them afterwards. */
  run(layer: number): void {
    const { batch } = this.#model;
    const { length } = this.#tokenIds;
    this.#model.capture(layer);
    batch.tokenIds.set(this.#tokenIds);
    for (let i = 0; i < length; i++) {
      batch.positions[i] = i;
      batch.slotMapping[i] = blockSize + i;
    }
    for (let block = 0; block * blockSize < length; block++) batch.blockTable[block] = 1 + block;
    batch.queryStartLoc.set([0, length]);
    batch.contextLens[0] = length;
    batch.seqRows[0] = 0;
    batch.loraRows[0] = -1;
    this.#model.step(length, 1, 0);
  }

  /** At most `count` rows, evenly spread over the text; [count, channels]. */
  inputsOf(slot: LayerSlot, count: number): Matrix {
    const all = this.#model.captured(slot);
    const total = this.#tokenIds.length;
    const cols = all.length / total;
    const rows = Math.min(count, total);
    const values = new Float32Array(rows * cols);
    for (let i = 0; i < rows; i++) {
      const from = Math.floor((i * total) / rows) * cols;
      values.set(all.subarray(from, from + cols), i * cols);
    }
    return { rows, cols, values };
  }

  close(): void {
    this.#model.close();
  }
}
