// The conformance run: 200 schemas, all at once, sampled from the model that ships at temperature 1. Every
// answer is valid JSON under its schema, as a validator that is not ours sees it, or the schema was refused
// by the keyword's name.

import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultSamplingParams, Engine, GrammarError } from '../../dist/engine/engine.js';
import { schemaCases } from '../fixtures/schemas.ts';

const model = new URL('../../models/quire-demo', import.meta.url).pathname;

function validate(schema: object, value: unknown): string | null {
  const ajv = new Ajv2020({ strict: false });
  (addFormats as unknown as (ajv: Ajv2020) => void)(ajv);
  // Draft 4's and draft 7's spellings in those of 2020-12.
  const newer = JSON.parse(JSON.stringify(schema), (_, node) => {
    if (node?.exclusiveMinimum === true) return { ...node, exclusiveMinimum: node.minimum };
    if (Array.isArray(node?.items)) return { ...node, prefixItems: node.items, items: node.additionalItems };
    return node;
  });
  return ajv.validate(newer, value) ? null : ajv.errorsText();
}

describe('200 schemas', () => {
  let engine: Engine;

  beforeAll(async () => {
    engine = await Engine.open({ model, maxNumSeqs: 64 });
  });
  afterAll(() => engine?.close());

  async function answer(schema: object, seed: number): Promise<{ text: string; finish: string | null }> {
    const grammar = await engine.compileGrammar({ type: 'json_schema', schema });
    const { tokenIds } = await engine.encodeChat({
      messages: [{ role: 'user', content: 'Answer in JSON.' }],
      addGenerationPrompt: true,
      continueFinalMessage: false,
      addSpecialTokens: false,
    });
    const sampling = { ...defaultSamplingParams, temperature: 1, seed: BigInt(seed), maxTokens: 600 };
    let text = '';
    let finish: string | null = null;
    for await (const delta of engine.generate({
      requestId: 'test',
      promptTokenIds: tokenIds,
      sampling,
      grammar,
    })) {
      text += delta.text;
      finish = delta.finishReason;
    }
    return { text, finish };
  }

  it('are 200, each of its own name', () => {
    expect(schemaCases.length).toBe(200);
    expect(new Set(schemaCases.map(({ name }) => name)).size).toBe(200);
  });

  it('are kept to, or refused by name', async () => {
    const wrong = await Promise.all(
      schemaCases.map(async ({ name, schema, refused }, i) => {
        try {
          let { text, finish } = await answer(schema, i);
          // Where a schema sets no end, the tiny model may find none: another seed does.
          for (let more = 1; finish === 'length' && more < 20; more++) {
            ({ text, finish } = await answer(schema, i + 1000 * more));
          }
          if (refused !== undefined) return `${name}: accepted`;
          if (finish !== 'stop') return `${name}: ended with ${finish}: ${text.slice(0, 200)}`;
          const problem = validate(schema, JSON.parse(text));
          return problem === null ? null : `${name}: ${text}: ${problem}`;
        } catch (error) {
          const { message } = error as Error;
          if (refused !== undefined && error instanceof GrammarError && message.includes(refused))
            return null;
          return `${name}: ${message}`;
        }
      }),
    );
    expect(wrong.filter((one) => one !== null)).toEqual([]);
    expect(engine.numOpenRequests).toBe(0);
  });
});
