// Grammars in a whole engine: real models, matcher threads that are ended, preemption, neighbours.

import { describe, expect, it } from 'vitest';
import {
  defaultSamplingParams,
  Engine,
  type EngineOptions,
  type GrammarRequest,
  type SamplingParams,
  type StepStats,
} from '../../../dist/engine/engine.js';
import { hasStories, storiesFolder } from '../../stories260k.ts';

const demo = new URL('../../../models/quire-demo', import.meta.url).pathname;

async function withEngine(
  options: Partial<EngineOptions>,
  run: (engine: Engine) => Promise<void>,
): Promise<void> {
  const engine = await Engine.open({ model: demo, ...options });
  try {
    await run(engine);
    await expect.poll(() => engine.numOpenRequests).toBe(0);
  } finally {
    await engine.close();
  }
}

async function write(engine: Engine, request: GrammarRequest, sampling: Partial<SamplingParams> = {}) {
  const grammar = await engine.compileGrammar(request);
  const { tokenIds } = await engine.encodeText('A list:', true);
  const out = { text: '', tokenIds: [] as number[], finish: '', stopReason: null as string | number | null };
  const deltas = engine.generate({
    requestId: 'test',
    promptTokenIds: tokenIds,
    sampling: { ...defaultSamplingParams, maxTokens: 400, ...sampling },
    grammar,
  });
  for await (const delta of deltas) {
    out.text += delta.text;
    out.tokenIds.push(...delta.tokenIds);
    out.finish = delta.finishReason ?? '';
    out.stopReason = delta.stopReason;
  }
  return out;
}

const list: GrammarRequest = {
  type: 'json_schema',
  schema: { type: 'array', items: { type: 'integer', minimum: 0, maximum: 999 }, minItems: 5, maxItems: 20 },
};

describe('every kind of vocabulary', () => {
  const texts = ['é{3}', '日本', '\\{"a": \\[1, 2\\]\\}', 'Once upon a time', ' two  spaces', '😀\\n😀'];

  it.each([['byte-level', demo], ...(hasStories ? [['bytes beside SentencePiece', storiesFolder]] : [])])(
    '%s writes what is asked for, whole bytes of it',
    async (_, model) => {
      await withEngine({ model }, async (engine) => {
        for (const pattern of texts) {
          const { text, finish } = await write(engine, { type: 'regex', pattern });
          expect(finish).toBe('stop');
          expect(text).toMatch(new RegExp(`^${pattern}$`));
        }
      });
    },
  );
});

describe('tokens under a grammar', () => {
  it('are the same alone, in a crowd, and when preempted', async () => {
    const seeds = Array.from({ length: 12 }, (_, i) => BigInt(i));
    const alone: string[] = [];
    await withEngine({}, async (engine) => {
      for (const seed of seeds) alone.push((await write(engine, list, { seed })).text);
    });
    for (const text of alone) expect(JSON.parse(text).length).toBeGreaterThanOrEqual(5);
    let numPreemptions = 0;
    const observer = {
      onStep: (stats: { numPreemptions: number }) => {
        numPreemptions += stats.numPreemptions;
      },
    };
    await withEngine({ maxModelLen: 128, numBlocksOverride: 20, blockSize: 8, observer }, async (engine) => {
      const crowd = await Promise.all(seeds.map((seed) => write(engine, list, { seed, maxTokens: 110 })));
      expect(crowd.map(({ text }) => text)).toEqual(alone);
    });
    expect(numPreemptions).toBeGreaterThan(0);
  });
});

