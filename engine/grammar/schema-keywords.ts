// Every keyword of JSON Schema (drafts 4 to 2020-12) and what becomes of it. None is passed over in
// silence: a keyword that asserts something is enforced by the grammar or refused by name. Words that are
// no keywords say nothing, as the standard has it.

import { GrammarError } from './grammar-error.ts';

export type JsonType = 'null' | 'boolean' | 'integer' | 'number' | 'string' | 'array' | 'object';

export const jsonTypes: readonly JsonType[] = [
  'null',
  'boolean',
  'integer',
  'number',
  'string',
  'array',
  'object',
];

/**
 * `annotation` says nothing about which values are valid; `any` is enforced for every type; the name of a
 * type: enforced there, and of no meaning for other types; `refused` is an error.
 */
type Treatment = 'annotation' | 'any' | 'number' | 'string' | 'array' | 'object' | 'refused';

const keywords: Readonly<Record<Treatment, readonly string[]>> = {
  annotation: [
    ...['$schema', '$id', 'id', '$comment', '$anchor', '$vocabulary', '$defs', 'definitions'],
    ...['title', 'description', 'default', 'example', 'examples', 'deprecated', 'readOnly', 'writeOnly'],
    ...['contentEncoding', 'contentMediaType', 'contentSchema', 'discriminator'],
  ],
  any: ['$ref', 'type', 'enum', 'const', 'anyOf', 'oneOf', 'allOf'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  array: ['items', 'prefixItems', 'additionalItems', 'minItems', 'maxItems'],
  object: [
    ...['properties', 'required', 'additionalProperties', 'patternProperties', 'propertyNames'],
    ...['minProperties', 'maxProperties'],
  ],
  refused: [
    ...['$dynamicRef', '$dynamicAnchor', '$recursiveRef', '$recursiveAnchor', 'not', 'if', 'then', 'else'],
    ...['multipleOf', 'uniqueItems', 'contains', 'minContains', 'maxContains', 'unevaluatedItems'],
    ...['unevaluatedProperties', 'dependencies', 'dependentRequired', 'dependentSchemas'],
  ],
};

const treatments = new Map(
  Object.entries(keywords).flatMap(([treatment, names]) =>
    names.map((name) => [name, treatment as Treatment]),
  ),
);

/** Values with which a refused keyword asserts nothing, or what holds anyway. */
function isWithoutEffect(
  keyword: string,
  value: unknown,
  schema: Readonly<Record<string, unknown>>,
): boolean {
  if (keyword === 'uniqueItems') return value === false;
  if (keyword === 'multipleOf') return value === 1 && schema.type === 'integer';
  // Objects are closed unless additionalProperties opens them.
  return keyword === 'unevaluatedProperties' && value === false && schema.additionalProperties === undefined;
}

/** Keywords that assert something, in the schema's order. Throws GrammarError for one that is refused. */
export function assertionsOf(schema: Readonly<Record<string, unknown>>, path: string): string[] {
  return Object.keys(schema).filter((keyword) => {
    const treatment = treatments.get(keyword) ?? 'annotation';
    if (treatment !== 'refused') return treatment !== 'annotation';
    if (isWithoutEffect(keyword, schema[keyword], schema)) return false;
    throw new GrammarError(`${path}: the keyword ${keyword} is not supported`);
  });
}

/** Types that the keywords speak of, for schemas without `type`. */
export function typesOfKeywords(names: readonly string[]): JsonType[] {
  const found = new Set(names.map((name) => treatments.get(name)));
  return (['number', 'string', 'array', 'object'] as const).filter((type) => found.has(type));
}
