// What every answer must be, whatever was asked: no fault of ours, JSON that says so, and errors in the shape
// of the route's own dialect that name a field which exists.

import { errorTable } from '../../../server/errors.ts';
import type { FuzzAnswer } from './client.ts';
import type { FuzzRequest, Operation } from './requests.ts';
import type { Schema } from './schema-values.ts';

type Json = Record<string, unknown>;

/** What is wrong with the answer, or null. */
export function faultOf(request: FuzzRequest, answer: FuzzAnswer): string | null {
  const { method, operation } = request;
  const { status, headers, body } = answer;
  if (status >= 500 && !isRefusal(status, body)) return `status ${status}`;
  if (body.includes('internal_error')) return 'an internal error in the answer';
  if (method === 'HEAD' || status === 204 || (method === 'OPTIONS' && body === '')) return null;
  const type = String(headers['content-type'] ?? '');
  if (status < 400) return type.startsWith('application/json') ? notJson(body) : null;
  if (!type.startsWith('application/json')) return `an error of type ${JSON.stringify(type)}`;
  const fault = notJson(body);
  if (fault !== null) return fault;
  const error = JSON.parse(body) as Json;
  // Another route, or none: those have OpenAI's shape, and their own fields.
  if (!isOfRoute(request)) return openaiFault(error, status, null);
  if (/^\/v1\/messages\b/.test(operation.path)) return anthropicFault(error);
  if (operation.path.startsWith('/api/'))
    return typeof error.error === 'string' ? null : 'not Ollama’s error';
  return openaiFault(error, status, operation);
}

/** 501 is the answer to what is known and not built; the table says which codes have it. */
function isRefusal(status: number, body: string): boolean {
  const codes = Object.values(errorTable).filter((entry) => (entry.status as number) === 501);
  return status === 501 && codes.some(({ code }) => body.includes(`"${code}"`));
}

function isOfRoute({ method, url, operation }: FuzzRequest): boolean {
  const path = new RegExp(`^${operation.path.replace(/\{[^}]*\}/g, '[^/]+')}([?#]|$)`);
  return method === operation.method && path.test(url);
}

function notJson(body: string): string | null {
  try {
    JSON.parse(body);
    return null;
  } catch {
    return 'the answer is not JSON';
  }
}

function anthropicFault({ type, error }: Json): string | null {
  const { type: kind, message } = (error ?? {}) as Json;
  const isWhole =
    type === 'error' && typeof kind === 'string' && typeof message === 'string' && message !== '';
  return isWhole ? null : 'not Anthropic’s error';
}

function openaiFault({ error }: Json, status: number, operation: Operation | null): string | null {
  const { message, type, param, code } = (error ?? {}) as Json;
  const entry = Object.values(errorTable).find((row) => row.code === code);
  if (entry === undefined || entry.type !== type || entry.status !== status)
    return 'an error of no row of the table';
  if (typeof message !== 'string' || message === '') return 'an error without a message';
  if (param !== null && typeof param !== 'string') return 'a param that is no field';
  return param === null || operation === null || hasField(operation, param)
    ? null
    : `there is no field ${param}`;
}

function hasField({ parameters, body, isMultipart }: Operation, param: string): boolean {
  // A form's limits hold for what it should not have, too.
  if (isMultipart) return true;
  if (parameters.some(({ name }) => name === param)) return true;
  // What stands in a path names itself.
  if (param === 'model') return true;
  return body !== null && leadsTo(body, param.split(/\.|\[/));
}

/** Whether the path exists in the schema, as far as the schema says what there is. */
function leadsTo(schema: Schema, [name, ...rest]: string[]): boolean {
  if (name === undefined) return true;
  const branches = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (branches !== undefined) return branches.some((branch) => leadsTo(branch, [name, ...rest]));
  if (schema.type === 'array') {
    return /^\d+\]?$/.test(name) && leadsTo(schema.items ?? {}, rest);
  }
  if (schema.type === undefined) return true;
  if (schema.type !== 'object') return false;
  const property = Object.hasOwn(schema.properties ?? {}, name) ? schema.properties?.[name] : undefined;
  if (property !== undefined) return leadsTo(property, rest);
  return schema.patternProperties !== undefined || schema.properties === undefined;
}

/** Names of what the answer says was made, for later requests. */
export function idsIn(answer: FuzzAnswer): string[] {
  if (answer.status !== 200) return [];
  return [...answer.body.slice(0, 5000).matchAll(/"id":"([^"\\]{3,100})"/g)].slice(0, 2).map(([, id]) => id);
}
