// References inside a JSON schema, and two schemas that must hold at once as one.

import { GrammarError, shown } from './grammar-error.ts';
import { assertionsOf } from './schema-keywords.ts';

export type SchemaObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const maxHops = 100;

export class SchemaPointers {
  readonly #root: unknown;

  constructor(root: unknown) {
    this.#root = root;
  }

  /** The pointer in a schema with $ref; only those into the schema itself are supported. */
  of({ $ref: pointer }: SchemaObject, path: string): string {
    if (typeof pointer === 'string' && (pointer === '#' || pointer.startsWith('#/'))) return pointer;
    throw new GrammarError(
      `${path}.$ref: found ${shown(pointer)}, supported: "#" and "#/..." into the schema itself`,
    );
  }

  get(pointer: string, path: string): unknown {
    let value = this.#root;
    if (pointer === '#') return value;
    for (const part of pointer.slice(2).split('/')) {
      const name = decoded(part).replaceAll('~1', '/').replaceAll('~0', '~');
      const isThere = (isObject(value) || Array.isArray(value)) && Object.hasOwn(value, name);
      if (!isThere) throw new GrammarError(`${path}: ${shown(pointer)} leads to nothing in the schema`);
      value = (value as Record<string, unknown>)[name];
    }
    return value;
  }

  /** The schema that a reference stands for, when it says nothing else; else the schema itself. */
  resolved(schema: unknown, path: string): unknown {
    let current = schema;
    for (let hops = 0; isObject(current) && current.$ref !== undefined; hops++) {
      if (hops === maxHops) throw new GrammarError(`${path}: the references have no end`);
      if (assertionsOf(current, path).length > 1) return current;
      current = this.get(this.of(current, path), path);
    }
    return current;
  }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);

/** How a keyword of two schemas is one; keywords that are not here must be equal. */
const mergers: Readonly<Record<string, (a: never, b: never, path: string) => unknown>> = {
  required: (a: string[], b: string[]) => [...new Set([...a, ...b])],
  minimum: (a: number, b: number) => Math.max(a, b),
  exclusiveMinimum: (a: number, b: number) => Math.max(a, b),
  minLength: (a: number, b: number) => Math.max(a, b),
  minItems: (a: number, b: number) => Math.max(a, b),
  minProperties: (a: number, b: number) => Math.max(a, b),
  maximum: (a: number, b: number) => Math.min(a, b),
  exclusiveMaximum: (a: number, b: number) => Math.min(a, b),
  maxLength: (a: number, b: number) => Math.min(a, b),
  maxItems: (a: number, b: number) => Math.min(a, b),
  maxProperties: (a: number, b: number) => Math.min(a, b),
  allOf: (a: unknown[], b: unknown[]) => [...a, ...b],
  enum: (a: unknown[], b: unknown[]) => a.filter((one) => b.some((other) => same(one, other))),
  properties: (a: Record<string, unknown>, b: Record<string, unknown>, path: string) => {
    const both: Record<string, unknown> = { ...a };
    for (const [name, schema] of Object.entries(b)) {
      const at = `${path}.properties.${name}`;
      both[name] = Object.hasOwn(a, name) ? { allOf: [a[name], schema] } : schema;
      if (!isObject(schema) && schema !== true) throw new GrammarError(`${at}: found ${shown(schema)}`);
    }
    return both;
  },
  type: (a: string | string[], b: string | string[], path: string) => {
    const [left, right] = [[a].flat(), [b].flat()];
    const types = left.flatMap((one) => {
      if (right.includes(one)) return [one];
      if (one === 'number' && right.includes('integer')) return ['integer'];
      return one === 'integer' && right.includes('number') ? ['integer'] : [];
    });
    if (types.length === 0)
      throw new GrammarError(`${path}: type cannot be ${shown(a)} and ${shown(b)} at once`);
    return types.length === 1 ? types[0] : types;
  },
};

/**
 * Keywords whose meaning hangs on others beside them: two schemas with them must agree on all of the group.
 */
const groups: readonly (readonly string[])[] = [
  ['additionalProperties', 'properties', 'patternProperties'],
  ['items', 'prefixItems', 'additionalItems'],
];

/** One schema that is valid where both are. Throws GrammarError when that cannot be said. */
export function mergeSchemas(a: SchemaObject, b: unknown, path: string): SchemaObject {
  if (b === true) return a;
  if (!isObject(b)) throw new GrammarError(`${path}: found ${shown(b)}, allowed: a schema`);
  const asserted = new Set(assertionsOf(b, path));
  const out: Record<string, unknown> = { ...a };
  for (const [main, ...beside] of groups) {
    const isIn = (schema: SchemaObject) => schema[main] !== undefined;
    const differ = [main, ...beside].filter((keyword) => !same(a[keyword], b[keyword]));
    const hasAny = (schema: SchemaObject) =>
      [main, ...beside].some((keyword) => schema[keyword] !== undefined);
    if ((isIn(a) || isIn(b)) && hasAny(a) && hasAny(b) && differ.length > 0) {
      throw new GrammarError(
        `${path}: ${main} is not supported where two schemas must both hold and differ in ${differ.join(', ')}`,
      );
    }
  }
  for (const keyword of asserted) {
    const [left, right] = [out[keyword], b[keyword]];
    if (left === undefined || same(left, right)) out[keyword] = right;
    else if (Object.hasOwn(mergers, keyword))
      out[keyword] = mergers[keyword](left as never, right as never, path);
    else throw new GrammarError(`${path}: ${keyword} of two schemas that must both hold is not supported`);
  }
  return out;
}
