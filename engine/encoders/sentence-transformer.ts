// The files that sentence-transformers adds to a model: modules.json, the pooling's own, lengths and prompts.

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, normalize } from 'node:path';
import { Fields, isObject, readJsonObject, shown } from '../json-fields.ts';
import { ModelError } from '../model-error.ts';

export const poolings = ['mean', 'cls', 'last', 'max'] as const;
export type Pooling = (typeof poolings)[number];

export interface SentenceTransformer {
  pooling: Pooling;
  normalizes: boolean;
  maxTokens: number | null;
  /** Texts that go before an input, by name. */
  prompts: Readonly<Record<string, string>>;
  defaultPrompt: string | null;
}

const poolingFields: Record<string, Pooling> = {
  pooling_mode_mean_tokens: 'mean',
  pooling_mode_cls_token: 'cls',
  pooling_mode_lasttoken: 'last',
  pooling_mode_max_tokens: 'max',
};
/** The newer form names the mode. */
const poolingNames: Record<string, Pooling> = { mean: 'mean', cls: 'cls', lasttoken: 'last', max: 'max' };

interface Module {
  kind: string;
  /** Folder of its files, within the model's. */
  path: string;
}

/** A folder without modules.json is pooled as sentence-transformers would: by the mean, here normalised. */
export async function readSentenceTransformer(folder: string): Promise<SentenceTransformer> {
  const modules = await readModules(folder);
  const { prompts, defaultPrompt } = await readPrompts(folder);
  const pooling = modules?.find(({ kind }) => kind === 'Pooling');
  return {
    pooling: pooling === undefined ? 'mean' : await readPooling(join(folder, pooling.path, 'config.json')),
    normalizes: modules === null || modules.some(({ kind }) => kind === 'Normalize'),
    maxTokens: await readLength(folder),
    prompts,
    defaultPrompt,
  };
}

async function readModules(folder: string): Promise<Module[] | null> {
  const path = join(folder, 'modules.json');
  if (!existsSync(path)) return null;
  let list: unknown;
  try {
    list = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new ModelError(`${path} cannot be read: ${(error as Error).message}`);
  }
  if (!Array.isArray(list) || !list.every(isObject)) throw new ModelError(`${path} is not a list of modules`);
  return list.map((module) => {
    const fields = new Fields(module, path);
    const type = fields.text('type');
    const kind = type.slice(type.lastIndexOf('.') + 1);
    if (!['Transformer', 'Pooling', 'Normalize'].includes(kind))
      throw new ModelError(
        `${path}: found the module ${shown(type)}, allowed: Transformer, Pooling, Normalize`,
      );
    const place = normalize(fields.text('path', ''));
    if (place.startsWith('..') || place.startsWith('/'))
      throw new ModelError(`${path}: ${shown(place)} is outside the folder`);
    return { kind, path: place };
  });
}

async function readPooling(path: string): Promise<Pooling> {
  const config = await readJsonObject(path);
  const fields = new Fields(config, path);
  if (!fields.boolean('include_prompt', true)) fields.fail('include_prompt', 'true');
  const mode = config.pooling_mode;
  if (typeof mode === 'string') {
    return poolingNames[mode] ?? fields.fail('pooling_mode', Object.keys(poolingNames).join(', '));
  }
  const chosen = Object.keys(config).filter(
    (name) => name.startsWith('pooling_mode_') && config[name] === true,
  );
  const pooling = chosen.length === 1 ? poolingFields[chosen[0]] : undefined;
  if (pooling !== undefined) return pooling;
  throw new ModelError(
    `${path}: the pooling is ${chosen.join(' with ') || 'not named'}, allowed: one of ${Object.keys(poolingFields).join(', ')}`,
  );
}

async function readLength(folder: string): Promise<number | null> {
  const path = join(folder, 'sentence_bert_config.json');
  if (!existsSync(path)) return null;
  const config = await readJsonObject(path);
  return config.max_seq_length == null
    ? null
    : new Fields(config, path).integer('max_seq_length', 1, 2 ** 30);
}

async function readPrompts(folder: string): Promise<Pick<SentenceTransformer, 'prompts' | 'defaultPrompt'>> {
  const path = join(folder, 'config_sentence_transformers.json');
  if (!existsSync(path)) return { prompts: {}, defaultPrompt: null };
  const config = await readJsonObject(path);
  const fields = new Fields(config, path);
  const prompts = config.prompts ?? {};
  if (!isObject(prompts) || !Object.values(prompts).every((prompt) => typeof prompt === 'string'))
    return fields.fail('prompts', 'an object of texts');
  const name = config.default_prompt_name ?? null;
  if (name !== null && !(typeof name === 'string' && Object.hasOwn(prompts, name)))
    return fields.fail('default_prompt_name', 'null or a name in prompts');
  return {
    prompts: prompts as Record<string, string>,
    defaultPrompt: name === null ? null : (prompts[name as string] as string),
  };
}
