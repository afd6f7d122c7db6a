// What keeps the server from starting is one clear line and exit code 1: flags, variables, files, ports.

import { cp, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort, runCli } from '../end-to-end/server-process.ts';
import { hasStories, storiesFolder } from '../stories260k.ts';

async function refusal(args: string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  const { code, stdout, stderr } = await runCli(args, env);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^quire: [^\n]+\n$/);
  return stderr.slice('quire: '.length, -1);
}

describe('flags and variables', () => {
  const rows: Array<[line: string, env: NodeJS.ProcessEnv, expected: RegExp]> = [
    ['serve --prot 1', {}, /^unknown flag --prot, did you mean --port\?/],
    ['serve -p 1', {}, /^unknown flag -p, did you mean/],
    ['serve --max-num-seq=4', {}, /did you mean --max-num-seqs\?/],
    ['serve --no-port', {}, /^unknown flag --no-port/],
    ['serve --port', {}, /^--port needs a value: a whole number from 0 to 65535$/],
    ['serve --port=x', {}, /^--port: found "x", allowed: a whole number from 0 to 65535$/],
    ['serve --port -1', {}, /^--port: found "-1"/],
    ['serve --block-size 12', {}, /^--block-size: found "12", allowed: 8, 16, 32$/],
    ['serve --kv-cache-memory 4XB', {}, /^--kv-cache-memory: found "4XB", allowed: bytes/],
    ['serve --max-model-len 1x', {}, /^--max-model-len: found "1x", allowed: a number of tokens/],
    ['serve --enable-prefix-caching=maybe', {}, /allowed: true or false$/],
    ['serve one two', {}, /^found 2 models \(one, two\), one can be served$/],
    ['sevre', {}, /^unknown command sevre, allowed: serve, bench serve/],
    ['serve', { QUIRE_PROT: '1' }, /^unknown variable QUIRE_PROT, did you mean QUIRE_PORT\?$/],
    ['serve', { QUIRE_PORT: '1x' }, /^QUIRE_PORT: found "1x"/],
    ['serve /nonexistent', {}, /^\/nonexistent is not a folder, and not a Hub id/],
    ['serve ../outside', {}, /is not a folder, and not a Hub id/],
    [
      'serve --embedding-model x',
      {},
      /^--embedding-model: found "x", allowed: name=folder with a name of its/,
    ],
    ['serve --embedding-model quire-demo=/x', {}, /^--embedding-model: found "quire-demo=\/x"/],
    ['serve --embedding-model x=/none', {}, /^\/none is not a model folder$/],
    ['bench serve --base-url http://127.0.0.1:9', {}, /^no server answers at http:\/\/127.0.0.1:9/],
    ['bench serve --rate 1', {}, /^unknown flag --rate, did you mean/],
    ['bench', {}, /^unknown command bench, allowed: serve, bench serve, bench throughput, bench latency/],
    ['bench throughput', {}, /^a MODEL is needed: a folder or a Hub id$/],
    ['bench throughput ./none', {}, /^\.\/none is not a folder, and not a Hub id/],
    [
      'bench throughput m --batch-size 0',
      {},
      /^--batch-size: found "0", allowed: a whole number from 1 to 65536$/,
    ],
    ['bench throughput m --batch-size 300', {}, /^--max-num-seqs: found 256, the requests need 300$/],
    ['bench throughput m --max-model-len 100', {}, /^--max-model-len: found 100, the requests need 513$/],
    ['bench throughput m --output-json /none/f', {}, /^--output-json: \/none does not exist$/],
    ['bench throughput m --port 1', {}, /^unknown flag --port, did you mean/],
    ['bench throughput scripts/shapes/llama-3.2-1b', {}, /safetensors/],
    [
      'bench latency m --num-iters x',
      {},
      /^--num-iters: found "x", allowed: a whole number from 1 to 100000$/,
    ],
    ['bench ops --op softmax', {}, /^--op: found "softmax", allowed: matmul, attention_decode/],
    ['bench ops --weights w5', {}, /^--weights: found "w5", allowed: f32, bf16, f16, w8, w6, w4/],
    ['bench ops --rows -1', {}, /^--rows: found "-1", allowed: a whole number from 1 to 8192$/],
    ['bench ops /nonexistent', {}, /^\/nonexistent is not a model folder$/],
  ];
  it.each(rows)('%s %o', async (line, env, expected) => {
    expect(await refusal(line.split(' '), env)).toMatch(expected);
  });

  it('--help of each command lists every flag and ends well', async () => {
    for (const args of [
      ['--help'],
      ['serve', '--help'],
      ['bench', 'serve', '--help'],
      ['bench', 'ops', '--help'],
      ['bench', 'throughput', '--help'],
      ['bench', 'latency', '--help'],
      ['--version'],
    ]) {
      const { code, stdout, stderr } = await runCli(args);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout.length).toBeGreaterThan(4);
    }
  });
});

