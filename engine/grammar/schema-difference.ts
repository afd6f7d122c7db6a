// Whether two schemas can never hold for the same value: what makes oneOf the same as anyOf.

import { type JsonType, jsonTypes } from './schema-keywords.ts';
import { isObject, type SchemaObject, type SchemaPointers } from './schema-pointers.ts';

/** False when that is not plain to see. */
export function alwaysDiffer(pointers: SchemaPointers, a: unknown, b: unknown, path: string): boolean {
  const [left, right] = [pointers.resolved(a, path), pointers.resolved(b, path)];
  if (!isObject(left) || !isObject(right)) return false;
  const [leftValues, rightValues] = [valuesOf(left), valuesOf(right)];
  if (leftValues !== null && rightValues !== null) return isDisjoint(leftValues, rightValues);
  const [leftTypes, rightTypes] = [typesOf(left), typesOf(right)];
  if (leftTypes !== null && rightTypes !== null && isDisjoint(leftTypes, rightTypes)) return true;
  if (leftTypes?.join() !== 'object' || rightTypes?.join() !== 'object') return false;
  return tagsOf(pointers, left, path).some(([name, values]) => {
    const others = tagsOf(pointers, right, path).find(([other]) => other === name)?.[1];
    return others !== undefined && isDisjoint(values, others);
  });
}

function isDisjoint(a: readonly string[], b: readonly string[]): boolean {
  return !a.some((one) => b.includes(one));
}

/** All values, as JSON texts; null when they are not listed. */
function valuesOf(schema: SchemaObject): string[] | null {
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  return Array.isArray(schema.enum) ? schema.enum.map((value) => JSON.stringify(value)) : null;
}

/** Types that values may have; null when it is not said. A whole number is a number. */
function typesOf(schema: SchemaObject): JsonType[] | null {
  if (schema.type === undefined) {
    const values = schema.const === undefined ? schema.enum : [schema.const];
    return Array.isArray(values) ? [...new Set(values.map(typeOfValue))] : null;
  }
  const types = [schema.type].flat().map((type) => (type === 'integer' ? 'number' : type));
  return types.every((type) => jsonTypes.includes(type as JsonType)) ? (types as JsonType[]) : null;
}

function typeOfValue(value: unknown): JsonType {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : (typeof value as JsonType);
}

/** Required properties whose values are listed. */
function tagsOf(pointers: SchemaPointers, schema: SchemaObject, path: string): Array<[string, string[]]> {
  const { properties, required } = schema;
  if (!isObject(properties) || !Array.isArray(required)) return [];
  return required.flatMap((name): Array<[string, string[]]> => {
    const property = Object.hasOwn(properties, name) ? pointers.resolved(properties[name], path) : undefined;
    const values = isObject(property) ? valuesOf(property) : null;
    return values === null ? [] : [[name, values]];
  });
}
