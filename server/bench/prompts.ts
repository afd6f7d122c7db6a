// The prompts of a benchmark run, from a seed or from a file.

import { readFileSync } from 'node:fs';
import { extname } from 'node:path';
import { OptionError } from '../options.ts';

/** Token ids for /v1/completions, text for chat and files. */
export type BenchPrompt = string | number[];

/** Uniform in [0, 1): mulberry32. */
export function seededRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Short, common words: about one token each for most tokenizers. */
const words =
  'the of and to in is was for on that with as be at by from this are or an have but not they you one all'.split(
    ' ',
  );

const firstRandomId = 10;

export interface RandomPrompts {
  count: number;
  /** Tokens with which all begin. */
  prefixLength: number;
  /** Tokens of each one's own. */
  length: number;
  asText: boolean;
  vocabSize: number;
}

export function makePrompts(wanted: RandomPrompts, random: () => number): BenchPrompt[] {
  const { count, prefixLength, length, vocabSize } = wanted;
  const draw = <T>(count: number, one: () => T) => Array.from({ length: count }, one);
  if (wanted.asText) {
    const word = () => words[Math.floor(random() * words.length)];
    const prefix = draw(prefixLength, word);
    return draw(count, () => [...prefix, ...draw(length, word)].join(' '));
  }
  const id = () => firstRandomId + Math.floor(random() * (vocabSize - firstRandomId));
  const prefix = draw(prefixLength, id);
  return draw(count, () => [...prefix, ...draw(length, id)]);
}

/** `count` prompts of a file, over again from its start when it has fewer. */
export function readPrompts(path: string, count: number): BenchPrompt[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new OptionError(`--dataset: ${path} cannot be read: ${(error as Error).message}`);
  }
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  if (lines.length === 0) throw new OptionError(`--dataset: ${path} has no prompts`);
  const prompts = extname(path) === '.jsonl' ? lines.map((line, i) => promptOf(line, path, i + 1)) : lines;
  return Array.from({ length: count }, (_, i) => prompts[i % prompts.length]);
}

function promptOf(line: string, path: string, number: number): string {
  try {
    const { prompt } = JSON.parse(line) as { prompt?: unknown };
    if (typeof prompt === 'string') return prompt;
  } catch {
    // Falls through to the one message.
  }
  throw new OptionError(`--dataset: ${path}:${number} is not a JSON object with a "prompt" string`);
}
