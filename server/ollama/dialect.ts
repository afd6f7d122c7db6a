// Errors as Ollama's clients know them.

import type { Dialect } from '../dialect.ts';
import type { ApiError } from '../errors.ts';

/** Fields of the chat request, and what the client called them. */
const clientNames: ReadonlyArray<readonly [RegExp, string]> = [
  [/^response_format\.json_schema\.schema/, 'format'],
  [/^response_format/, 'format'],
  [/^(seed|stop)\b/, 'options.$1'],
  [/ \(truncate_prompt_tokens: -1 cuts it\)$/, ' (truncate cuts it)'],
];

/** The last line of a stream that fails has the same form. */
export function errorBody({ message }: ApiError): object {
  const known = clientNames.find(([pattern]) => pattern.test(message));
  return { error: known === undefined ? message : message.replace(...known) };
}

export const ollama: Dialect = { errorBody };
