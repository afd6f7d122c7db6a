// Checkpoints in fp8: the logits of what their numbers stand for, on the CPU exactly, on the emulated GPU as
// far as 8 bits go; what is not read is refused.

import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { floatsOf } from '../../engine/floats.ts';
import { loadModel } from '../../engine/model-files.ts';
import { openCheckpoint } from '../../engine/safetensors.ts';
import { forward, openForForward } from './forward.ts';

const llama = fileURLToPath(new URL('../golden/families/llama2', import.meta.url));
const tokenIds = Array.from({ length: 40 }, (_, i) => (i * 37 + 5) % 96);

interface FileTensor {
  dtype: string;
  shape: number[];
  data: Uint8Array;
}

async function writeSafetensors(path: string, tensors: Map<string, FileTensor>): Promise<void> {
  let end = 0;
  const entries = [...tensors].map(([name, { dtype, shape, data }]) => {
    end += data.length;
    return [name, { dtype, shape, data_offsets: [end - data.length, end] }];
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  await writeFile(path, Buffer.concat([length, header, ...[...tensors.values()].map(({ data }) => data)]));
}

const f32Tensor = (shape: number[], values: ArrayLike<number>): FileTensor => ({
  dtype: 'F32',
  shape,
  data: new Uint8Array(Float32Array.from(values).buffer),
});

/** What the bytes 0 to 126 stand for. */
const e4m3 = Array.from({ length: 127 }, (_, byte) =>
  byte < 8 ? byte * 2 ** -9 : (1 + (byte % 8) / 8) * 2 ** ((byte >> 3) - 7),
);

function encode(value: number): number {
  const magnitude = Math.abs(value);
  let best = 0;
  for (let byte = 1; byte < 127; byte++) {
    if (Math.abs(e4m3[byte] - magnitude) < Math.abs(e4m3[best] - magnitude)) best = byte;
  }
  return best | (value < 0 ? 128 : 0);
}
const decode = (byte: number) => (byte & 128 ? -1 : 1) * e4m3[byte & 127];

/** llama2 twice: its layers' matrices in fp8, and in f32 as what those numbers stand for. */
async function writeBoth(folder: string, perRow: boolean): Promise<{ fp8: string; plain: string }> {
  const checkpoint = await openCheckpoint(llama);
  const bytes = await readFile(checkpoint.paths[0]);
  const coded = new Map<string, FileTensor>();
  const plain = new Map<string, FileTensor>();
  for (const entry of checkpoint.tensors.values()) {
    const values = floatsOf(bytes.subarray(entry.offset, entry.offset + entry.bytes), 'f32');
    const { name, shape } = entry;
    if (!name.endsWith('_proj.weight')) {
      for (const tensors of [coded, plain]) tensors.set(name, f32Tensor(shape, values));
      continue;
    }
    const [rows, cols] = shape;
    const largest = (part: Float32Array) => Math.fround(Math.max(...part.map(Math.abs)) / 448);
    const scaleOf = (row: number) => largest(perRow ? values.subarray(row * cols, (row + 1) * cols) : values);
    const scales = Array.from({ length: perRow ? rows : 1 }, (_, row) => scaleOf(row));
    const scaleAt = (i: number) => scales[perRow ? Math.floor(i / cols) : 0];
    const data = Uint8Array.from(values, (value, i) => encode(value / scaleAt(i)));
    coded.set(name, { dtype: 'F8_E4M3', shape, data });
    coded.set(`${name}_scale`, f32Tensor(perRow ? [rows, 1] : [1], scales));
    coded.set(name.replace(/weight$/, 'input_scale'), f32Tensor([], [1]));
    plain.set(
      name,
      f32Tensor(
        shape,
        Array.from(data, (byte, i) => decode(byte) * scaleAt(i)),
      ),
    );
  }
  const config = JSON.parse(await readFile(join(llama, 'config.json'), 'utf8'));
  const quantization = { quant_method: 'fp8', activation_scheme: 'static' };
  for (const [name, tensors, extra] of [
    ['fp8', coded, { quantization_config: quantization }],
    ['plain', plain, {}],
  ] as const) {
    await cp(llama, join(folder, name), { recursive: true });
    await writeFile(join(folder, name, 'config.json'), JSON.stringify({ ...config, ...extra }));
    await writeSafetensors(join(folder, name, 'model.safetensors'), tensors);
  }
  return { fp8: join(folder, 'fp8'), plain: join(folder, 'plain') };
}

async function logitsOf(folder: string, options: Parameters<typeof openForForward>[1]) {
  const native = openForForward(await loadModel(folder, { loadFormat: 'auto' }), options);
  const logits = forward(native, tokenIds, 13, 16);
  const { weightBytes } = native.memory;
  native.close();
  return { logits, weightBytes };
}

const largestDifference = (a: Float32Array[], b: Float32Array[]) =>
  Math.max(...a.flatMap((row, i) => Array.from(row, (value, id) => Math.abs(value - b[i][id]))));

describe('a checkpoint in fp8', () => {
  let folder = '';
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quire-fp8-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it.each([true, false])('is read with its scales, one for each row: %s', async (perRow) => {
    const { fp8, plain } = await writeBoth(folder, perRow);
    const wanted = await logitsOf(plain, { dtype: 'f32' });
    expect((await logitsOf(fp8, { dtype: 'f32' })).logits).toEqual(wanted.logits);
    // In bfloat16 when nothing is asked for.
    const largest = Math.max(...wanted.logits.flatMap((row) => [...row].map(Math.abs)));
    const rounded = largestDifference((await logitsOf(fp8, {})).logits, wanted.logits);
    expect(rounded).toBeGreaterThan(0);
    expect(rounded).toBeLessThan(largest / 50);
    // On a GPU the MLP's matrices stay in 8 bits and activations get them too; heads of 8 need padding.
    const onGpu = await logitsOf(fp8, { backend: 'emulated', dtype: 'f16' });
    expect(largestDifference(onGpu.logits, wanted.logits)).toBeLessThan(largest / 10);
    const in16 = await logitsOf(plain, { backend: 'emulated', dtype: 'f16' });
    expect(onGpu.weightBytes).toBeLessThan(in16.weightBytes);
  });

  it('is refused where it is of a kind that is not read', async () => {
    const { fp8 } = await writeBoth(folder, true);
    const config = JSON.parse(await readFile(join(fp8, 'config.json'), 'utf8'));
    const openWith = async (change: object) => {
      const quantization_config = { ...config.quantization_config, ...change };
      await writeFile(join(fp8, 'config.json'), JSON.stringify({ ...config, quantization_config }));
      await loadModel(fp8, { loadFormat: 'auto' });
    };
    await expect(openWith({ weight_block_size: [128, 128] })).rejects.toThrow(
      /weight_block_size is \[128,128\], allowed: null/,
    );
    await expect(openWith({ fmt: 'e5m2' })).rejects.toThrow(/fmt is "e5m2", allowed: "e4m3"/);
    await expect(openWith({ activation_scheme: 'none' })).rejects.toThrow(
      /activation_scheme is "none", allowed: "dynamic", "static"/,
    );
  });

  const matrix = 'model.layers.0.mlp.gate_proj.weight';
  it.each<[RegExp, string, FileTensor | null]>([
    [/weight_scale is missing/, `${matrix}_scale`, null],
    [
      /weight_scale has shape \[7\], expected \[1\] or \[48,1\]/,
      `${matrix}_scale`,
      f32Tensor([7], new Float32Array(7)),
    ],
    [
      /norm.weight is F8_E4M3/,
      'model.norm.weight',
      { dtype: 'F8_E4M3', shape: [32], data: new Uint8Array(32) },
    ],
  ])('is refused when a tensor does not fit: %s', async (message, name, tensor) => {
    const { fp8 } = await writeBoth(folder, true);
    const path = join(fp8, 'model.safetensors');
    const checkpoint = await openCheckpoint(fp8);
    const bytes = await readFile(path);
    const tensors = new Map(
      [...checkpoint.tensors.values()].map(({ name, fileDtype, shape, offset, bytes: size }) => [
        name,
        { dtype: fileDtype, shape, data: bytes.subarray(offset, offset + size) } as FileTensor,
      ]),
    );
    if (tensor === null) tensors.delete(name);
    else tensors.set(name, tensor);
    await writeSafetensors(path, tensors);
    await expect(loadModel(fp8, { loadFormat: 'auto' })).rejects.toThrow(message);
  });
});
