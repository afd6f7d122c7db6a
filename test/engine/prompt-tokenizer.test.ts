// The merges are read when a prompt needs them, and never make a difference to its tokens.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { Tokenizer } from 'tokenizers';
import { afterEach, describe, expect, it } from 'vitest';
import { EngineEndedError } from '../../engine/engine-errors.ts';
import { PromptPool } from '../../engine/prompt-pool.ts';
import { BrokenMergesError, PromptTokenizer } from '../../engine/prompt-tokenizer.ts';
import { characterOfByte } from '../../engine/token-bytes.ts';

const bytes = characterOfByte();
const wholeWords = ['Hello', 'user', 'time', '12', '...', '\n\n'];
const merged = ['er', 'ti', 'me', 'us', 'no', 'ne'];

/** Words are tokens with and without a space before them; "none" and others have to be merged. */
function tokenizerJson(model: object = {}, fields: object = {}) {
  const spelled = (text: string) => Array.from(Buffer.from(text), (byte) => bytes[byte]).join('');
  const words = wholeWords.flatMap((word) => [spelled(word), spelled(` ${word}`)]);
  const tokens = [...new Set([...bytes, ...merged, ...words])];
  const added = (content: string, i: number, options = {}) => ({
    id: tokens.length + i,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
    ...options,
  });
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const begin = '<|begin|>';
  return {
    version: '1.0',
    added_tokens: [
      added(begin, 0),
      added('<|end|>', 1, { lstrip: true }),
      added('userland', 2, { normalized: true, special: false, single_word: true }),
    ],
    normalizer: { type: 'NFC' },
    pre_tokenizer: byteLevel,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: begin, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { [begin]: { id: begin, ids: [tokens.length], tokens: [begin] } },
    },
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      ignore_merges: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merged.map((token) => [...token].join(' ')),
      ...model,
    },
    ...fields,
  };
}

const open = (json: object) => new PromptTokenizer({ path: 'made here', text: JSON.stringify(json) });

/** All of it, read at once. Like transformers' tokenizer(text), it neither cuts nor pads. */
function wholeTokenizer(json: string): Tokenizer {
  const whole = Tokenizer.fromString(json);
  whole.disableTruncation();
  whole.disablePadding();
  return whole;
}

async function wholeIds(whole: Tokenizer, text: string, addSpecialTokens: boolean): Promise<number[]> {
  return (await whole.encode(text, null, { addSpecialTokens })).getIds();
}

const piece = fc.oneof(
  fc.constantFrom(...wholeWords, ...wholeWords.map((word) => ` ${word}`), '\n', ' ', 'a', '!'),
  fc.constantFrom('<|begin|>', '<|end|>', ' <|end|>', 'userland', '<|begin|>user\n\nHello<|end|>'),
);
const broken = fc.oneof(
  fc.constantFrom('none', 'Hellotime', 'e\u0301', '𝄞', '👩‍👩‍👧', '日本'),
  fc.string({ unit: 'binary' }),
);

/** What unknown characters come to: nothing, one token for each or for all, or tokens of their bytes. */
const fewLetters = Object.fromEntries(
  ['<unk>', 'a', 'b', 'ab', 'bab', '▁', '▁a', '<0xC3>', '<0xA9>'].map((token, id) => [token, id]),
);
const letters = { vocab: fewLetters, merges: ['a b', '▁ a', 'b ab'] };
const metaspace = {
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
  post_processor: null,
};
type TokenizerJson = ReturnType<typeof tokenizerJson>;
const kinds: Array<[name: string, json: TokenizerJson, mergesWordsAlone?: boolean]> = [
  ['bytes', tokenizerJson(), true],
  ['bytes, padded and cut', tokenizerJson({}, {
    truncation: { direction: 'Right', max_length: 2, strategy: 'LongestFirst', stride: 0 },
    padding: {
      strategy: { Fixed: 8 }, direction: 'Left', pad_to_multiple_of: null, pad_id: 0, pad_type_id: 0,
      pad_token: 'a',
    },
  }), true],
  ['no unknown token', tokenizerJson(letters, metaspace), true],
  ['an unknown token', tokenizerJson({ ...letters, unk_token: '<unk>' }, metaspace)],
  ['fused unknown tokens', tokenizerJson({ ...letters, unk_token: '<unk>', fuse_unk: true }, metaspace)],
  ['bytes for what is unknown', tokenizerJson({ ...letters, unk_token: '<unk>', byte_fallback: true }, metaspace)],
  ['a prefix and a suffix', tokenizerJson({
    vocab: { '<unk>': 0, '▁': 1, '##a': 2, '##b': 3, '##a</w>': 4, '##b</w>': 5, '▁a': 6, '##ab</w>': 7, '▁a</w>': 8 },
    merges: ['▁ ##a', '##a ##b</w>', '▁ ##a</w>'],
    unk_token: '<unk>', continuing_subword_prefix: '##', end_of_word_suffix: '</w>',
  }, metaspace)],
]; // biome-ignore format: one kind a row

