// The routes whose requests may be lines of a batch.

import type { Caller } from '../caller.ts';
import { type Context, findModel } from '../context.ts';
import { aClassifier, anEmbedder, aScorer, findEncoder, type Need } from '../encoders/admission.ts';
import { numSequencesOf } from '../encoders/decoder-embedder.ts';
import {
  type EmbeddingRequest,
  embeddingRequest,
  type InputField,
  type ModerationRequest,
  moderationRequest,
  type RerankRequest,
  rerankRequest,
  type ScoreRequest,
  scoreRequest,
} from '../encoders/schemas.ts';
import { type ResponseRequest, responseRequest } from '../responses/schemas.ts';
import { chatCompletion } from '../routes/chat.ts';
import { moderation } from '../routes/classify.ts';
import { textCompletion } from '../routes/completions.ts';
import { embeddings } from '../routes/embeddings.ts';
import { wholeResponse } from '../routes/responses.ts';
import { ranking, scoring } from '../routes/scores.ts';
import { type ChatRequest, type CompletionRequest, chatRequest, completionRequest } from '../schemas.ts';
import { type Validator, validatorOf } from '../validation.ts';
import type { JobParts } from './job-parts.ts';

type Server = Pick<JobParts, 'context' | 'responses'>;

export interface BatchEndpoint {
  url: string;
  validate: Validator;
  /** Throws ApiError when the model is not served, or not for this. */
  findModel(context: Context, model: string | null | undefined): { model: string };
  /** The whole answer to a valid body. Null when the caller has gone; throws what the route would answer. */
  run(server: Server, caller: Caller, body: object): Promise<object | null>;
  /** Sequences of the engine that the answer takes at once. */
  numSequences(body: object, context: Context): number;
  /** Fields that may not be true: what they ask for has no place in a batch. */
  neverTrue: readonly string[];
}

function endpoint<T extends object>(
  url: string,
  schema: object,
  rest: {
    run(server: Server, caller: Caller, body: T): Promise<object | null>;
    numSequences(body: T): number;
    neverTrue?: BatchEndpoint['neverTrue'];
  },
): BatchEndpoint {
  return { url, validate: validatorOf(schema), findModel, neverTrue: ['stream'], ...rest } as BatchEndpoint;
}

/** An encoder has a queue of its own, which a line of many inputs fills no more than any request. */
function encoderEndpoint<T extends { model?: string | null }>(
  url: string,
  schema: object,
  need: Need,
  run: (context: Context, caller: Caller, body: T) => Promise<object>,
  numInputsOf: (body: T) => number,
): BatchEndpoint {
  return {
    url,
    validate: validatorOf(schema),
    findModel: (context, model) => findEncoder(context, model, need),
    run: ({ context }, caller, body) => run(context, caller, body as T),
    numSequences: (body, context) => {
      const { encoder } = findEncoder(context, (body as T).model, need);
      return encoder === null ? numSequencesOf(numInputsOf(body as T), context.engine) : 1;
    },
    neverTrue: [],
  };
}

/** Of a field that takes a text, token ids, or a list of either. */
const numInputs = (input: CompletionRequest['prompt'] | InputField) =>
  typeof input === 'string' || typeof input[0] === 'number' ? 1 : input.length;

const numTexts = ({ text_1, text_2, queries, items, documents }: ScoreRequest) =>
  [text_1, text_2, queries, items, documents].flatMap((texts) => texts ?? []).length;

const endpoints: readonly BatchEndpoint[] = [
  endpoint<ChatRequest>('/v1/chat/completions', chatRequest, {
    run: ({ context }, caller, body) => chatCompletion(context, caller, body),
    numSequences: ({ n }) => n ?? 1,
  }),
  endpoint<CompletionRequest>('/v1/completions', completionRequest, {
    run: ({ context }, caller, body) => textCompletion(context, caller, body),
    numSequences: (body) => (body.n ?? 1) * numInputs(body.prompt),
  }),
  endpoint<ResponseRequest>('/v1/responses', responseRequest, {
    // A line that runs again after a power cut would be stored twice, and a batch would push out all others.
    run: ({ responses }, caller, body) => wholeResponse(responses, caller, { ...body, store: false }),
    numSequences: () => 1,
    neverTrue: ['stream', 'background', 'store'],
  }),
  encoderEndpoint<EmbeddingRequest>('/v1/embeddings', embeddingRequest, anEmbedder, embeddings, ({ input }) =>
    numInputs(input),
  ),
  encoderEndpoint<ModerationRequest>('/v1/moderations', moderationRequest, aClassifier, moderation, () => 1),
  encoderEndpoint<RerankRequest>(
    '/v1/rerank',
    rerankRequest,
    aScorer,
    ranking,
    ({ documents }) => 1 + documents.length,
  ),
  encoderEndpoint<ScoreRequest>('/v1/score', scoreRequest, aScorer, scoring, numTexts),
];

export const endpointUrls = endpoints.map(({ url }) => url);

export function getEndpoint(url: string): BatchEndpoint {
  const found = endpoints.find((row) => row.url === url);
  if (found === undefined) throw new Error(`no endpoint ${url}`);
  return found;
}
