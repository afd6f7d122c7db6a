// Writes a model of a shape to disk, with random weights and a random tokenizer as large as its vocabulary
// and as heavy as Llama 3's, so that loading a model can be measured without one (npx quire bench startup).
// Needs the build.
//
//   node scripts/random-model.mjs SHAPE OUT
//
// SHAPE is a folder with a config.json in bf16 or AWQ, e.g. scripts/shapes/llama-3.2-1b-awq; OUT is new.

import { createCipheriv } from 'node:crypto';
import { cpSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { loadModel } from '../dist/engine/model-files.js';
import { characterOfByte } from '../dist/engine/token-bytes.js';
import { tensorNames } from '../dist/engine/weight-map.js';

/** The same bytes in every run. */
const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 'quire'), Buffer.alloc(16));
const randomBytes = (count) => cipher.update(Buffer.alloc(count));

function randomHalves(count, toHalf) {
  const { buffer, byteOffset } = randomBytes(2 * count);
  const halves = new Uint16Array(buffer.slice(byteOffset, byteOffset + 2 * count));
  for (let i = 0; i < count; i++) halves[i] = toHalf(halves[i]);
  return Buffer.from(halves.buffer);
}

/** Norms of 1, and numbers of magnitude 2^-6 to 2^-5. */
function plainTensor(name, { shape }) {
  const count = shape.reduce((a, b) => a * b, 1);
  const toHalf = name.includes('norm') ? () => 0x3f80 : (bits) => (bits & 0x807f) | (121 << 7);
  return [{ name, dtype: 'BF16', shape, bytes: 2 * count, make: () => randomHalves(count, toHalf) }];
}

/** Zeros of 7 or 8, scales of 2^-8 to 2^-7. */
function awqTensors(name, { shape: [rows, cols], awq: { group } }) {
  const groups = cols / group;
  const part = (suffix, dtype, shape, bytes, make) => ({
    name: name.replace(/\.weight$/, `.${suffix}`),
    dtype,
    shape,
    bytes,
    make: () => make(bytes),
  });
  return [
    part('qweight', 'I32', [cols, rows / 8], (cols * rows) / 2, randomBytes),
    part('qzeros', 'I32', [groups, rows / 8], (groups * rows) / 2, (bytes) =>
      randomBytes(bytes).map((bits) => 0x77 + (bits & 0x11)),
    ),
    part('scales', 'F16', [groups, rows], 2 * groups * rows, (bytes) =>
      randomHalves(bytes / 2, (bits) => (7 << 10) | (bits & 0x3ff)),
    ),
  ];
}

function writeWeights(path, tensors) {
  let end = 0;
  const entries = tensors.map(({ name, dtype, shape, bytes }) => {
    const start = end;
    end += bytes;
    return [name, { dtype, shape, data_offsets: [start, end] }];
  });
  const text = JSON.stringify(Object.fromEntries(entries));
  const header = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8, ' '));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const file = openSync(path, 'wx');
  for (const bytes of [length, header]) writeSync(file, bytes);
  for (const { make } of tensors) writeSync(file, make());
}

/** What a word is, to Llama 3. */
const words = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;

/** Whole in Llama 3's vocabulary, with a space before them too; so are nearly all words of a usual prompt. */
const commonWords =
  'a about all and are as at be but by can do for from had has have he Hello her his how I in is it its like me ' +
  'my no not of on Once or out said she so that the The their them then there they this time to up upon was we ' +
  'were what What when which who will with would you your';

/**
 * Common words, and up to eight letters, the shorter the likelier to be part of others, with a space before
 * half of them.
 */
function randomTokens(count) {
  const random = () => randomBytes(4).readUInt32LE() / 2 ** 32;
  const parts = [...'etaoinshrdlcumwfgypbvkjxqz'];
  const part = () => parts[Math.floor(random() ** 4.5 * parts.length)];
  const bytes = characterOfByte();
  const common = commonWords.split(' ').flatMap((word) => [word, bytes[0x20] + word]);
  const tokens = new Set([...bytes, ...common]);
  while (tokens.size < count) {
    const word = part() + part();
    const token = random() < 0.5 ? word : bytes[0x20] + word;
    if (token.length > 8 || tokens.has(token)) continue;
    tokens.add(token);
    if (token === word) parts.push(word);
  }
  return tokens;
}

/**
 * As heavy as Llama 3's where the vocabulary is as large: byte-level BPE in which each way to put a token
 * together of two is a merge, here 2.2 a token, as pairs.
 */
function randomTokenizer(vocabSize) {
  const numSpecial = 256;
  const tokens = randomTokens(vocabSize - numSpecial);
  const splits = (token) => Array.from(token, (_, i) => [token.slice(0, i), token.slice(i)]);
  const merges = [...tokens].flatMap((token) =>
    splits(token).filter(([left, right]) => tokens.has(left) && tokens.has(right)),
  );
  const special = (_, i) => ({
    id: tokens.size + i,
    content: `<|special_${i}|>`,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const added = Array.from({ length: numSpecial }, special);
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
  const split = { type: 'Split', pattern: { Regex: words }, behavior: 'Isolated', invert: false };
  const begin = { SpecialToken: { id: added[0].content, type_id: 0 } };
  const text = (id, type_id) => ({ Sequence: { id, type_id } });
  const template = {
    type: 'TemplateProcessing',
    single: [begin, text('A', 0)],
    pair: [begin, text('A', 0), begin, text('B', 1)],
    special_tokens: {
      [added[0].content]: { id: added[0].content, ids: [added[0].id], tokens: [added[0].content] },
    },
  };
  const vocab = Object.fromEntries(Array.from(tokens, (token, id) => [token, id]));
  return {
    version: '1.0',
    added_tokens: added,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [split, byteLevel] },
    post_processor: { type: 'Sequence', processors: [byteLevel, template] },
    decoder: { ...byteLevel, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: true,
      vocab,
      merges,
    },
  };
}

const [shape, out] = process.argv.slice(2);
const configPath = join(shape, 'config.json');
const { config, files } = await loadModel(shape, { loadFormat: 'dummy' });
const names = tensorNames(config, JSON.parse(readFileSync(configPath, 'utf8')));
mkdirSync(out);
cpSync(configPath, join(out, 'config.json'));
writeFileSync(join(out, 'tokenizer.json'), JSON.stringify(randomTokenizer(config.vocabSize), null, 2));
writeWeights(
  join(out, 'model.safetensors'),
  files.tensors.flatMap((tensor, i) =>
    (tensor.awq === undefined ? plainTensor : awqTensors)(names[i], tensor),
  ),
);
