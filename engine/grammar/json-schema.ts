// A JSON schema -> EBNF of the JSON texts that are valid under it.
//
// What the grammar allows is always valid, and sometimes less than all that is: properties come in the
// order of the schema, objects are closed unless additionalProperties opens them, white space is one space
// or a line break with its indentation. xgrammar has a converter of its own, which passes over keywords it
// does not know.

import { characterClass, complement, EbnfRules, literal, repeated } from './ebnf.ts';
import { GrammarError, shown } from './grammar-error.ts';
import { count, escapedCharacters, numberOf, rawCharacter, stringOf } from './json-scalars.ts';
import { anyNumber } from './number-ranges.ts';
import { regexToEbnf } from './regex.ts';
import { alwaysDiffer } from './schema-difference.ts';
import { assertionsOf, type JsonType, jsonTypes, typesOfKeywords } from './schema-keywords.ts';
import { isObject, mergeSchemas, type SchemaObject, SchemaPointers } from './schema-pointers.ts';

const maxDepth = 100;
/** Schemas met on the way, those behind references and in unions counted each time. */
const maxSchemas = 20_000;
/** Items after which a bounded array is counted by xgrammar instead of one rule for each. */
const maxCountedItems = 200;

/** Rules that every schema may use. */
const sharedRules = [
  // Bounded, or a model that has nothing to say goes on with it.
  'ws ::= (" " | "\\u000a" [ \\u0009]{0,32})?',
  // What may follow a string helps xgrammar to decide about tokens that run past its end.
  `characters ::= ("\\u0022" | ${rawCharacter} characters | "\\u005c" escape characters) (= [ \\u000a\\u0009]* [,}\\]:])`,
  'escape ::= ["\\u005c/bfnrt] | "u" [0-9A-Fa-f]{4}',
  'string ::= "\\u0022" characters',
  `number ::= ${anyNumber}`,
  'value ::= object | array | string | number | "true" | "false" | "null"',
  'array ::= "[" ws (value ("," ws value)* ws)? "]"',
  'object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)* ws)? "}"',
];

/** Throws GrammarError naming the place and the keyword that no grammar enforces, or what is invalid. */
export function jsonSchemaToEbnf(schema: unknown): string {
  const writer = new SchemaWriter(schema);
  return writer.rules.text(writer.root(), sharedRules);
}

class SchemaWriter {
  readonly rules = new EbnfRules();
  readonly #pointers: SchemaPointers;
  /** Rules of the references that were met. */
  readonly #ruleOfPointer = new Map<string, string>();
  /** References that lead to one another without a character between them would never end. */
  #open = new Set<string>();
  #numSchemas = 0;
  #depth = 0;

  constructor(schema: unknown) {
    this.#pointers = new SchemaPointers(schema);
  }

  root(): string {
    return this.#reference('#', 'schema');
  }

  #reference(pointer: string, path: string): string {
    if (this.#open.has(pointer)) {
      throw new GrammarError(`${path}: the references lead back to ${pointer} without an end`);
    }
    const known = this.#ruleOfPointer.get(pointer);
    if (known !== undefined) return known;
    const name = this.rules.newName();
    this.#ruleOfPointer.set(pointer, name);
    const target = this.#pointers.get(pointer, path);
    this.#open.add(pointer);
    this.rules.add(this.#visit(target, pointer === '#' ? 'schema' : pointer), name);
    this.#open.delete(pointer);
    return name;
  }

