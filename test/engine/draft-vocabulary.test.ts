// A draft model whose vocabulary is padded further than the model's, or less far: models of random numbers,
// so that ids of the padding do come. None may reach the model that lacks them.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defaultSamplingParams, Engine, type EngineOptions, type StepStats } from 'quire';
import { afterAll, describe, expect, it } from 'vitest';

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

function modelWith(vocabSize: number): string {
  const folder = mkdtempSync(join(tmpdir(), 'quire-vocabulary-'));
  folders.push(folder);
  const config = {
    architectures: ['LlamaForCausalLM'],
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: vocabSize,
    rms_norm_eps: 1e-5,
    max_position_embeddings: 256,
    torch_dtype: 'float32',
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  return folder;
}

/** Requests for which ids matter everywhere: seen tokens, biases, allowed tokens, words. */
async function run(model: string, speculation: EngineOptions['speculation'], vocabSize: number) {
  let numDrafted = 0;
  const onStep = ({ numDraftTokens }: StepStats) => {
    numDrafted += numDraftTokens;
  };
  const engine = await Engine.open({
    model,
    loadFormat: 'dummy',
    seed: 1,
    speculation,
    observer: { onStep },
  });
  const last = vocabSize - 1;
  const some = Array.from({ length: 40 }, (_, i) => last - i);
  const outputs = Array.from({ length: 24 }, async (_, i) => {
    const sampling = {
      ...defaultSamplingParams,
      temperature: i % 3,
      seed: BigInt(i),
      maxTokens: 40,
      ignoreEos: true,
      repetitionPenalty: i % 2 === 0 ? 1 : 1.3,
      logitBias: i % 4 === 0 ? [[last, 3] as const] : [],
      allowedTokenIds: i % 5 === 0 ? some : null,
      badWords: [[last - 1]],
    };
    const promptTokenIds = Int32Array.from({ length: 10 }, (_one, j) => (7 * i + j) % 256);
    const found: number[] = [];
    for await (const { tokenIds } of engine.generate({ requestId: `${i}`, promptTokenIds, sampling })) {
      found.push(...tokenIds);
    }
    return found;
  });
  const tokenIds = await Promise.all(outputs);
  await engine.close();
  return { tokenIds, numDrafted };
}

describe('a model of 320 tokens', () => {
  it.each([320, 400, 290])('has a draft model of %i', async (draftVocabSize) => {
    const model = modelWith(320);
    const speculation = {
      method: 'draft_model',
      model: modelWith(draftVocabSize),
      numSpeculativeTokens: 3,
      maxModelLen: null,
    } as const;
    const plain = await run(model, null, 320);
    const drafted = await run(model, speculation, 320);
    expect(drafted.tokenIds).toEqual(plain.tokenIds);
    expect(plain.tokenIds.flat().some((id) => id >= 300)).toBe(true);
    expect(drafted.numDrafted).toBeGreaterThan(20);
  });
});
