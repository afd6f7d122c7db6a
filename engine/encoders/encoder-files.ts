// An encoder's folder, as the Hub has them: what its own files say about inputs, pooling, labels and prompts.
// Only files of the folder are read, and no code.

import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Fields, isObject, type JsonObject, parseJsonObject, readJsonObject, shown } from '../json-fields.ts';
import { ModelError } from '../model-error.ts';
import { readSentenceTransformer, type SentenceTransformer } from './sentence-transformer.ts';

/** How scores are made of a classifier's logits. */
export type Activation = 'none' | 'sigmoid' | 'softmax';

export interface EncoderFiles extends SentenceTransformer {
  /** Absolute. */
  folder: string;
  onnxPath: string;
  architecture: string;
  /** tokenizer.json without its own truncation and padding. */
  tokenizer: string;
  padTokenId: number;
  vocabSize: number;
  /** Tokens of an input, special ones included. */
  maxTokens: number;
  /** Of a classifier's outputs, in order. */
  labels: readonly string[];
  activation: Activation;
  /** Sizes that embeddings may be cut to; null is any. */
  matryoshkaDimensions: readonly number[] | null;
}

const onnxNames = ['onnx/model.onnx', 'model.onnx'];
/** Families whose position embeddings begin behind the padding token's id. */
const offsetPositions = new Set(['roberta', 'xlm-roberta', 'camembert', 'mpnet', 'xlm-roberta-xl']);

/** Throws ModelError in one line. */
export async function readEncoder(folderName: string): Promise<EncoderFiles> {
  const folder = resolve(folderName);
  const status = await stat(folder).catch(() => null);
  if (!status?.isDirectory()) throw new ModelError(`${folderName} is not a model folder`);
  const onnxName = onnxNames.find((name) => existsSync(join(folder, name)));
  if (onnxName === undefined) throw new ModelError(`${folderName} has neither ${onnxNames.join(' nor ')}`);
  const configPath = join(folder, 'config.json');
  if (!existsSync(configPath)) throw new ModelError(`${folderName} has no config.json`);
  const config = await readJsonObject(configPath);
  const fields = new Fields(config, configPath);
  const sentence = await readSentenceTransformer(folder);
  const labels = readLabels(config, configPath);
  const padTokenId = fields.integer('pad_token_id', 0, 2 ** 31 - 1, 0);
  return {
    ...sentence,
    folder,
    onnxPath: join(folder, onnxName),
    architecture: readArchitecture(config, fields),
    tokenizer: await readTokenizer(folder),
    padTokenId,
    vocabSize: fields.integer('vocab_size', 1, 2 ** 31 - 1),
    maxTokens: await readMaxTokens(folder, fields, padTokenId, sentence.maxTokens),
    labels,
    activation: readActivation(config, labels.length, configPath),
    matryoshkaDimensions: readDimensions(config, fields),
  };
}

function readArchitecture(config: JsonObject, fields: Fields): string {
  const { architectures } = config;
  const name = Array.isArray(architectures) ? architectures[0] : undefined;
  return typeof name === 'string' ? name : fields.fail('architectures', 'a list with one name');
}

async function readTokenizer(folder: string): Promise<string> {
  const path = join(folder, 'tokenizer.json');
  if (!existsSync(path)) throw new ModelError(`${folder} has no tokenizer.json`);
  const json = parseJsonObject(await readFile(path, 'utf8'), path);
  // Often left there by whoever saved the file, shorter than what the model takes.
  return JSON.stringify({ ...json, truncation: null, padding: null });
}

/** The least of what the files name. */
async function readMaxTokens(
  folder: string,
  config: Fields,
  padTokenId: number,
  ofSentences: number | null,
): Promise<number> {
  const isOffset = offsetPositions.has(config.text('model_type', ''));
  const positions = config.integer('max_position_embeddings', 1, 2 ** 30, 2 ** 30);
  const path = join(folder, 'tokenizer_config.json');
  const tokenizer = existsSync(path) ? await readJsonObject(path) : {};
  // transformers writes 1e30 where it knows of no limit.
  const ofTokenizer = new Fields(tokenizer, path).number('model_max_length', 1, 1e31, 1e30);
  const least = Math.min(positions - (isOffset ? padTokenId + 1 : 0), ofTokenizer, ofSentences ?? 2 ** 30);
  if (least < 2 ** 30) return least;
  throw new ModelError(`${folder}: no file says how many tokens the model takes (max_position_embeddings)`);
}

function readLabels(config: JsonObject, path: string): string[] {
  const { id2label } = config;
  const fields = new Fields(config, path);
  if (id2label == null) {
    // transformers leaves out what is its default: two labels.
    const count = fields.integer('num_labels', 1, 100_000, 2);
    return Array.from({ length: count }, (_, i) => `LABEL_${i}`);
  }
  if (!isObject(id2label)) return fields.fail('id2label', 'an object');
  return Object.keys(id2label).map((_, i) => {
    const label = id2label[String(i)];
    return typeof label === 'string' ? label : fields.fail('id2label', 'a name for each number from 0');
  });
}

/** sentence-transformers' cross-encoders name a module of torch; else the kind of problem decides. */
function readActivation(config: JsonObject, numLabels: number, path: string): Activation {
  const { sentence_transformers: own, problem_type: problem } = config;
  const named = (isObject(own) ? own.activation_fn : null) ?? config.sbert_ce_default_activation_function;
  if (named != null) {
    const name = typeof named === 'string' ? named.replace(/^torch\.nn\.modules\.\w+\./, '') : '';
    const activation = { Identity: 'none', Sigmoid: 'sigmoid', Softmax: 'softmax' }[name];
    if (activation !== undefined) return activation as Activation;
    throw new ModelError(`${path}: the activation is ${shown(named)}, allowed: Identity, Sigmoid, Softmax`);
  }
  if (problem === 'regression') return 'none';
  return problem === 'multi_label_classification' || numLabels === 1 ? 'sigmoid' : 'softmax';
}

function readDimensions({ matryoshka_dimensions: list }: JsonObject, fields: Fields): number[] | null {
  if (list == null) return null;
  if (Array.isArray(list) && list.every((size) => Number.isInteger(size) && size > 0)) return list;
  return fields.fail('matryoshka_dimensions', 'a list of whole numbers');
}
