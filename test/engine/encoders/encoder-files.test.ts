// What keeps an encoder from being used is one line that names the file and what is allowed.

import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Encoder } from '../../../engine/encoders/encoder.ts';
import { readEncoder } from '../../../engine/encoders/encoder-files.ts';
import { ModelError } from '../../../engine/model-error.ts';
import { encoderFolder } from './golden.ts';

let scratch = '';
let count = 0;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'encoder-files-'));
});
afterAll(() => rm(scratch, { recursive: true }));

async function copyOf(name: string): Promise<string> {
  const folder = join(scratch, String(count++));
  await cp(encoderFolder(name), folder, { recursive: true });
  return folder;
}

async function changed(folder: string, file: string, fields: object): Promise<void> {
  const path = join(folder, file);
  const old = await readFile(path, 'utf8').then(JSON.parse, () => ({}));
  await writeFile(path, JSON.stringify(Array.isArray(fields) ? fields : { ...old, ...fields }));
}

async function refusal(folder: string): Promise<string> {
  const error = await Encoder.open(folder).catch((cause) => cause);
  expect(error).toBeInstanceOf(ModelError);
  expect(error.message).not.toContain('\n');
  return error.message;
}

describe('files that are not there or cannot be used', () => {
  it('names a folder that is none', async () => {
    expect(await refusal('/nonexistent')).toBe('/nonexistent is not a model folder');
  });

  it.each([
    ['tokenizer.json', /has no tokenizer\.json$/],
    ['config.json', /has no config\.json$/],
    ['onnx', /has neither onnx\/model\.onnx nor model\.onnx$/],
  ])('misses %s', async (file, expected) => {
    const folder = await copyOf('bert-mean');
    await rm(join(folder, file), { recursive: true });
    expect(await refusal(folder)).toMatch(expected);
  });

  it.each([
    ['onnx/model.onnx', /onnx\/model\.onnx cannot be used: .+/],
    ['tokenizer.json', /tokenizer\.json is not JSON/],
    ['modules.json', /modules\.json cannot be read/],
  ])('holds noise in %s', async (file, expected) => {
    const folder = await copyOf('bert-mean');
    await writeFile(join(folder, file), 'noise');
    expect(await refusal(folder)).toMatch(expected);
  });

  it.each([
    [
      '1_Pooling/config.json',
      { pooling_mode_max_tokens: true },
      /the pooling is .+ with .+, allowed: one of/,
    ],
    [
      '1_Pooling/config.json',
      { pooling_mode: 'attention' },
      /pooling_mode is "attention", allowed: mean, cls/,
    ],
    ['1_Pooling/config.json', { include_prompt: false }, /include_prompt is false, allowed: true$/],
    [
      'modules.json',
      [{ type: 'sentence_transformers.models.Dense', path: '2' }],
      /the module .+Dense", allowed/,
    ],
    ['modules.json', [{ type: 'x.Pooling', path: '../../x' }], /"\.\.\/\.\.\/x" is outside the folder$/],
    ['config_sentence_transformers.json', { default_prompt_name: 'x' }, /default_prompt_name is "x"/],
    ['config.json', { vocab_size: 10 }, /makes the token \d+, the model's vocabulary has 10$/],
    ['config.json', { matryoshka_dimensions: 'x' }, /matryoshka_dimensions is "x"/],
    [
      'sentence_bert_config.json',
      { max_seq_length: 0 },
      /max_seq_length is 0, allowed: a whole number from 1/,
    ],
  ])('%s says %j', async (file, fields, expected) => {
    const folder = await copyOf('bert-mean');
    await changed(folder, file, fields);
    expect(await refusal(folder)).toMatch(expected);
  });

  it('has labels for each of its outputs', async () => {
    const folder = await copyOf('distilbert-labels');
    await changed(folder, 'config.json', { id2label: { 0: 'calm' } });
    expect(await refusal(folder)).toMatch(/names 1 labels, the model has 3$/);
  });

  it('knows the activation', async () => {
    const folder = await copyOf('bert-cross');
    await changed(folder, 'config.json', { sbert_ce_default_activation_function: 'my.Module' });
    expect(await refusal(folder)).toMatch(
      /the activation is "my.Module", allowed: Identity, Sigmoid, Softmax$/,
    );
  });
});

describe('what the files say', () => {
  it('reads lengths, pooling, prompts and labels', async () => {
    expect(await readEncoder(encoderFolder('bert-mean'))).toMatchObject({
      pooling: 'mean',
      normalizes: true,
      maxTokens: 96,
      prompts: { query: 'cat: ', document: 'sun: ' },
      defaultPrompt: null,
    });
    // Positions of RoBERTa begin behind its padding token's id.
    expect(await readEncoder(encoderFolder('roberta-cls'))).toMatchObject({ pooling: 'cls', maxTokens: 128 });
    expect(await readEncoder(encoderFolder('bert-cross'))).toMatchObject({ activation: 'sigmoid' });
    expect(await readEncoder(encoderFolder('distilbert-labels'))).toMatchObject({
      labels: ['calm', 'angry', 'sad'],
      activation: 'softmax',
    });
  });

  it.each([
    [{ sentence_transformers: { activation_fn: 'torch.nn.modules.linear.Identity' } }, 'none'],
    [{ problem_type: 'multi_label_classification' }, 'sigmoid'],
    [{ problem_type: 'regression' }, 'none'],
  ])('%j means %s', async (fields, activation) => {
    const folder = await copyOf('bert-cross');
    await changed(folder, 'config.json', fields);
    expect(await readEncoder(folder)).toMatchObject({ activation });
  });

  it('reads the newer name of a pooling', async () => {
    const folder = await copyOf('bert-mean');
    await writeFile(join(folder, '1_Pooling/config.json'), JSON.stringify({ pooling_mode: 'lasttoken' }));
    expect(await readEncoder(folder)).toMatchObject({ pooling: 'last' });
  });
});
