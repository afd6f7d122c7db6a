// Where a model's tokenizer is: the detokenizers read its vocabulary, the prompt workers all of it.

import { existsSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type JsonObject, parseJsonObject } from './json-fields.ts';
import { withoutMerges } from './merges.ts';
import { ModelError } from './model-error.ts';
import { characterOfByte } from './token-bytes.ts';
import { takeVocabulary, type Vocabulary } from './vocabulary.ts';

export interface TokenizerFile {
  /** Where it is, for errors too. */
  path: string;
  /** Instead of what is there. */
  text: string | null;
}

const pathIn = (modelPath: string) => join(modelPath, 'tokenizer.json');

export const hasTokenizer = (modelPath: string) => existsSync(pathIn(modelPath));

/**
 * `bytesInstead`: a folder without the file gets one token per byte, of a vocabulary of so many, which dummy
 * weights do with. Throws ModelError when there is none.
 */
export function findTokenizer(modelPath: string, bytesInstead: number | null): TokenizerFile {
  if (hasTokenizer(modelPath)) return { path: pathIn(modelPath), text: null };
  if (bytesInstead === null) throw new ModelError(`${modelPath} has no tokenizer.json`);
  return { path: 'the tokenizer of bytes', text: JSON.stringify(byteTokenizer(bytesInstead)) };
}

export async function tokenizerText({ path, text }: TokenizerFile): Promise<string> {
  return text ?? (await readFile(path, 'utf8'));
}

/** For a thread that has nothing else to do. */
export function readTokenizerSync({ path, text }: TokenizerFile): Buffer {
  return text === null ? readFileSync(path) : Buffer.from(text);
}

/**
 * All that turning tokens into text needs, which is not the merges. `vocabulary` is null where it is in
 * `json`. Throws ModelError when the file is not JSON.
 */
export async function readVocabulary({ path, text }: TokenizerFile): Promise<{
  json: JsonObject;
  vocabulary: Vocabulary | null;
}> {
  const bare = text ?? withoutMerges(await readFile(path));
  const taken = takeVocabulary(bare);
  if (taken === null) return { json: parseJsonObject(bare, path), vocabulary: null };
  return { json: taken.rest, vocabulary: taken.tokens };
}

/** Ids 0-255 are bytes. Prompts never have the others; random weights answer with them, as " t256". */
function byteTokenizer(vocabSize: number): JsonObject {
  if (vocabSize < 256) {
    throw new ModelError(
      `without tokenizer.json a vocabulary of bytes needs vocab_size 256, found ${vocabSize}`,
    );
  }
  const characters = characterOfByte();
  const others = Array.from({ length: vocabSize - 256 }, (_, i) => `${characters[0x20]}t${256 + i}`);
  return {
    version: '1.0',
    added_tokens: [],
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries([...characters, ...others].map((token, id) => [token, id])),
      merges: [],
    },
  };
}
