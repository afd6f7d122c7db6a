// The routes whose requests may be lines of a batch.

import type { ValidateFunction } from 'ajv';
import type { Caller } from '../caller.ts';
import { type Context, findModel } from '../context.ts';
import { anEmbedder, findEncoder } from '../encoders/admission.ts';
import { type EmbeddingRequest, embeddingRequest } from '../encoders/schemas.ts';
import { chatCompletion } from '../routes/chat.ts';
import { textCompletion } from '../routes/completions.ts';
import { embeddings } from '../routes/embeddings.ts';
import { type ChatRequest, type CompletionRequest, chatRequest, completionRequest } from '../schemas.ts';
import { validatorOf } from '../validation.ts';

export interface BatchEndpoint {
  url: string;
  validate: ValidateFunction;
  /** Throws ApiError when the model is not served, or not for this. */
  findModel(context: Context, model: string | null | undefined): { model: string };
  /** The whole answer to a valid body. Null when the caller has gone; throws what the route would answer. */
  run(context: Context, caller: Caller, body: object): Promise<object | null>;
  /** Sequences of the engine that the answer takes at once. */
  numSequences(body: object): number;
}

function endpoint<T extends object>(
  url: string,
  schema: object,
  rest: {
    findModel?: BatchEndpoint['findModel'];
    run(context: Context, caller: Caller, body: T): Promise<object | null>;
    numSequences(body: T): number;
  },
): BatchEndpoint {
  return { url, validate: validatorOf(schema), findModel, ...rest } as BatchEndpoint;
}

const numPrompts = ({ prompt }: CompletionRequest) =>
  typeof prompt === 'string' || typeof prompt[0] === 'number' ? 1 : prompt.length;

const endpoints: readonly BatchEndpoint[] = [
  endpoint<ChatRequest>('/v1/chat/completions', chatRequest, {
    run: chatCompletion,
    numSequences: ({ n }) => n ?? 1,
  }),
  endpoint<CompletionRequest>('/v1/completions', completionRequest, {
    run: textCompletion,
    numSequences: (body) => (body.n ?? 1) * numPrompts(body),
  }),
  endpoint<EmbeddingRequest>('/v1/embeddings', embeddingRequest, {
    findModel: (context, model) => findEncoder(context, model, anEmbedder),
    run: embeddings,
    // An encoder has a queue of its own, which a line of many inputs fills no more than any request.
    numSequences: () => 1,
  }),
];

export const endpointUrls = endpoints.map(({ url }) => url);

export function getEndpoint(url: string): BatchEndpoint {
  const found = endpoints.find((row) => row.url === url);
  if (found === undefined) throw new Error(`no endpoint ${url}`);
  return found;
}
