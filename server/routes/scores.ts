// POST /v1/rerank (Cohere's and Jina's shape) and /v1/score (vLLM's), by a cross-encoder or by the cosine of embeddings.

import type { FastifyInstance } from 'fastify';
import type { EncoderDescription } from '../../engine/engine.ts';
import type { Caller } from '../caller.ts';
import type { Context } from '../context.ts';
import { admitToEncoder, answered, aScorer } from '../encoders/admission.ts';
import { encoderUsage } from '../encoders/inputs.ts';
import { type RerankRequest, rerankRequest, type ScoreRequest, scoreRequest } from '../encoders/schemas.ts';
import { type ScoredText, scorePairs } from '../encoders/scores.ts';
import { ApiError } from '../errors.ts';

export function scoreRoutes(app: FastifyInstance, context: Context): void {
  for (const path of ['/v1/rerank', '/rerank', '/v2/rerank']) {
    app.post(path, { schema: { body: rerankRequest } }, (request, reply) =>
      answered(request, reply, (caller) => ranking(context, caller, request.body as RerankRequest)),
    );
  }
  for (const path of ['/v1/score', '/score']) {
    app.post(path, { schema: { body: scoreRequest } }, (request, reply) =>
      answered(request, reply, (caller) => scoring(context, caller, request.body as ScoreRequest)),
    );
  }
}

/** The model's own prompts for the two sides of a search, by the names sentence-transformers looks for. */
function searchPrompts({
  kind,
  prompts,
  defaultPrompt,
}: EncoderDescription): [query: string, document: string] {
  if (kind === 'classifier') return ['', ''];
  const first = (...names: string[]) => {
    const name = names.find((candidate) => Object.hasOwn(prompts, candidate));
    return name === undefined ? (defaultPrompt ?? '') : prompts[name];
  };
  return [first('query'), first('document', 'passage', 'corpus')];
}

export async function ranking(context: Context, caller: Caller, body: RerankRequest): Promise<object> {
  const { model, encoder } = admitToEncoder(context, caller, body, aScorer);
  const [queryPrompt, documentPrompt] = searchPrompts(encoder.description);
  const texts = body.documents.map((document) => (typeof document === 'string' ? document : document.text));
  const documents = texts.map((text, i) => ({ field: `documents.${i}`, text: documentPrompt + text }));
  const query = { field: 'query', text: queryPrompt + body.query };
  const { scores, numTokens } = await scorePairs(encoder, [query], documents, body, caller.signal);
  const results = scores.map((relevance_score, index) => ({
    index,
    ...(body.return_documents === false ? {} : { document: { text: texts[index] } }),
    relevance_score,
  }));
  results.sort((a, b) => b.relevance_score - a.relevance_score);
  return {
    id: `rerank-${caller.id}`,
    model,
    usage: encoderUsage(numTokens),
    results: results.slice(0, body.top_n || results.length),
  };
}

const sides = [
  ['text_1', 'text_2'],
  ['queries', 'items'],
  ['queries', 'documents'],
] as const;

function listOf(body: ScoreRequest, field: (typeof sides)[number][number]): ScoredText[] {
  const value = body[field] ?? [];
  return typeof value === 'string'
    ? [{ field, text: value }]
    : value.map((text, i) => ({ field: `${field}.${i}`, text }));
}

export async function scoring(context: Context, caller: Caller, body: ScoreRequest): Promise<object> {
  const { model, encoder } = admitToEncoder(context, caller, body, aScorer);
  const given = sides.filter((pair) => pair.every((field) => body[field] != null));
  if (given.length !== 1) {
    const allowed = sides.map((pair) => pair.join(' with ')).join(', or ');
    const found = given.length === 0 ? 'none' : 'several';
    throw new ApiError(
      'invalid_value',
      `the body: found ${found} of these, allowed: one of ${allowed}`,
      sides[0][0],
    );
  }
  const [leftField, rightField] = given[0];
  const [left, right] = [listOf(body, leftField), listOf(body, rightField)];
  if (left.length !== 1 && left.length !== right.length) {
    throw new ApiError(
      'invalid_value',
      `${leftField}: found ${left.length} texts for ${right.length} in ${rightField}, allowed: 1, or as many`,
      leftField,
    );
  }
  const { scores, numTokens } = await scorePairs(encoder, left, right, body, caller.signal);
  return {
    id: `score-${caller.id}`,
    object: 'list',
    created: Math.floor(Date.now() / 1000),
    model,
    data: scores.map((value, index) => ({ index, object: 'score', score: value })),
    usage: encoderUsage(numTokens),
  };
}
