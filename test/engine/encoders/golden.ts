// The tiny encoders of test/golden/encoders, and what transformers computes from them.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const encoderFolder = (name: string) =>
  fileURLToPath(new URL(`../../golden/encoders/${name}`, import.meta.url));

interface Golden {
  texts: string[];
  pairs: Array<[string, string]>;
  'bert-mean': { tokenIds: number[][]; embeddings: number[][] };
  'roberta-cls': { embeddings: number[][] };
  'bert-cross': { tokenIds: number[][]; scores: number[] };
  'distilbert-labels': { probs: number[][] };
}

export const golden: Golden = JSON.parse(readFileSync(encoderFolder('golden.json'), 'utf8'));

export function largestDifference(a: Iterable<number>, b: Iterable<number>): number {
  const [left, right] = [[...a], [...b]];
  if (left.length !== right.length) return Number.POSITIVE_INFINITY;
  return Math.max(...left.map((value, i) => Math.abs(value - right[i])));
}