describe('a tokenizer that looks whole words up', () => {
  it.each(kinds)(
    'gives the same tokens without its merges: %s',
    async (_, json, mergesWordsAlone = false) => {
      const whole = wholeTokenizer(JSON.stringify(json));
      const texts = fc.oneof(
        fc.array(piece, { maxLength: 12 }),
        fc.array(fc.oneof({ weight: 9, arbitrary: piece }, { weight: 1, arbitrary: broken }), {
          maxLength: 12,
        }),
        fc.array(fc.constantFrom('a', 'b', ' ', 'é', 'z', 'bab'), { maxLength: 5 }),
      );
      const withoutMerges = wholeTokenizer(JSON.stringify({ ...json, model: { ...json.model, merges: [] } }));
      let numMerged = 0;
      let numRead = 0;
      await fc.assert(
        fc.asyncProperty(texts, fc.boolean(), async (parts, addSpecialTokens) => {
          const text = parts.join('');
          const ids = await wholeIds(whole, text, addSpecialTokens);
          const lazy = open(json);
          expect(await lazy.encode(text, addSpecialTokens)).toEqual(ids);
          if (lazy.hasMerges) numRead++;
          lazy.readMerges();
          expect(await lazy.encode(text, addSpecialTokens)).toEqual(ids);
          const pieces = await wholeIds(withoutMerges, text, addSpecialTokens);
          if (pieces.length > ids.length) numMerged++;
        }),
        { seed: 11, numRuns: 300 },
      );
      expect(numMerged).toBeGreaterThan(20);
      expect(300 - numMerged).toBeGreaterThan(20);
      if (mergesWordsAlone) expect(numRead).toBe(0);
      else expect(numRead).toBeGreaterThan(20);
    },
  );

  it('reads them for the fifth text with a word that is not whole, and keeps them', async () => {
    const lazy = open(tokenizerJson());
    await lazy.encode('<|begin|>user\n\nHello time<|end|>', true);
    for (let i = 0; i < 4; i++) expect(await lazy.encode('none', false)).toHaveLength(2);
    expect(lazy.hasMerges).toBe(false);
    expect(await lazy.encode('Hello', false)).toHaveLength(1);
    expect(await lazy.encode('none', false)).toHaveLength(2);
    expect(lazy.hasMerges).toBe(true);
    expect(await lazy.encode('Hello', false)).toHaveLength(1);
  });

  it('reads them for the first text with many pieces', async () => {
    const lazy = open(tokenizerJson());
    expect(await lazy.encode('none'.repeat(300), false)).toHaveLength(600);
    expect(lazy.hasMerges).toBe(true);
  });

  it('leaves them out wherever the vocabulary stands', async () => {
    const json = tokenizerJson();
    const model = Object.fromEntries(Object.entries(json.model).reverse());
    const { hasMerges } = open({ ...json, model });
    expect(hasMerges).toBe(false);
    expect(open({ ...json, model: { ...model, dropout: 0.5 } }).hasMerges).toBe(true);
  });

  it('reads them for a text that is cut: one token of a word may be left', async () => {
    const lazy = open(tokenizerJson());
    const [id] = await lazy.encode('none', false, { maxTokens: 1, side: 'right' });
    expect(id).toBe(tokenizerJson().model.vocab.no);
    expect(lazy.hasMerges).toBe(true);
  });

  it.each([
    ['merges that make no token', ['x y'], /out of vocabulary/],
    ['merges of three', ['n o n'], /./],
  ])('throws when a prompt needs %s', async (_, merges, expected) => {
    const lazy = open(tokenizerJson({ merges }));
    expect(await lazy.encode('Hello time', false)).toHaveLength(2);
    for (let i = 0; i < 4; i++) await lazy.encode('none', false).catch(() => {});
    const failed = lazy.encode('none', false);
    await expect(failed).rejects.toThrow(BrokenMergesError);
    await expect(failed).rejects.toThrow(expected);
  });
});

