// Embeddings by a real process, the language model's own and an encoder's, as openai's and LangChain's clients
// read them.

import { OpenAIEmbeddings } from '@langchain/openai';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encoderFolder } from '../../engine/encoders/golden.ts';
import { type ServerProcess, startServer } from '../server-process.ts';

const key = 'a-key';
const texts = ['a cat', 'the cat sat', 'a cat'];
const sizes = { 'quire-demo': 256, bert: 16 };
const cosine = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i], 0);

describe('embeddings', () => {
  let server: ServerProcess;
  let client: OpenAI;
  beforeAll(async () => {
    const encoder = `bert=${encoderFolder('bert-mean')}`;
    const args = ['--served-model-name', 'quire-demo', '--embedding-model', encoder, '--api-key', key];
    server = await startServer(null, args);
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: key, maxRetries: 0 });
  });
  afterAll(async () => {
    expect(await server?.stop()).toBe(0);
  });

  function expectAlike(vectors: number[][], size: number): void {
    expect(vectors.map(({ length }) => length)).toEqual(texts.map(() => size));
    for (const vector of vectors) expect(Math.hypot(...vector)).toBeCloseTo(1, 4);
    expect(cosine(vectors[0], vectors[2])).toBeCloseTo(1, 4);
    expect(cosine(vectors[0], vectors[1])).toBeLessThan(0.9999);
  }

  describe.each(Object.entries(sizes))('%s', (model, size) => {
    it('openai', async () => {
      const answer = await client.embeddings.create({ model, input: texts });
      expectAlike(
        answer.data.map(({ embedding }) => embedding),
        size,
      );
      const plain = await client.embeddings.create({ model, input: texts[1], encoding_format: 'float' });
      expect(cosine(plain.data[0].embedding, answer.data[1].embedding)).toBeCloseTo(1, 4);
      const short = await client.embeddings.create({ model, input: texts[1], dimensions: 8 });
      expect(short.data[0].embedding).toHaveLength(8);
    });

    it('@langchain/openai', async () => {
      const configuration = { baseURL: `${server.url}/v1` };
      const embeddings = new OpenAIEmbeddings({
        model,
        apiKey: key,
        maxRetries: 0,
        batchSize: 2,
        configuration,
      });
      const vectors = await embeddings.embedDocuments(texts);
      expectAlike(vectors, size);
      expect(cosine(await embeddings.embedQuery(texts[1]), vectors[1])).toBeCloseTo(1, 4);
      const long = new OpenAIEmbeddings({
        model,
        apiKey: key,
        maxRetries: 0,
        configuration,
        dimensions: 1000,
      });
      await expect(long.embedQuery('a')).rejects.toThrow(`dimensions: found 1000, allowed: 1 to ${size}`);
    });
  });
});
