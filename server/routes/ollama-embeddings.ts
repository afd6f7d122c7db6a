// Ollama's embeddings, by the language model or an encoder: /api/embed, and /api/embeddings, which is older.

import type { FastifyInstance } from 'fastify';
import { nowMs } from '../../engine/clock.ts';
import type { Caller } from '../caller.ts';
import type { Context } from '../context.ts';
import { anEmbedder, answered, findEncoder } from '../encoders/admission.ts';
import { ollama } from '../ollama/dialect.ts';
import { servedName } from '../ollama/models.ts';
import {
  type OllamaEmbeddingsRequest,
  type OllamaEmbedRequest,
  ollamaEmbeddingsRequest,
  ollamaEmbedRequest,
} from '../ollama/schemas.ts';
import { vectorsOf } from './embeddings.ts';

export function ollamaEmbeddingRoutes(app: FastifyInstance, context: Context): void {
  const config = { dialect: ollama };
  app.post('/api/embed', { config, schema: { body: ollamaEmbedRequest } }, (request, reply) =>
    answered(request, reply, (caller) => embed(context, caller, request.body as OllamaEmbedRequest)),
  );
  app.post('/api/embeddings', { config, schema: { body: ollamaEmbeddingsRequest } }, (request, reply) =>
    answered(request, reply, async (caller) => {
      const { model, prompt, options } = request.body as OllamaEmbeddingsRequest;
      const { embeddings } = await embed(context, caller, { model, input: prompt ?? '', options });
      return { embedding: embeddings[0] ?? [] };
    }),
  );
}

/** Durations in nanoseconds. Nothing to embed is how Ollama's clients load a model. */
async function embed(context: Context, caller: Caller, body: OllamaEmbedRequest) {
  const startedMs = nowMs();
  const model = servedName(context, body.model);
  const input = body.input ?? [];
  const made = input.length === 0 ? nothing(context, model) : await run(context, caller, { ...body, model });
  const endMs = nowMs();
  return {
    model: body.model,
    embeddings: made.vectors.map((vector) => Array.from(vector)),
    total_duration: Math.round((endMs - caller.arrivalMs) * 1e6),
    load_duration: Math.round((startedMs - caller.arrivalMs) * 1e6),
    prompt_eval_count: made.numTokens,
  };
}

function nothing(context: Context, model: string) {
  findEncoder(context, model, anEmbedder);
  return { vectors: [], numTokens: 0 };
}

function run(context: Context, caller: Caller, { model, input, truncate, dimensions }: OllamaEmbedRequest) {
  return vectorsOf(context, caller, {
    model,
    input: input ?? [],
    dimensions,
    // Ollama cuts what is too long unless it is told not to.
    truncate_prompt_tokens: truncate === false ? null : -1,
    normalize: true,
  });
}
