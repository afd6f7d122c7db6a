// The small real model that many tests use. It lives beside the repository, not in it; without it those tests
// are skipped, and say so.

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const storiesFolder = fileURLToPath(new URL('../../shared/models/stories260k', import.meta.url));
export const hasStories = existsSync(`${storiesFolder}/model.safetensors`);

if (!hasStories) {
  console.warn(`SKIPPED: tests on stories260k, because ${storiesFolder} does not exist`);
}

export interface GreedyCase {
  prompt: string;
  promptTokenIds: number[];
  tokenIds: number[];
  text: string;
}

/** What transformers generates greedily, 80 tokens each. */
export const greedyCases: GreedyCase[] = JSON.parse(
  readFileSync(new URL('golden/stories260k-text.json', import.meta.url), 'utf8'),
).cases;
