// The routes whose requests may be lines of a batch.

import type { ValidateFunction } from 'ajv';
import type { Caller } from '../caller.ts';
import type { Context } from '../context.ts';
import { chatCompletion } from '../routes/chat.ts';
import { textCompletion } from '../routes/completions.ts';
import { type ChatRequest, type CompletionRequest, chatRequest, completionRequest } from '../schemas.ts';
import { validatorOf } from '../validation.ts';

export interface BatchEndpoint {
  url: string;
  validate: ValidateFunction;
  /** The whole answer to a valid body. Null when the caller has gone; throws what the route would answer. */
  run(context: Context, caller: Caller, body: object): Promise<object | null>;
  /** Sequences of the engine that the answer takes at once. */
  numSequences(body: object): number;
}

function endpoint<T extends object>(
  url: string,
  schema: object,
  run: (context: Context, caller: Caller, body: T) => Promise<object | null>,
  numSequences: (body: T) => number,
): BatchEndpoint {
  return { url, validate: validatorOf(schema), run, numSequences } as BatchEndpoint;
}

const numPrompts = ({ prompt }: CompletionRequest) =>
  typeof prompt === 'string' || typeof prompt[0] === 'number' ? 1 : prompt.length;

const endpoints: readonly BatchEndpoint[] = [
  endpoint<ChatRequest>('/v1/chat/completions', chatRequest, chatCompletion, ({ n }) => n ?? 1),
  endpoint<CompletionRequest>(
    '/v1/completions',
    completionRequest,
    textCompletion,
    (body) => (body.n ?? 1) * numPrompts(body),
  ),
];

export const endpointUrls = endpoints.map(({ url }) => url);

export function getEndpoint(url: string): BatchEndpoint {
  const found = endpoints.find((row) => row.url === url);
  if (found === undefined) throw new Error(`no endpoint ${url}`);
  return found;
}
