// POST /v1/embeddings: one vector for each text or list of token ids.

import type { FastifyInstance } from 'fastify';
import { type EncoderApi, normalize } from '../../engine/engine.ts';
import type { Caller } from '../caller.ts';
import type { Context } from '../context.ts';
import { admitToEncoder, anEmbedder, answered } from '../encoders/admission.ts';
import { encodeInputs, encoderUsage, numTokensOf, sourcesOf } from '../encoders/inputs.ts';
import { type EmbeddingRequest, embeddingRequest } from '../encoders/schemas.ts';
import { ApiError } from '../errors.ts';

/** Embeddings that become text before the event loop gets its turn. */
const jsonChunk = 64;

export function embeddingRoutes(app: FastifyInstance, context: Context): void {
  app.post('/v1/embeddings', { schema: { body: embeddingRequest } }, (request, reply) =>
    answered(request, reply, (caller) => {
      reply.type('application/json; charset=utf-8');
      return embeddings(context, caller, request.body as EmbeddingRequest);
    }),
  );
}

/** The whole answer to a valid body, as JSON. */
export async function embeddings(context: Context, caller: Caller, body: EmbeddingRequest): Promise<string> {
  const { model, encoder } = admitToEncoder(context, body.model, anEmbedder);
  const dimensions = dimensionsOf(body, encoder);
  const sources = sourcesOf(body.input, promptOf(body, encoder));
  const inputs = await encodeInputs(encoder, sources, body, caller.signal);
  const outputs = await encoder.run(inputs, caller.signal);
  const isNormalized = body.use_activation ?? body.normalize ?? encoder.description.normalizes;
  const vectors = outputs.map((output) => {
    // Copied, so that what is encoded is no longer than what was asked for.
    const vector = output.slice(0, dimensions);
    return isNormalized ? normalize(vector) : vector;
  });
  const head = { id: `embd-${caller.id}`, object: 'list', created: Math.floor(Date.now() / 1000), model };
  const usage = encoderUsage(numTokensOf(inputs));
  const data = await jsonOf(vectors, body.encoding_format ?? 'float');
  return `${JSON.stringify({ ...head, usage }).slice(0, -1)},"data":[${data}]}`;
}

function dimensionsOf({ dimensions }: EmbeddingRequest, { description }: EncoderApi): number {
  const { size, matryoshkaDimensions } = description;
  if (dimensions == null) return size;
  const isAllowed = matryoshkaDimensions?.includes(dimensions) ?? true;
  if (dimensions <= size && isAllowed) return dimensions;
  const allowed = matryoshkaDimensions?.join(', ') ?? `1 to ${size}`;
  throw new ApiError('invalid_value', `dimensions: found ${dimensions}, allowed: ${allowed}`, 'dimensions');
}

function promptOf({ prompt_name: name }: EmbeddingRequest, { description }: EncoderApi): string {
  const { prompts, defaultPrompt } = description;
  if (name == null) return defaultPrompt ?? '';
  if (Object.hasOwn(prompts, name)) return prompts[name];
  const names = Object.keys(prompts).join(', ') || 'none, the model has no prompts';
  const field = 'prompt_name';
  throw new ApiError(
    'invalid_value',
    `${field}: found ${JSON.stringify(name.slice(0, 200))}, allowed: ${names}`,
    field,
  );
}

async function jsonOf(vectors: readonly Float32Array[], format: 'float' | 'base64'): Promise<string> {
  const parts: string[] = [];
  for (const [index, vector] of vectors.entries()) {
    if (index > 0 && index % jsonChunk === 0) await new Promise(setImmediate);
    const embedding =
      format === 'float'
        ? Array.from(vector)
        : Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString('base64');
    parts.push(JSON.stringify({ object: 'embedding', index, embedding }));
  }
  return parts.join(',');
}