  /** What lies inside brackets may refer to what is around them. */
  #inside(schema: unknown, path: string): string {
    const around = this.#open;
    this.#open = new Set();
    const expression = this.#visit(schema, path);
    this.#open = around;
    return expression;
  }

  #visit(schema: unknown, path: string): string {
    if (++this.#numSchemas > maxSchemas) {
      throw new GrammarError(
        `${path}: the schema comes to more than ${maxSchemas} parts, references included`,
      );
    }
    if (this.#depth >= maxDepth) {
      throw new GrammarError(`${path}: the schema is nested more than ${maxDepth} deep`);
    }
    this.#depth++;
    const expression = this.#expression(schema, path);
    this.#depth--;
    return expression;
  }

  #expression(schema: unknown, path: string): string {
    if (schema === true) return 'value';
    if (schema === false) throw new GrammarError(`${path}: found false, which allows no value`);
    if (!isObject(schema)) {
      throw new GrammarError(
        `${path}: found ${shown(schema)}, allowed: a schema, which is an object or true`,
      );
    }
    const keywords = assertionsOf(schema, path);
    if (keywords.length === 0) return 'value';
    if (keywords.includes('$ref')) return this.#behindReference(schema, keywords, path);
    for (const keyword of ['allOf', 'anyOf', 'oneOf'] as const) {
      if (keywords.includes(keyword)) return this.#combined(schema, keyword, path);
    }
    if (keywords.includes('enum') || keywords.includes('const')) return this.#listed(schema, keywords, path);
    return this.rules.choice(
      this.#types(schema, keywords, path).map((type) => this.#typed(type, schema, path)),
    );
  }

  #behindReference(schema: SchemaObject, keywords: readonly string[], path: string): string {
    const pointer = this.#pointers.of(schema, path);
    if (keywords.length === 1) return this.#reference(pointer, `${path}.$ref`);
    const { $ref: _, ...rest } = schema;
    if (this.#open.has(pointer)) {
      throw new GrammarError(`${path}: the references lead back to ${pointer} without an end`);
    }
    this.#open.add(pointer);
    const expression = this.#visit(mergeSchemas(rest, this.#pointers.get(pointer, path), path), path);
    this.#open.delete(pointer);
    return expression;
  }

  #combined(schema: SchemaObject, keyword: 'allOf' | 'anyOf' | 'oneOf', path: string): string {
    const { [keyword]: branches, ...rest } = schema;
    if (!Array.isArray(branches) || branches.length === 0) {
      throw new GrammarError(`${path}.${keyword}: found ${shown(branches)}, allowed: a list of schemas`);
    }
    if (keyword === 'allOf') {
      const one = (sum: SchemaObject, branch: unknown) =>
        mergeSchemas(sum, this.#pointers.resolved(branch, path), path);
      return this.#visit(branches.reduce(one, rest), path);
    }
    if (keyword === 'oneOf') this.#checkThatOneMatches(branches, path);
    const hasMore = assertionsOf(rest, path).length > 0;
    return this.rules.choice(
      branches.map((branch, i) => {
        const at = `${path}.${keyword}.${i}`;
        return this.#visit(
          hasMore ? mergeSchemas(rest, this.#pointers.resolved(branch, at), at) : branch,
          at,
        );
      }),
    );
  }

  /** A grammar can say "one of them or more", never "exactly one". */
  #checkThatOneMatches(branches: readonly unknown[], path: string): void {
    branches.forEach((branch, i) => {
      for (let j = 0; j < i; j++) {
        if (alwaysDiffer(this.#pointers, branches[j], branch, path)) continue;
        throw new GrammarError(
          `${path}.oneOf: a value may match schemas ${j} and ${i} both, which no grammar can forbid; supported: ` +
            'schemas of different types or with different constants in a required property, or anyOf',
        );
      }
    });
  }

  #listed(schema: SchemaObject, keywords: readonly string[], path: string): string {
    const other = keywords.find((keyword) => !['enum', 'const', 'type'].includes(keyword));
    if (other !== undefined) {
      const beside = keywords.includes('enum') ? 'enum' : 'const';
      throw new GrammarError(`${path}: the keyword ${other} is not supported beside ${beside}`);
    }
    if (schema.enum !== undefined && !Array.isArray(schema.enum)) {
      throw new GrammarError(`${path}.enum: found ${shown(schema.enum)}, allowed: a list`);
    }
    const values = (schema.enum as unknown[] | undefined) ?? [schema.const];
    const types = keywords.includes('type') ? this.#types(schema, keywords, path) : jsonTypes;
    const allowed = values.filter(
      (value) =>
        typesOfValue(value).some((type) => types.includes(type)) &&
        (schema.const === undefined || JSON.stringify(schema.const) === JSON.stringify(value)),
    );
    if (allowed.length === 0)
      throw new GrammarError(`${path}: none of the listed values is allowed by the rest`);
    return this.rules.choice(allowed.map((value) => literal(JSON.stringify(value))));
  }

  #types(schema: SchemaObject, keywords: readonly string[], path: string): readonly JsonType[] {
    const { type } = schema;
    if (type === undefined) {
      const types = typesOfKeywords(keywords);
      if (types.length === 1) return types;
      throw new GrammarError(
        `${path}: type is missing beside keywords of several types, ${keywords.join(', ')}`,
      );
    }
    const types = Array.isArray(type) ? type : [type];
    const unknown = types.find((one) => !jsonTypes.includes(one as JsonType));
    if (types.length === 0 || unknown !== undefined) {
      throw new GrammarError(
        `${path}.type: found ${shown(type)}, allowed: ${jsonTypes.join(', ')}, or a list of them`,
      );
    }
    // A whole number is a number.
    return types.includes('number') ? types.filter((one) => one !== 'integer') : (types as JsonType[]);
  }

  #typed(type: JsonType, schema: SchemaObject, path: string): string {
    switch (type) {
      case 'null':
        return '"null"';
      case 'boolean':
        return '("true" | "false")';
      case 'integer':
      case 'number':
        return numberOf(type, schema, path);
      case 'string':
        return stringOf(schema, path, this.rules);
      case 'array':
        return this.#array(schema, path);
      case 'object':
        return this.#object(schema, path);
    }
  }

  #array(schema: SchemaObject, path: string): string {
    const min = count(schema, 'minItems', path) ?? 0;
    const max = count(schema, 'maxItems', path) ?? Number.POSITIVE_INFINITY;
    if (min > max) throw new GrammarError(`${path}: minItems is ${min} and maxItems ${max}`);
    // Before 2020-12, a list in `items` was what prefixItems is now, and additionalItems what items is.
    const isOld = Array.isArray(schema.items);
    const prefix = (isOld ? schema.items : (schema.prefixItems ?? [])) as unknown[];
    if (!Array.isArray(prefix)) {
      throw new GrammarError(`${path}.prefixItems: found ${shown(prefix)}, allowed: a list of schemas`);
    }
    const rest = isOld ? schema.additionalItems : schema.items;
    // A tuple is closed unless more is asked for.
    const isClosed = rest === false || (rest === undefined && prefix.length > 0 && min <= prefix.length);
    const first = prefix.slice(0, max).map((one, i) => this.#inside(one, `${path}.prefixItems.${i}`));
    const least = Math.max(0, min - first.length);
    if (isClosed && least > 0)
      throw new GrammarError(`${path}: minItems is ${min}, and no more items are allowed`);
    const most = isClosed ? 0 : max - first.length;
    if (first.length === 0 && most === 0) return this.rules.add('"[" ws "]"');
    const item = most === 0 ? '' : this.rules.add(this.#inside(rest ?? true, `${path}.items`));
    if (first.length > 0) {
      const more = most === 0 ? '' : this.#following(item, least, most);
      return this.rules.add(`"[" ws ${first.join(' "," ws ')} ${more} ws "]"`);
    }
    const items = `${item} ${this.#following(item, Math.max(0, least - 1), most - 1)} ws`;
    return this.rules.add(`"[" ws ${least === 0 ? `(${items})?` : items} "]"`);
  }

  /** min to max items, each after a comma. */
  #following(item: string, min: number, max: number): string {
    if (max === 0) return '';
    const next = `("," ws ${item})`;
    if (max === Number.POSITIVE_INFINITY) return repeated(next, min, max);
    if (max > maxCountedItems) return repeated(this.rules.add(next), min, max);
    // One rule for each: xgrammar's masks are cheaper than with a counted repetition.
    let rest = '';
    for (let i = max; i > min; i--) rest = this.rules.add(`(${next} ${rest})?`);
    return `${Array(min).fill(next).join(' ')} ${rest}`;
  }

  #object(schema: SchemaObject, path: string): string {
    const { properties, required } = fieldsOf(schema, path);
    const { patternProperties, propertyNames } = schema;
    const min = count(schema, 'minProperties', path) ?? 0;
    const max = count(schema, 'maxProperties', path) ?? Number.POSITIVE_INFINITY;
    if (properties.size === 0) return this.#map(schema, min, max, path);
    for (const [keyword, value] of Object.entries({ patternProperties, propertyNames })) {
      if (value !== undefined) {
        throw new GrammarError(`${path}: the keyword ${keyword} is not supported beside properties`);
      }
    }
    const open = schema.additionalProperties ?? false;
    if (min > required.size)
      throw new GrammarError(`${path}: minProperties is not supported beside properties`);
    if (open !== false ? max !== Number.POSITIVE_INFINITY : max < properties.size) {
      throw new GrammarError(`${path}: maxProperties is not supported beside properties`);
    }
    const others = open === false ? '' : this.#otherProperty([...properties.keys()], open, path);
    // From the end: what may follow the property i, with and without another one before it.
    let after = others === '' ? '' : this.rules.add(`("," ws ${others})*`);
    let first: string | null = others === '' ? '""' : `(${others} ${after})?`;
    for (const [name, property] of [...properties].reverse()) {
      const pair = this.rules.add(
        `${literal(JSON.stringify(name))} ":" ws ${this.#inside(property, `${path}.properties.${name}`)}`,
      );
      const isRequired = required.has(name);
      first = isRequired ? `${pair} ${after}` : `(${pair} ${after} | ${first})`;
      if (first.length > 200) first = this.rules.add(first);
      after = this.rules.add(
        isRequired
          ? `"," ws ${pair} ${after}`
          : `("," ws ${pair} ${after}${after === '' ? ' | ""' : ` | ${after}`})`,
      );
    }
    return this.rules.add(`"{" ws ${first} ws "}"`);
  }

  /** An object whose properties have no names. */
  #map(schema: SchemaObject, min: number, max: number, path: string): string {
    const { patternProperties, propertyNames } = schema;
    // What declares its properties, and none, is closed like any other that declares them.
    const isDeclared = schema.properties !== undefined && propertyNames === undefined && min === 0;
    const { additionalProperties: open = patternProperties === undefined && !isDeclared } = schema;
    if (patternProperties !== undefined && (open !== false || propertyNames !== undefined)) {
      const other = open !== false ? 'additionalProperties' : 'propertyNames';
      throw new GrammarError(`${path}: the keyword ${other} is not supported beside patternProperties`);
    }
    if (min > 1)
      throw new GrammarError(`${path}.minProperties: found ${min}, supported: 0 or 1 without properties`);
    if (min > max) throw new GrammarError(`${path}: minProperties is ${min} and maxProperties ${max}`);
    const isEmpty = max === 0 || (open === false && patternProperties === undefined);
    if (isEmpty && min > 0)
      throw new GrammarError(`${path}: minProperties is ${min}, and no property is allowed`);
    if (isEmpty) return this.rules.add('"{" ws "}"');
    const pairs =
      patternProperties === undefined
        ? [`${this.#name(propertyNames, path)} ":" ws ${this.#inside(open, `${path}.additionalProperties`)}`]
        : this.#patternPairs(patternProperties, path);
    const pair = this.rules.add(pairs.join(' | '));
    const properties = `${pair} ${this.#following(pair, 0, max - 1)} ws`;
    return this.rules.add(`"{" ws ${min === 0 ? `(${properties})?` : properties} "}"`);
  }

  #name(propertyNames: unknown, path: string): string {
    if (propertyNames === undefined) return 'string';
    const at = `${path}.propertyNames`;
    if (!isObject(propertyNames)) {
      throw new GrammarError(`${at}: found ${shown(propertyNames)}, allowed: a schema of strings`);
    }
    return this.#inside(mergeSchemas({ type: 'string' }, this.#pointers.resolved(propertyNames, at), at), at);
  }

  #patternPairs(patternProperties: unknown, path: string): string[] {
    if (!isObject(patternProperties) || Object.keys(patternProperties).length !== 1) {
      // A name that matches two patterns would have to satisfy both schemas.
      throw new GrammarError(
        `${path}.patternProperties: found ${shown(patternProperties)}, supported: an object with one pattern`,
      );
    }
    return Object.entries(patternProperties).map(
      ([pattern, value]) =>
        `"\\u0022" ${regexToEbnf(pattern, 'json string', this.rules)} "\\u0022" ":" ws ` +
        this.#inside(value, `${path}.patternProperties`),
    );
  }

  /** A property beside those that have names, which it must not repeat: the names as a tree of characters. */
  #otherProperty(names: readonly string[], schema: unknown, path: string): string {
    const key = this.#nameUnlike(names.map((name) => [...name]));
    return this.rules.add(`"\\u0022" ${key} ":" ws ${this.#inside(schema, `${path}.additionalProperties`)}`);
  }

  /** The rest of a name, up to its closing quote, that is none of these. */
  #nameUnlike(rests: readonly (readonly string[])[]): string {
    const plain = this.#ruleOfPointer.get('plain name') ?? this.#plainName();
    const byFirst = new Map<string, string[][]>();
    for (const [first, ...rest] of rests) {
      if (first !== undefined) byFirst.set(first, [...(byFirst.get(first) ?? []), rest]);
    }
    const taken = [...byFirst.keys()].map((one) => one.codePointAt(0) as number);
    const others = characterClass(
      complement([...escapedCharacters, ...taken.map((one) => [one, one] as const)]),
    );
    const alternatives = [`${others} ${plain}`];
    for (const [first, rest] of byFirst) {
      // A character that needs an escape starts no other name here.
      if (JSON.stringify(first).length === first.length + 2)
        alternatives.push(`${literal(first)} ${this.#nameUnlike(rest)}`);
    }
    if (!rests.some((rest) => rest.length === 0)) alternatives.push('"\\u0022"');
    return this.rules.add(alternatives.join(' | '));
  }

  #plainName(): string {
    const name = this.rules.add(`${rawCharacter}* "\\u0022"`);
    this.#ruleOfPointer.set('plain name', name);
    return name;
  }
}

function typesOfValue(value: unknown): JsonType[] {
  if (value === null) return ['null'];
  if (Array.isArray(value)) return ['array'];
  if (typeof value === 'number') return Number.isInteger(value) ? ['integer', 'number'] : ['number'];
  return [typeof value as JsonType];
}

function fieldsOf(
  schema: SchemaObject,
  path: string,
): { properties: Map<string, unknown>; required: Set<string> } {
  const { properties = {}, required = [] } = schema;
  if (!isObject(properties)) {
    throw new GrammarError(`${path}.properties: found ${shown(properties)}, allowed: an object of schemas`);
  }
  if (!Array.isArray(required) || required.some((name) => typeof name !== 'string')) {
    throw new GrammarError(`${path}.required: found ${shown(required)}, allowed: a list of names`);
  }
  const fields = new Map(Object.entries(properties));
  for (const name of required) {
    if (fields.has(name)) continue;
    const { additionalProperties = true, patternProperties, propertyNames } = schema;
    if (additionalProperties === false || patternProperties !== undefined || propertyNames !== undefined) {
      throw new GrammarError(`${path}.required: ${shown(name)} is not among the properties`);
    }
    fields.set(name, additionalProperties);
  }
  return { properties: fields, required: new Set(required) };
}
