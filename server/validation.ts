// From what the schema validator found to one sentence: the field, what was found, what is allowed.

import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import type { FastifySchemaValidationError } from 'fastify/types/schema.js';
import { ApiError } from './errors.ts';

interface Schema {
  type?: string;
  anyOf?: Schema[];
  const?: unknown;
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  minItems?: number;
  maxItems?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  description?: string;
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
  maxProperties?: number;
  propertyNames?: Schema;
}

/** Our schemas need not be checked against JSON Schema's own in every process: that is a test's work. */
const settings = {
  useDefaults: true,
  removeAdditional: false,
  verbose: true,
  validateSchema: false,
  code: { optimize: false },
} as const;
const exact = new Ajv(settings);
/** Query strings, parameters and headers are texts; numbers and booleans are read out of them. */
const fromText = new Ajv({ ...settings, coerceTypes: true });

/** What Fastify calls to check a part of a request: true, or false and what it found. */
export interface Validator {
  (data: unknown): boolean;
  errors?: ErrorObject[] | null;
}

/** Compiled with the first request: all of them together would take as long as the rest of a start. */
export function validatorOf(schema: object, httpPart = 'body'): Validator {
  let compiled: ValidateFunction | null = null;
  const validator: Validator = (data) => {
    compiled ??= (httpPart === 'body' ? exact : fromText).compile(schema);
    const isValid = compiled(data);
    validator.errors = compiled.errors;
    return isValid;
  };
  return validator;
}

/** A body that came another way than as the body of its route. Throws what the route would answer. */
export function checked<T>(validate: Validator, body: unknown): T {
  if (validate(body)) return body as T;
  throw toApiError((validate.errors ?? []) as FastifySchemaValidationError[]);
}

/** As answers show it. */
const maxFieldNameLength = 200;

type Found = FastifySchemaValidationError & { data?: unknown; parentSchema?: Schema };

/** A value for an error message, cut to a length that helps. */
export function shown(value: unknown): string {
  const text = value === undefined ? 'nothing' : (JSON.stringify(value) ?? String(value));
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** What a schema allows, in words. */
export function allowed(schema: Schema): string {
  if (schema.anyOf !== undefined) return [...new Set(schema.anyOf.map(allowed))].join(' or ');
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(', ');
  const low = schema.minimum ?? schema.exclusiveMinimum;
  switch (schema.type) {
    case 'integer':
    case 'number': {
      const kind = schema.type === 'integer' ? 'a whole number' : 'a number';
      const from = schema.exclusiveMinimum === undefined ? `from ${low}` : `above ${low}`;
      return `${kind} ${from} to ${schema.maximum}`;
    }
    case 'string':
      return schema.pattern === undefined
        ? `a string of at most ${schema.maxLength} characters`
        : `a string like ${schema.pattern}`;
    case 'array': {
      const count =
        schema.minItems === undefined
          ? `up to ${schema.maxItems}`
          : `${schema.minItems} to ${schema.maxItems}`;
      return schema.items === undefined
        ? 'a list'
        : `a list of ${count} items, each ${allowed(schema.items)}`;
    }
    case 'boolean':
      return 'true or false';
    case 'null':
      return 'null';
    default:
      return allowedObject(schema);
  }
}

function allowedObject({ maxProperties, propertyNames }: Schema): string {
  const count = maxProperties === undefined ? '' : ` of at most ${maxProperties} fields`;
  const names =
    propertyNames === undefined ? '' : ` with names of at most ${propertyNames.maxLength} characters`;
  return `an object${count}${names}`;
}

/** /messages/0/role -> messages.0.role. Some names are the client's own. */
function fieldName(instancePath: string): string {
  const names = instancePath.split('/').slice(1);
  const unescaped = names.map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'));
  return unescaped.join('.').slice(0, maxFieldNameLength);
}

const depth = (error: Found) => error.instancePath.split('/').length;

/**
 * Of a failed union's branches the one that got deeper says most; when several did, or none, the union speaks
 * for them.
 */
function mostTelling(errors: readonly Found[]): Found {
  const deepest = Math.max(...errors.map(depth));
  const candidates = errors.filter((error) => depth(error) === deepest);
  const unions = errors.filter(({ keyword }) => keyword === 'anyOf');
  const divided = unions.filter((error) => depth(error) < deepest && isDivided(error, candidates));
  return divided.at(-1) ?? candidates.find(({ keyword }) => keyword === 'anyOf') ?? candidates[0];
}

/** The candidates are in several of the union's branches. */
function isDivided(union: Found, candidates: readonly Found[]): boolean {
  const branch = ({ schemaPath }: Found) => /^\/\d+/.exec(schemaPath.slice(union.schemaPath.length))?.[0];
  const inside = candidates.filter(({ schemaPath }) => schemaPath.startsWith(`${union.schemaPath}/`));
  return new Set(inside.map(branch)).size > 1;
}

export function toApiError(errors: readonly FastifySchemaValidationError[]): ApiError {
  const error = mostTelling(errors as readonly Found[]);
  const field = fieldName(error.instancePath);
  if (error.keyword === 'required') {
    const missing = String((error.params as { missingProperty?: string }).missingProperty);
    const name = field === '' ? missing : `${field}.${missing}`;
    const schema = error.parentSchema?.properties?.[missing];
    return new ApiError(
      'invalid_value',
      `${name} is missing${schema ? `, expected ${allowed(schema)}` : ''}`,
      name,
    );
  }
  const name = field === '' ? null : field;
  const what = allowed(error.parentSchema ?? {});
  return new ApiError(
    'invalid_value',
    `${name ?? 'the body'}: found ${shown(error.data)}, allowed: ${what}`,
    name,
  );
}
