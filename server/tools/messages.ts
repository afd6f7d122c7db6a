// Tool calls in the messages of a request, in the form chat templates expect: arguments as an object.

import { ApiError } from '../errors.ts';
import type { MessageField } from '../schemas.ts';

/** Throws invalid_value when the arguments of a call are not a JSON object. */
export function templateToolCalls(message: MessageField, field: string): object {
  if (message.tool_calls == null || message.tool_calls.length === 0) return {};
  const calls = message.tool_calls.map((call, i) => {
    const where = `${field}.tool_calls.${i}.function.arguments`;
    return {
      ...call,
      function: { ...call.function, arguments: argumentsOf(call.function.arguments, where) },
    };
  });
  return { tool_calls: calls };
}

function argumentsOf(text: string, field: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text === '' ? '{}' : text);
  } catch {
    value = null;
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  const found = JSON.stringify(text.slice(0, 60));
  throw new ApiError('invalid_value', `${field}: found ${found}, allowed: a JSON object as text`, field);
}