describe.skipIf(!hasStories)('model files', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quire-models-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  /** A copy of stories260k, writable. */
  async function copyModel(name: string): Promise<string> {
    const copy = join(folder, name);
    await cp(storiesFolder, copy, { recursive: true });
    return copy;
  }

  async function rewrite(file: string, change: (text: string) => string): Promise<void> {
    const text = await readFile(file, 'utf8');
    await rm(file);
    await writeFile(file, change(text));
  }

  const withConfig = (fields: object) => (copy: string) =>
    rewrite(join(copy, 'config.json'), (text) => JSON.stringify({ ...JSON.parse(text), ...fields }));

  const withTokenizer = (fields: object) => (copy: string) =>
    rewrite(join(copy, 'tokenizer.json'), (text) => JSON.stringify({ ...JSON.parse(text), ...fields }));

  /** Changes the JSON header of model.safetensors. */
  const withHeader =
    (change: (header: Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>) => void) =>
    async (copy: string) => {
      const file = join(copy, 'model.safetensors');
      const bytes = await readFile(file);
      const length = Number(bytes.readBigUInt64LE());
      const header = JSON.parse(bytes.subarray(8, 8 + length).toString());
      change(header);
      const text = Buffer.from(JSON.stringify(header));
      const size = Buffer.alloc(8);
      size.writeBigUInt64LE(BigInt(text.length));
      await rm(file);
      await writeFile(file, Buffer.concat([size, text, bytes.subarray(8 + length)]));
    };

  const drop = (name: string) => (copy: string) => rm(join(copy, name), { force: true });
  const firstLayer = 'model.layers.0.self_attn.q_proj.weight';

  const rows: Array<[name: string, damage: (copy: string) => Promise<unknown>, expected: RegExp]> = [
    ['no config.json', drop('config.json'), /has no config.json/],
    ['config.json that is no JSON', (copy) => rewrite(join(copy, 'config.json'), () => '{'), /config.json is not JSON/],
    ['config.json that is a list', (copy) => rewrite(join(copy, 'config.json'), () => '[]'), /expected an object/],
    ['an unknown architecture', withConfig({ architectures: ['MambaForCausalLM'] }), /MambaForCausalLM.*LlamaForCausalLM/],
    ['no architecture', withConfig({ architectures: null }), /architecture nothing is not supported, supported are Llama/],
    ['a width that is text', withConfig({ hidden_size: '64' }), /hidden_size is "64", allowed: a whole number/],
    ['an absurd number of layers', withConfig({ num_hidden_layers: 1e9 }), /num_hidden_layers is 1000000000/],
    ['heads that do not divide', withConfig({ num_key_value_heads: 3 }), /num_key_value_heads/],
    ['an unknown RoPE', withConfig({ rope_parameters: { rope_type: 'magic', rope_theta: 1e4 } }), /magic/],
    ['an unknown activation', withConfig({ hidden_act: 'relu6' }), /hidden_act is "relu6"/],
    ['one layer too many', withConfig({ num_hidden_layers: 6 }), /tensor model.layers.5.* and \d+ more is missing/],
    ['one layer too few', withConfig({ num_hidden_layers: 4 }), /tensor model.layers.4.* is not part of/],
    ['another width', withConfig({ intermediate_size: 173 }), /shape \[64,172\], expected \[64,173\]/],
    ['an eos token beyond the vocabulary', (copy) => rewrite(join(copy, 'generation_config.json'), () => '{"eos_token_id": 512}'), /eos_token_id 512 is outside the vocabulary of 512/],
    ['no weights', drop('model.safetensors'), /safetensors/],
    ['weights cut in the middle', (copy) => truncate(join(copy, 'model.safetensors'), 500_000), /model.safetensors/],
    ['weights cut in the header', (copy) => truncate(join(copy, 'model.safetensors'), 100), /model.safetensors/],
    ['weights of seven bytes', (copy) => truncate(join(copy, 'model.safetensors'), 7), /model.safetensors/],
    ['empty weights', (copy) => truncate(join(copy, 'model.safetensors'), 0), /model.safetensors/],
    ['a tensor of integers', withHeader((header) => { header[firstLayer].dtype = 'I32'; }), /q_proj.weight.*I32/],
    ['a tensor outside the file', withHeader((header) => { header[firstLayer].data_offsets = [0, 1e12]; }), /q_proj.weight/],
    ['a tensor with negative offsets', withHeader((header) => { header[firstLayer].data_offsets = [-4, 16_380]; }), /q_proj.weight/],
    ['a tensor whose bytes are not its shape', withHeader((header) => { header[firstLayer].shape = [64, 63]; }), /q_proj.weight/],
    ['a tensor with an absurd shape', withHeader((header) => { header[firstLayer].shape = [2 ** 40, 2 ** 40]; }), /q_proj.weight/],
    ['no tokenizer.json', drop('tokenizer.json'), /has no tokenizer.json/],
    ['tokenizer.json that is no JSON', (copy) => rewrite(join(copy, 'tokenizer.json'), () => 'x'), /tokenizer.json is not JSON/],
    ['tokenizer.json without a model', withTokenizer({ model: { vocab: {} } }), /tokenizer.json/],
  ]; // biome-ignore format: one damage a row

  it.each(rows)('%s', async (name, damage, expected) => {
    const copy = await copyModel(name.replaceAll(/\W/g, '-'));
    await damage(copy);
    expect(await refusal(['serve', copy, '--port', '0'])).toMatch(expected);
  });

  const flags: Array<[flags: string, expected: RegExp]> = [
    ['--max-model-len 100000', /--max-model-len: found 100000, the model was made for at most 512/],
    ['--kv-cache-memory 1000', /--kv-cache-memory.*--max-model-len/],
    ['--chat-template /nonexistent.jinja', /--chat-template: \/nonexistent.jinja does not exist/],
    ['--host 192.0.2.1', /cannot listen on 192.0.2.1/],
  ];
  it.each(flags)('%s', async (line, expected) => {
    expect(await refusal(['serve', storiesFolder, '--port', '0', ...line.split(' ')])).toMatch(expected);
  });

  it('a port that is taken', async () => {
    const port = await freePort();
    const other = createServer().listen(port, '127.0.0.1');
    try {
      expect(await refusal(['serve', storiesFolder, '--port', String(port)])).toMatch(
        new RegExp(`cannot listen on 127.0.0.1:${port}: .*EADDRINUSE`),
      );
    } finally {
      other.close();
    }
  });
});
