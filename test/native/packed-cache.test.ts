// --packed-cache: the same logits to the bit from the file as from the model, and whatever is wrong with the
// file is noticed, said in a line and put right.

import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { chmod, cp, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadModel } from '../../engine/model-files.ts';
import { cpuFeatures, type NativeModelOptions } from '../../engine/native.ts';
import { packedCacheOf } from '../../engine/packed-cache.ts';
import { runCli, runCliInLittleRoom } from '../end-to-end/server-process.ts';
import { forward, forwardOptions, openForForward } from './forward.ts';

const golden = fileURLToPath(new URL('../golden/awq', import.meta.url));
const demo = fileURLToPath(new URL('../../models/quire-demo', import.meta.url));
const tokenIds = [5, 9, 2, 7, 11, 3, 8];

describe('packed weights in a file', () => {
  let folder = '';
  let file = '';
  /** The model that was opened last had its weights in the mapped file. */
  let isMapped = false;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quire-packed-'));
    await cp(golden, folder, { recursive: true });
    file = join(folder, 'packed-weights.quire');
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function open(asked: string | null, overrides: Partial<NativeModelOptions> = {}) {
    const model = await loadModel(folder, { loadFormat: 'auto' });
    const options = {
      ...forwardOptions,
      roundsActivations: true,
      quantization: 'auto',
      ...overrides,
    } as const;
    const native = openForForward(model, { ...options, packedCache: packedCacheOf(asked, model, options) });
    isMapped = readFileSync('/proc/self/maps', 'utf8').includes(file);
    const logits = forward(native, tokenIds, 4, 16);
    const report = native.packedCache;
    native.close();
    return { logits, report };
  }

  const wrote = `packed the weights and wrote them to `;
  const isRead = () => ({ isProblem: false, text: `read the packed weights from ${file}` });

  it.each(cpuFeatures().variants)('gives the %s kernels the same weights', async (cpuVariant) => {
    const { logits, report } = await open(null, { cpuVariant });
    expect(report).toBeNull();
    // One file for all variants: their tiles are the same.
    const first = await open('auto');
    expect(first.report).toEqual({ isProblem: false, text: expect.stringContaining(`${wrote}${file} (`) });
    const again = await open('auto', { cpuVariant, threads: 1 });
    expect(again.report).toEqual(isRead());
    expect(again.logits).toEqual(logits);
    expect(readdirSync(folder)).not.toContain('packed-weights.quire.part');
  });

  it.each([
    ['every matrix', { quantization: 'int8' }],
    ['no head', { quantization: 'none' }],
  ] as const)('holds what is rounded: %s', async (_, overrides) => {
    const { logits } = await open(null, overrides);
    await open('auto', overrides);
    const again = await open('auto', overrides);
    expect(again).toEqual({ logits, report: isRead() });
  });

  it.each([
    ['cut to nothing', (bytes: Buffer) => bytes.subarray(0, 0), 'is not a file of packed weights'],
    ['cut in its header', (bytes: Buffer) => bytes.subarray(0, 100), 'is not a file of packed weights'],
    ['of something else', (bytes: Buffer) => flipped(bytes, 0), 'is not a file of packed weights'],
    ['of another form', (bytes: Buffer) => flipped(bytes, 16), 'was made of another model'],
    ['of other tiles', (bytes: Buffer) => flipped(bytes, 20), 'was made of another model'],
    ['of another key', (bytes: Buffer) => flipped(bytes, 30), 'was made of another model'],
    ['without a block', (bytes: Buffer) => bytes.subarray(0, 128), /is damaged \((\d+) of \1 matrices\)/],
    ['cut by a byte', (bytes: Buffer) => bytes.subarray(0, bytes.length - 64), /is damaged \(1 of \d+ /],
    ['with another length', (bytes: Buffer) => flipped(bytes, 128), /is damaged \(1 of \d+ matrices\)/],
    ['with another hash', (bytes: Buffer) => flipped(bytes, 136), /is damaged \(1 of \d+ matrices\)/],
    ['with a flipped bit', (bytes: Buffer) => flipped(bytes, 200), /is damaged \(1 of \d+ matrices\)/],
    [
      'with a flipped bit in the middle',
      (bytes: Buffer) => flipped(bytes, bytes.length >> 1),
      /is damaged \(1 of \d+ matrices\)/,
    ],
  ])('is made anew when it is %s', async (_, damage, problem) => {
    const { logits } = await open('auto');
    await writeFile(file, damage(readFileSync(file)));
    const repaired = await open('auto');
    expect(repaired.report).toEqual({ isProblem: true, text: expect.stringContaining(wrote) });
    expect(repaired.report?.text).toMatch(problem);
    expect(repaired.logits).toEqual(logits);
    expect(await open('auto')).toEqual({ logits, report: isRead() });
  });

  it.each([
    ['in 8 bits', { quantization: 'int8' }],
    ['of coded bf16', { quantization: 'none' }],
  ] as const)(
    'is read where it lies when it is larger than a page, and repaired there: %s',
    async (_, overrides) => {
      await cp(demo, folder, { recursive: true });
      const { logits } = await open(null, overrides);
      await open('auto', overrides);
      expect(statSync(file).size).toBeGreaterThan(2 << 20);
      expect(await open('auto', overrides)).toEqual({ logits, report: isRead() });
      if (!isMapped)
        console.warn('SKIPPED: this system keeps the file in small pages, so it was read instead');
      await writeFile(file, flipped(readFileSync(file), statSync(file).size >> 1));
      const repaired = await open('auto', overrides);
      expect(repaired.report?.text).toMatch(/is damaged \(1 of \d+ matrices\)/);
      expect(repaired.logits).toEqual(logits);
      expect(await open('auto', overrides)).toEqual({ logits, report: isRead() });
    },
  );

  it.each([
    ['other weights', 1],
    ['a newer file', 2],
  ])('is made anew for %s', async (what, seconds) => {
    const path = join(folder, 'model.safetensors');
    await utimes(path, 1, 1);
    await open('auto');
    if (what === 'other weights') await writeFile(path, flipped(readFileSync(path), statSync(path).size - 4));
    await utimes(path, seconds, seconds);
    const { logits } = await open(null);
    const other = await open('auto');
    expect(other.report?.text).toContain('was made of another model');
    expect(other.logits).toEqual(logits);
  });

  it('is made anew with other flags', async () => {
    await open('auto');
    const { logits } = await open(null, { quantization: 'none' });
    const other = await open('auto', { quantization: 'none' });
    expect(other.report?.text).toContain('with other flags');
    expect(other.logits).toEqual(logits);
  });

  it('may be read by whom the model may be', async () => {
    await chmod(join(folder, 'model.safetensors'), 0o640);
    await open('auto');
    expect(statSync(file).mode & 0o777).toBe(0o640);
  });

  it.each([
    ['in a folder that is not there', () => join(folder, 'none', 'file'), 'No such file or directory'],
    ['below a file', () => join(folder, 'config.json', 'file'), 'Not a directory'],
    ['that is a folder', () => made(join(folder, 'sub')), 'it is not a plain file'],
    ['that is a device', () => '/dev/full', 'it is not a plain file'],
    ['that is a link', () => link(join(folder, 'config.json'), join(folder, 'link')), 'not a plain file'],
  ])('is done without %s', async (_, path, problem) => {
    const { logits } = await open(null);
    const without = await open(path());
    expect(without.report?.isProblem).toBe(true);
    expect(without.report?.text).toContain('packed the weights without keeping them');
    expect(without.report?.text).toContain(problem);
    expect(without.logits).toEqual(logits);
  });

  it('leaves nothing behind on a disk that is full', async () => {
    const args = ['bench', 'latency', folder, '--packed-cache', 'auto', '--num-iters=1', '--input-len=4'];
    const { code, stderr } = await runCliInLittleRoom(args, 16);
    expect(stderr).toMatch(/packed the weights without keeping them in .*File too large/);
    expect(code).toBe(0);
    expect(readdirSync(folder).filter((name) => name.startsWith('packed'))).toEqual([]);
  });

  it('survives several processes that write it at once, and one that was killed as it did', async () => {
    await writeFile(`${file}.part`, 'what a power cut left');
    const args = ['bench', 'latency', folder, '--packed-cache', 'auto', '--num-iters=1', '--input-len=4'];
    const codes = await Promise.all([1, 2, 3].map(async () => (await runCli(args)).code));
    expect(codes).toEqual([0, 0, 0]);
    const { logits } = await open(null);
    const after = await open('auto');
    expect(after.logits).toEqual(logits);
    expect((await open('auto')).report).toEqual(isRead());
  });
});

function flipped(bytes: Buffer, at: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[at] ^= 1;
  return changed;
}

function made(folder: string): string {
  mkdirSync(folder);
  return folder;
}

function link(to: string, path: string): string {
  symlinkSync(to, path);
  return path;
}
