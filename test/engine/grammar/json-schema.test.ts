// What the grammar of a schema allows and what it refuses, text by text, and what a schema is refused for.

import { describe, expect, it } from 'vitest';
import { GrammarError } from '../../../engine/grammar/grammar-error.ts';
import { jsonSchemaToEbnf } from '../../../engine/grammar/json-schema.ts';
import { acceptor } from './acceptor.ts';

const person = {
  type: 'object',
  properties: {
    name: { type: 'string' },
    age: { type: 'integer' },
    tags: { type: 'array', items: { enum: ['a', 'b'] } },
  },
  required: ['name'],
};
const open = {
  type: 'object',
  properties: { ab: { type: 'integer' }, b: { type: 'null' } },
  additionalProperties: true,
};

const cases: Array<[name: string, schema: unknown, valid: string[], invalid: string[]]> = [
  [
    'an object',
    person,
    [
      '{"name":"x"}',
      '{"name": "x", "age": 3}',
      '{\n  "name": "x",\n  "tags": ["a", "b"]\n}',
      '{"name":"x","tags":[]}',
      '{"name":"é\\n\\u00e9"}',
    ],
    [
      '{}',
      '{"age":3}',
      '{"name":"x",}',
      '{"name":"x","other":1}',
      '{"age":3,"name":"x"}',
      '{"name":"a\nb"}',
      '{"name":"x","tags":["c"]}',
      '{"name":"x"',
      '[]',
      '{"name":"x"} ',
    ],
  ],
  [
    'other properties, which repeat no name',
    open,
    ['{}', '{"ab":1}', '{"b":null}', '{"ab":1,"b":null,"c":true}', '{"a":[1]}', '{"abc":{}}', '{"":0}'],
    ['{"ab":"x"}', '{"c":1,"ab":2}', '{"b":null,"ab":1}', '{"ab":1,"ab":"x"}', '{"b":1}'],
  ],
  ['no properties', { type: 'object', properties: {} }, ['{}', '{ }'], ['{"a":1}', '[]']],
  ['any properties', { type: 'object' }, ['{}', '{"a":1}'], ['[]']],
  [
    'anything',
    true,
    ['1', '"x"', 'null', '[1,{"a":[]}]', '{"a":1.5e3}'],
    ['', 'nul', '01', '{a:1}', '[1,]', "'x'"],
  ],
  [
    'an array',
    { type: 'array', items: { type: 'boolean' }, minItems: 1, maxItems: 2 },
    ['[true]', '[true, false]', '[ true,false ]'],
    ['[]', '[true,true,true]', '[1]', 'true'],
  ],
  ['an enum', { enum: ['a"b', 1, null] }, ['"a\\"b"', '1', 'null'], ['"a"', '2', '"null"']],
  ['a type and its enum', { type: 'string', enum: ['a', 1] }, ['"a"'], ['1']],
  [
    'the tighter of two bounds',
    { type: 'integer', minimum: 5, exclusiveMinimum: 1, maximum: 9 },
    ['5', '9'],
    ['2', '4', '10'],
  ],
  [
    'an excluded bound of a number',
    { type: 'number', exclusiveMinimum: 0, maximum: 1 },
    ['0.001', '1', '1.0'],
    ['0', '0.0', '1.1', '-1'],
  ],
  [
    'lengths',
    { type: 'string', minLength: 2, maxLength: 3 },
    ['"ab"', '"éé日"'],
    ['"a"', '"abcd"', '"a\\n"', '"a\tb"'],
  ],
  ['a pattern', { type: 'string', pattern: '^[a-z]+"$' }, ['"ab\\""'], ['"ab"', '"ab""', 'ab"']],
  [
    'a date',
    { type: 'string', format: 'date' },
    ['"2026-02-28"', '"2026-12-31"'],
    ['"2026-02-30"', '"2026-13-01"', '"26-1-1"'],
  ],
  [
    'a reference to the whole',
    { type: 'object', properties: { next: { $ref: '#' } } },
    ['{}', '{"next":{"next":{}}}'],
    ['{"next":1}'],
  ],
  ['allOf', { allOf: [{ type: 'integer', minimum: 2 }, { maximum: 4 }] }, ['2', '4'], ['1', '5', '2.5']],
  [
    'anyOf with more beside',
    { type: 'string', anyOf: [{ maxLength: 1 }, { pattern: '^x+$' }] },
    ['"a"', '"xxx"'],
    ['"ab"', '1'],
  ],
  ['a missing type', { minLength: 1 }, ['"a"'], ['""', '1']],
];