describe('drafts under a grammar', () => {
  const people: GrammarRequest = {
    type: 'json_schema',
    schema: {
      type: 'array',
      minItems: 3,
      items: {
        type: 'object',
        properties: {
          name: { type: 'string', maxLength: 6 },
          age: { type: 'integer', maximum: 99, minimum: 0 },
        },
        required: ['name', 'age'],
      },
      maxItems: 6,
    },
  };
  const speculation = {
    method: 'ngram',
    numSpeculativeTokens: 6,
    promptLookupMax: 3,
    promptLookupMin: 1,
  } as const;

  /** Greedy and not, with reasoning before and without, twins. */
  async function writeAll(engine: Engine, isCrowd: boolean): Promise<string[]> {
    const [endTokenId] = (await engine.encodeText(',', false)).tokenIds;
    const reasoning = {
      ...{ maxTokens: 20, isInside: true, isRequired: false, startTokenIds: [] },
      ...{ endTokenIds: [endTokenId], leadTokenIds: [], callTokenIds: [] },
    };
    const one = async (i: number) => {
      const sampling = {
        ...{ seed: BigInt(i >> 2), temperature: i & 1, maxTokens: 110 },
        ...{ reasoning: i & 2 ? reasoning : null, minTokens: 5, badWords: [[endTokenId, endTokenId]] },
      };
      return JSON.stringify(await write(engine, people, sampling));
    };
    const all = Array.from({ length: 16 }, (_, i) => i);
    if (isCrowd) return Promise.all(all.map(one));
    const written: string[] = [];
    for (const i of all) written.push(await one(i));
    return written;
  }

  it('change no token, alone, in a crowd, and when preempted', async () => {
    let wanted: string[] = [];
    await withEngine({}, async (engine) => {
      wanted = await writeAll(engine, true);
    });
    let numAccepted = 0;
    let numPreemptions = 0;
    const observer = {
      onStep: (stats: StepStats) => {
        for (const count of stats.numAcceptedByPosition) numAccepted += count;
        numPreemptions += stats.numPreemptions;
      },
    };
    await withEngine({ speculation, observer }, async (engine) => {
      expect(await writeAll(engine, false)).toEqual(wanted);
    });
    expect(numAccepted).toBeGreaterThan(20);
    const little = { maxModelLen: 128, numBlocksOverride: 24, blockSize: 8, maxNumSeqs: 12 };
    await withEngine({ speculation, observer, ...little }, async (engine) => {
      expect(await writeAll(engine, true)).toEqual(wanted);
    });
    expect(numPreemptions).toBeGreaterThan(0);
  });
});

describe.skipIf(!hasStories)('a device that is a step behind', () => {
  it('samples under masks of tokens that it has reported', async () => {
    const options = {
      model: storiesFolder,
      backend: 'emulated',
      dtype: 'float16',
      kvCacheBytes: 1 << 24,
    } as const;
    await withEngine(options, async (engine) => {
      const { tokenIds: promptTokenIds } = await engine.encodeText('Once', true);
      const sampling = { ...defaultSamplingParams, maxTokens: 12, ignoreEos: true };
      const plain = (async () => {
        let length = 0;
        for await (const delta of engine.generate({ requestId: 'plain', promptTokenIds, sampling }))
          length += delta.tokenIds.length;
        return length;
      })();
      const held = await Promise.all(
        ['[ab]{6}', 'x[0-9]{3}y', '(yes|no)'].map((pattern) => write(engine, { type: 'regex', pattern })),
      );
      expect(held.map(({ text }) => text)).toEqual([
        expect.stringMatching(/^[ab]{6}$/),
        expect.stringMatching(/^x[0-9]{3}y$/),
        expect.stringMatching(/^(yes|no)$/),
      ]);
      expect(await plain).toBe(12);
    });
  });
});

describe('a grammar that takes for ever to match', () => {
  // Ways to write so many a's multiply with each.
  const bomb: GrammarRequest = {
    type: 'ebnf',
    grammar: 'root ::= x{0,50} "c"\nx ::= y{0,50}\ny ::= "a"{0,50}',
  };

  it('ends its own request, and no other', async () => {
    await withEngine({}, async (engine) => {
      const {
        tokenIds: [c],
      } = await engine.encodeText('c', false);
      const others = Array.from({ length: 3 }, (_, i) =>
        write(engine, { type: 'regex', pattern: '[ab]{350}' }, { seed: BigInt(i) }),
      );
      const lost = await write(engine, bomb, { logitBias: [[c, -100]], maxTokens: 100 });
      expect(lost).toMatchObject({ finish: 'abort', stopReason: 'grammar_timeout' });
      for (const { text, finish } of await Promise.all(others)) {
        expect(finish).toBe('stop');
        expect(text).toMatch(/^[ab]{350}$/);
      }
      // The thread has a successor.
      expect((await write(engine, { type: 'choice', choices: ['ok'] })).text).toBe('ok');
    });
  });
});
