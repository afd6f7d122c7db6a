// POST /v1/embeddings: one vector for each text or list of token ids.

import type { FastifyInstance } from 'fastify';
import { type EncoderApi, normalize } from '../../engine/engine.ts';
import type { Caller } from '../caller.ts';
import type { Context } from '../context.ts';
import { admitToEncoder, anEmbedder, answered } from '../encoders/admission.ts';
import { encodeInputs, encoderUsage, numTokensOf, runEncoder, sourcesOf } from '../encoders/inputs.ts';
import { type EmbeddingRequest, embeddingRequest } from '../encoders/schemas.ts';
import { ApiError } from '../errors.ts';

/** Embeddings that become text before the event loop gets its turn. */
const jsonChunk = 64;

type Format = 'float' | 'base64';

/** An answer before its vectors are encoded. */
interface Embeddings {
  head: object;
  vectors: Float32Array[];
  format: Format;
}

export function embeddingRoutes(app: FastifyInstance, context: Context): void {
  app.post('/v1/embeddings', { schema: { body: embeddingRequest } }, (request, reply) =>
    answered(request, reply, async (caller) => {
      const made = await embed(context, caller, request.body as EmbeddingRequest);
      reply.type('application/json; charset=utf-8');
      return jsonOf(made);
    }),
  );
}

/** The whole answer to a valid body. */
export async function embeddings(context: Context, caller: Caller, body: EmbeddingRequest): Promise<object> {
  const { head, vectors, format } = await embed(context, caller, body);
  return { ...head, data: vectors.map((vector, index) => embeddingOf(vector, index, format)) };
}

interface Vectors {
  /** The model's name in answers. */
  model: string;
  vectors: Float32Array[];
  numTokens: number;
}

export async function vectorsOf(context: Context, caller: Caller, body: EmbeddingRequest): Promise<Vectors> {
  const { model, encoder } = admitToEncoder(context, caller, body, anEmbedder);
  const dimensions = dimensionsOf(body, encoder);
  const sources = sourcesOf(body.input, promptOf(body, encoder));
  const inputs = await encodeInputs(encoder, sources, body, caller.signal);
  const outputs = await runEncoder(encoder, inputs, caller.signal);
  const isNormalized = body.use_activation ?? body.normalize ?? encoder.description.normalizes;
  const vectors = outputs.map((output) => {
    const vector = output.slice(0, dimensions);
    return isNormalized ? normalize(vector) : vector;
  });
  return { model, vectors, numTokens: numTokensOf(inputs) };
}

async function embed(context: Context, caller: Caller, body: EmbeddingRequest): Promise<Embeddings> {
  const { model, vectors, numTokens } = await vectorsOf(context, caller, body);
  const head = {
    id: `embd-${caller.id}`,
    object: 'list',
    created: Math.floor(Date.now() / 1000),
    model,
    usage: encoderUsage(numTokens),
  };
  return { head, vectors, format: body.encoding_format ?? 'float' };
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

function embeddingOf(vector: Float32Array, index: number, format: Format): object {
  const embedding =
    format === 'float'
      ? Array.from(vector)
      : Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString('base64');
  return { object: 'embedding', index, embedding };
}

/** Millions of numbers are a second's work: the event loop gets its turns. */
async function jsonOf({ head, vectors, format }: Embeddings): Promise<string> {
  const parts: string[] = [];
  for (const [index, vector] of vectors.entries()) {
    if (index > 0 && index % jsonChunk === 0) await new Promise(setImmediate);
    parts.push(JSON.stringify(embeddingOf(vector, index, format)));
  }
  return `${JSON.stringify(head).slice(0, -1)},"data":[${parts.join(',')}]}`;
}
