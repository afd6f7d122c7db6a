// What a person sees when the server is up: what was loaded, where it listens, and a line to try.

import type { EngineDescription } from '../engine/engine.ts';
import type { OptionValues } from './options.ts';

function bytes(count: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  let value = count;
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

export function banner(engine: EngineDescription, model: string, url: string, values: OptionValues): string {
  const key = (values['api-key'] as string[]).length > 0 ? " -H 'authorization: Bearer KEY'" : '';
  const [path, body] =
    engine.chatTemplate !== null
      ? ['chat/completions', { messages: [{ role: 'user', content: 'Hello!' }] }]
      : ['completions', { prompt: 'Once upon a time', max_tokens: 64 }];
  const numTokens = engine.numBlocks * engine.blockSize;
  return [
    `quire serves ${model} (${engine.architecture}, ${bytes(engine.weightBytes)} of weights) on ${engine.kernels}`,
    `  context ${engine.maxModelLen} tokens, KV cache ${bytes(engine.kvCacheBytes)}: ${engine.numBlocks} blocks, ${numTokens} tokens`,
    `  listening on ${url}, try:`,
    `  curl ${url}/v1/${path}${key} -H 'content-type: application/json' -d '${JSON.stringify(body)}'`,
    '',
  ].join('\n');
}
