// Errors as Anthropic's clients know them.

import type { Dialect } from '../dialect.ts';
import { type ApiError, errorTable } from '../errors.ts';

const typeByStatus: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  500: 'api_error',
  503: 'overloaded_error',
};

/** Fields of the chat request that a Messages request becomes, and what the client called them. */
const clientNames: ReadonlyArray<readonly [RegExp, string]> = [
  [/^tools\.(\d+)\.function\.parameters/, 'tools.$1.input_schema'],
  [/^response_format\.json_schema\.schema/, 'output_config.format.schema'],
  [/^thinking_token_budget/, 'thinking.budget_tokens'],
  [/^stop\b/, 'stop_sequences'],
];

function inClientNames({ message }: ApiError): string {
  const known = clientNames.find(([pattern]) => pattern.test(message));
  return known === undefined ? message : message.replace(...known);
}

/** The `error` event of a stream has the same form. */
export function errorBody(error: ApiError, requestId: string): object {
  const type = typeByStatus[errorTable[error.errorName].status] ?? 'invalid_request_error';
  // The code at which clients send the whole conversation instead of its newest part.
  const details =
    error.param === 'thread'
      ? { details: { error_code: 'thread_unsupported_request', unsupported: ['thread'] } }
      : {};
  return { type: 'error', error: { type, message: inClientNames(error), ...details }, request_id: requestId };
}

export const anthropic: Dialect = { errorBody, idHeader: 'request-id' };