const demo = readFileSync(new URL('../../models/quire-demo/tokenizer.json', import.meta.url), 'utf8');

it.each([
  ['no ignore_merges', JSON.stringify(tokenizerJson({ ignore_merges: false }))],
  ['dropout', JSON.stringify(tokenizerJson({ dropout: 0.5 }))],
  ['the tokenizer that ships', demo],
])('reads merges at once with %s', async (_, text) => {
  const tokenizer = new PromptTokenizer({ path: 'made here', text });
  expect(tokenizer.hasMerges).toBe(true);
  const whole = wholeTokenizer(text);
  if (text !== demo) return;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(piece, broken)), async (parts) => {
      expect(await tokenizer.encode(parts.join(''), true)).toEqual(
        await wholeIds(whole, parts.join(''), true),
      );
    }),
    { seed: 12, numRuns: 200 },
  );
});

describe('the prompt pool', () => {
  const folder = mkdtempSync(join(tmpdir(), 'quire-merges-'));
  let pool: PromptPool | null = null;
  afterEach(async () => {
    await pool?.close();
  });

  async function start(model: object): Promise<PromptPool> {
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizerJson(model)));
    const tokenizer = { path: join(folder, 'tokenizer.json'), text: null };
    pool = await PromptPool.start({
      modelPath: folder,
      tokenizer,
      chatTemplate: '{{ messages[0].content }}',
    });
    await pool.ready;
    return pool;
  }

  it('takes texts and chats with and without words that are whole', async () => {
    const prompts = await start({});
    const chat = (content: string) =>
      prompts.encodeChat({
        messages: [{ role: 'user', content }],
        addGenerationPrompt: true,
        continueFinalMessage: false,
        addSpecialTokens: false,
      });
    expect((await prompts.encodeText('Hello time', true)).tokenIds).toHaveLength(3);
    expect((await chat('Hello<|end|>')).tokenIds).toHaveLength(2);
    expect((await chat('none<|end|>')).tokenIds).toHaveLength(3);
    expect((await prompts.encodeText('none', true)).tokenIds).toHaveLength(3);
  });

  it('ends with one line when a prompt needs merges that are broken', async () => {
    const prompts = await start({ merges: ['x y'] });
    for (let i = 0; i < 4; i++) {
      expect((await prompts.encodeText('none', true)).tokenIds).toHaveLength(5);
    }
    await expect(prompts.encodeText('none', true)).rejects.toThrow(EngineEndedError);
    expect((await prompts.died).message).toMatch(
      /^\S+tokenizer\.json cannot be used: .*out of vocabulary.*$/,
    );
    await expect(prompts.encodeText('Hello', true)).rejects.toThrow(EngineEndedError);
  });

  it('finds broken merges by itself when no prompt comes', async () => {
    const prompts = await start({ merges: ['x y'] });
    expect((await prompts.died).message).toMatch(/tokenizer\.json cannot be used/);
  });

  it('tells what is broken besides at the start', async () => {
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizerJson({ vocab: { a: 'b' } })));
    const tokenizer = { path: join(folder, 'tokenizer.json'), text: null };
    const broken = await PromptPool.start({ modelPath: folder, tokenizer, chatTemplate: null });
    await expect(broken.ready).rejects.toThrow(/tokenizer\.json cannot be used/);
    rmSync(folder, { recursive: true });
  });
});
