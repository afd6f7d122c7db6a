// What goes into a layer's matrices when the model reads the calibration text: through our own forward pass.

import type { LayerSlot } from '../model-config.ts';
import type { LoadedModel } from '../model-files.ts';
import { type NativeModel, openNativeModel } from '../native.ts';
import type { Matrix } from './groups.ts';

const blockSize = 32;
/** Tokens the text is cut into: a model should not see more at once than what it was trained on. */
const windowTokens = 512;

export class Activations {
  readonly #model: NativeModel;
  readonly #tokenIds: Int32Array;
  readonly #window: number;

  /** tokenIds: the calibration text; read in windows of 512 tokens that know nothing of each other. */
  constructor(loaded: LoadedModel, tokenIds: Int32Array, threads: number) {
    this.#tokenIds = tokenIds;
    this.#window = Math.min(windowTokens, loaded.config.maxPositionEmbeddings, tokenIds.length);
    const numWindows = Math.ceil(tokenIds.length / this.#window);
    this.#model = openNativeModel(loaded.config, loaded.files, {
      backend: 'cpu',
      cpuVariant: null,
      roundsActivations: false,
      quantization: 'none',
      dtype: null,
      kvCacheDtype: 'f32',
      blockSize,
      maxNumSeqs: numWindows,
      maxNumBatchedTokens: tokenIds.length,
      maxModelLen: this.#window,
      maxLogprobs: 0,
      maxLoras: 0,
      threads,
      cpuAffinity: [],
      batchInvariant: false,
      warmUp: false,
      keepLogits: false,
      packedCache: null,
      seed: 0,
    });
    this.#model.allocateKvCache(1 + numWindows * this.#blocksPerWindow);
  }

  get #blocksPerWindow(): number {
    return Math.ceil(this.#window / blockSize);
  }

  /** Runs the text with the layer's inputs kept; inputsOf tells them afterwards. */
  run(layer: number): void {
    const { batch } = this.#model;
    const { length } = this.#tokenIds;
    this.#model.capture(layer);
    batch.tokenIds.set(this.#tokenIds);
    let numWindows = 0;
    for (let start = 0; start < length; start += this.#window) this.#fillWindow(numWindows++, start);
    this.#model.launch(length, numWindows, 0);
    this.#model.collect();
  }

  #fillWindow(window: number, start: number): void {
    const { batch } = this.#model;
    const perWindow = this.#blocksPerWindow;
    const end = Math.min(start + this.#window, this.#tokenIds.length);
    for (let block = 0; block < perWindow; block++) {
      batch.blockTable[window * perWindow + block] = 1 + window * perWindow + block;
    }
    for (let i = start; i < end; i++) {
      batch.positions[i] = i - start;
      batch.slotMapping[i] = (1 + window * perWindow) * blockSize + i - start;
    }
    batch.queryStartLoc[window] = start;
    batch.queryStartLoc[window + 1] = end;
    batch.contextLens[window] = end - start;
    batch.seqRows[window] = window;
    batch.loraRows[window] = -1;
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