describe('the grammar of a schema', () => {
  it.each(cases)('%s', async (_, schema, valid, invalid) => {
    const { accepts } = await acceptor(jsonSchemaToEbnf(schema));
    for (const text of valid) expect(await accepts(text), text).toBe(true);
    for (const text of invalid) expect(await accepts(text), text).toBe(false);
  });
});

describe('refused', () => {
  const deep = (depth: number): object => (depth === 0 ? {} : { type: 'array', items: deep(depth - 1) });

  it.each<[unknown, string]>([
    [false, 'schema: found false, which allows no value'],
    [7, 'schema: found 7, allowed: a schema'],
    [{ type: 'text' }, 'schema.type: found "text", allowed: null, boolean'],
    [
      { properties: { a: { items: { not: {} } } } },
      'schema.properties.a.items: the keyword not is not supported',
    ],
    [{ $ref: '#/$defs/a' }, 'leads to nothing in the schema'],
    [{ $ref: '#/$defs/a', $defs: { a: { $ref: '#/$defs/a' } } }, 'lead back to #/$defs/a without an end'],
    [{ $ref: '#' }, 'lead back to # without an end'],
    [{ anyOf: [{ $ref: '#' }, { type: 'null' }] }, 'lead back to # without an end'],
    [{ enum: [] }, 'none of the listed values'],
    [{ type: 'integer', minimum: 3, maximum: 2 }, 'no integer lies between the bounds'],
    [{ type: 'number', exclusiveMinimum: 1, maximum: 1 }, 'no number lies between the bounds'],
    [{ type: 'string', minLength: 3, maxLength: 2 }, 'minLength is 3 and maxLength 2'],
    [{ type: 'string', minLength: -1 }, 'schema.minLength: found -1, allowed: a whole number from 0'],
    [{ type: 'string', pattern: '(' }, 'schema.pattern: the regular expression "(" is not valid'],
    [{ type: 'array', minItems: 3, maxItems: 2 }, 'minItems is 3 and maxItems 2'],
    [{ type: 'object', required: ['a'], additionalProperties: false }, '"a" is not among the properties'],
    [{ minimum: 1, minLength: 2 }, 'type is missing beside keywords of several types, minimum, minLength'],
    [
      { oneOf: [{ type: 'string' }, { type: ['string', 'null'] }] },
      'schema.oneOf: a value may match schemas 0 and 1 both',
    ],
    [deep(200), 'nested more than 100 deep'],
    [{ properties: { a: 'integer' } }, 'schema.properties.a: found "integer", allowed: a schema'],
  ])('%j', (schema, reason) => {
    expect(() => jsonSchemaToEbnf(schema)).toThrow(GrammarError);
    expect(() => jsonSchemaToEbnf(schema)).toThrow(reason);
  });

  it('a schema whose references multiply', () => {
    const $defs: Record<string, object> = { d0: { type: 'null' } };
    for (let i = 1; i < 40; i++) {
      const before = { $ref: `#/$defs/d${i - 1}`, minimum: i };
      $defs[`d${i}`] = { anyOf: [before, { ...before, maximum: 100 + i }] };
    }
    expect(() => jsonSchemaToEbnf({ $ref: '#/$defs/d39', $defs })).toThrow(GrammarError);
  });
});
