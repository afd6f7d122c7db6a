// A model folder, read and checked: what native code needs to open it and what the engine needs to run it.

import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { readDefaultSampling, readEosTokenIds } from './generation-config.ts';
import { readJsonObject } from './json-fields.ts';
import type { ModelConfig, ModelFiles, WeightDtype } from './model-config.ts';
import { ModelError } from './model-error.ts';
import { parseModelConfig } from './parse-config.ts';
import { openCheckpoint } from './safetensors.ts';
import type { SamplingParams } from './sampling-params.ts';
import { dummyWeights, mapWeights } from './weight-map.ts';

export interface LoadedModel {
  /** Absolute. */
  modelPath: string;
  config: ModelConfig;
  files: ModelFiles;
  /** Tokens that end an answer. */
  eosTokenIds: number[];
  defaultSampling: Partial<SamplingParams>;
}

/** Reads headers only; no weight is touched. Throws ModelError in one line. */
export async function loadModel(
  folder: string,
  { loadFormat }: { loadFormat: 'auto' | 'dummy' },
): Promise<LoadedModel> {
  const modelPath = resolve(folder);
  const status = await stat(modelPath).catch(() => null);
  if (!status?.isDirectory()) throw new ModelError(`${folder} is not a model folder`);
  const configPath = join(modelPath, 'config.json');
  if (!existsSync(configPath))
    throw new ModelError(`${folder} has no config.json, so it is not a Hugging Face model folder`);
  const rawConfig = await readJsonObject(configPath);
  const config = parseModelConfig(rawConfig, configPath);
  const generationPath = join(modelPath, 'generation_config.json');
  const generation = existsSync(generationPath) ? await readJsonObject(generationPath) : {};
  const files =
    loadFormat === 'dummy'
      ? dummyWeights(config, rawConfig)
      : mapWeights(config, await openCheckpoint(modelPath), modelPath);
  const eosTokenIds = readEosTokenIds(generation, rawConfig, generationPath);
  const outside = eosTokenIds.find((id) => id >= config.vocabSize);
  if (outside !== undefined) {
    throw new ModelError(
      `${generationPath}: eos_token_id ${outside} is outside the vocabulary of ${config.vocabSize}`,
    );
  }
  // The embedding is never quantised: its form is what the others were before.
  const embedding = files.tensors.find(({ slot }) => slot === 'embed_tokens');
  return {
    modelPath,
    config: { ...config, weightDtype: (embedding?.dtype ?? config.weightDtype) as WeightDtype },
    files,
    eosTokenIds,
    defaultSampling: readDefaultSampling(generation, generationPath),
  };
}
