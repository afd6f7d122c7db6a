// Values for a JSON schema: mostly what it allows, with every bound met, passed and missed, and then mutated.

export type Int = (low: number, high: number) => number;

export interface Schema {
  type?: string;
  anyOf?: Schema[];
  allOf?: Schema[];
  oneOf?: Schema[];
  const?: unknown;
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  minItems?: number;
  maxItems?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  description?: string;
  required?: string[];
  properties?: Record<string, Schema>;
  patternProperties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  items?: Schema;
}

const pick = <T>(int: Int, values: readonly T[]): T => values[int(0, values.length - 1)];
const chance = (int: Int, percent: number) => int(1, 100) <= percent;

/** Stands for a token that JSON.stringify would not write; toJson puts it in. */
const rawTokens = [
  'NaN',
  'Infinity',
  '1e999',
  '-1e999',
  '-0',
  '01',
  '12345678901234567890',
  '5e-324',
  'undefined',
];
const raw = (int: Int) => `@raw${int(0, rawTokens.length - 1)}@`;

export function toJson(value: unknown): string {
  return JSON.stringify(value).replace(/"@raw(\d)@"/g, (_, i) => rawTokens[Number(i)]);
}

const words = ['a', 'Hi', 'What is the weather in Paris?', 'red', 'x y', 'Ünïcödé 😀', '42'];
const oddTexts = [
  '', ' ', '\u0000', '\ud800', '\udc00\ud800', '\u202e', '\u2028', 'e\u0301'.repeat(50), '😀'.repeat(100),
  '__proto__', 'constructor', 'toString', 'hasOwnProperty', '../../etc/passwd', 'file:///etc/passwd', '%00', '%s%n',
  '(a+)+$', '{{ 7 * 7 }}', '{% for i in range(99999999) %}x{% endfor %}', '<|im_start|>system', '</tool_call>', '[]',
  '{"a":1}', 'null', '-1', '1e5', "'; drop table files; --", 'data:image/png;base64,AAAA', 'http://127.0.0.1:1/',
]; // biome-ignore format: texts, not lines

/** Of fields, where the client chooses them. */
const oddNames = ['%', 'a/b~%zz', ''];
const oddNumbers = [0, -1, 1, 0.5, -0.5, 2 ** 31, -(2 ** 31), 2 ** 32, 2 ** 53, 2 ** 63, 1e308, 1e-308];
const prototypeNames = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'then', ''];

const schemas: readonly unknown[] = [
  {},
  { type: 'object' },
  { type: 'string', maxLength: 3 },
  { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'], additionalProperties: false },
  { enum: ['red', 'green'] },
  { anyOf: [{ type: 'boolean' }, { type: 'null' }] },
  { type: 'array', items: { type: 'number' }, maxItems: 2 },
  { $ref: '#/$defs/a', $defs: { a: { type: 'array', items: { $ref: '#/$defs/a' } } } },
  { type: 'string', pattern: '^[a-z]{1,3}$' },
  { not: {} },
];

/** What gets a request past the first check, by the name of the field. */
const likely: Record<string, readonly unknown[]> = {
  model: [
    'quire-demo',
    'quire-demo',
    'quire-demo',
    'rhymes',
    'embedder',
    'cross',
    'labels',
    'gpt-4o',
    null,
    null,
  ],
  max_tokens: [1, 2, 5, 20],
  max_completion_tokens: [1, 3, 10],
  max_output_tokens: [1, 3, 16],
  max_tokens_to_sample: [1, 3],
  num_predict: [1, 5, -1],
  min_tokens: [0, 1, 2],
  n: [1, 1, 2, 3, 128],
  best_of: [1, 2],
  max_items: [1],
  regex: ['[a-c]+', '(', 'a{2,4}', '(a+)+b', '\\d+'],
  pattern: ['a*', '('],
  grammar: ['root ::= "a" | "b"', 'root ::=', 'x ::= "a"', 'root ::= root'],
  schema: schemas,
  parameters: schemas,
  input_schema: schemas,
  json: schemas,
  format: ['json', ...schemas],
  arguments: ['{}', '{"city": "Paris"}', '[]', '{', ''],
  input: ['Hi', ['Hi', 'you'], [1, 2, 3], [[5, 6], [7]]],
  data: ['AAAA'],
  cron: [''],
};

export function drawValue(schema: Schema, int: Int, name = '', depth = 0): unknown {
  if (likely[name] !== undefined && chance(int, 60)) return pick(int, likely[name]);
  const branches = schema.anyOf ?? schema.oneOf;
  if (branches !== undefined) return drawValue(pick(int, branches), int, name, depth);
  if (schema.allOf !== undefined) return drawObject(merged(schema.allOf), int, depth);
  if (schema.const !== undefined) return schema.const;
  if (schema.enum !== undefined) return pick(int, schema.enum);
  switch (schema.type) {
    case 'object':
      return drawObject(schema, int, depth);
    case 'array':
      return drawList(schema, int, name, depth);
    case 'string':
      return drawText(schema, int);
    case 'integer':
    case 'number':
      return drawNumber(schema, int);
    case 'boolean':
      return int(0, 1) === 1;
    case 'null':
      return null;
    default:
      return drawAny(int, depth);
  }
}

function merged(schemas: readonly Schema[]): Schema {
  return {
    type: 'object',
    properties: Object.assign({}, ...schemas.map(({ properties }) => properties)),
    required: schemas.flatMap(({ required }) => required ?? []),
  };
}

function drawObject(schema: Schema, int: Int, depth: number): Record<string, unknown> {
  const value: Record<string, unknown> = {};
  const { properties = {}, required = [], patternProperties, additionalProperties } = schema;
  // Deep down only what must be: a body of a few fields gets further than one of fifty.
  const percent = Object.keys(properties).length > 12 ? 7 : Math.max(10, 45 - 10 * depth);
  for (const [name, property] of Object.entries(properties)) {
    if (required.includes(name) ? chance(int, 98) : chance(int, percent)) {
      value[name] = drawValue(property, int, name, depth + 1);
    }
  }
  const other = Object.values(patternProperties ?? {})[0] ?? additionalProperties;
  if (typeof other === 'object') {
    for (let i = int(0, 2); i > 0; i--) {
      const name = pick(int, ['a', '5', '300', '99999', 'temperature', ...oddNames, ...prototypeNames]);
      define(value, name, drawValue(other, int, '', depth + 1));
    }
  }
  return value;
}

function drawList(schema: Schema, int: Int, name: string, depth: number): unknown[] {
  const { minItems = 0, maxItems = 5, items = {} } = schema;
  const isEdge = chance(int, 2) && maxItems <= 600;
  const length = isEdge ? pick(int, [minItems - 1, maxItems, maxItems + 1]) : int(minItems, minItems + 2);
  const one = drawValue(items, int, name, depth + 1);
  return Array.from({ length: Math.max(0, length) }, () =>
    isEdge ? one : drawValue(items, int, name, depth + 1),
  );
}

function drawText({ minLength = 0, maxLength = 100, pattern }: Schema, int: Int): string {
  if (pattern !== undefined && chance(int, 80)) return pick(int, ['a', 'f', 'get_weather', 'ab-c_1']);
  if (chance(int, 3) && maxLength <= 10_000) {
    return 'x'.repeat(Math.max(0, pick(int, [minLength - 1, minLength, maxLength, maxLength + 1])));
  }
  return chance(int, 15) ? pick(int, oddTexts) : pick(int, words);
}

function drawNumber(schema: Schema, int: Int): unknown {
  const low = schema.minimum ?? schema.exclusiveMinimum ?? -10;
  const high = schema.maximum ?? schema.exclusiveMaximum ?? low + 100;
  const step = schema.type === 'integer' ? 1 : 0.01;
  if (chance(int, 10)) return pick(int, [low - step, low, low + step, high - step, high, high + step]);
  if (chance(int, 4)) return chance(int, 30) ? raw(int) : pick(int, oddNumbers);
  const near = int(0, Math.min(100, Math.floor(Math.min(high - low, 1e6) / step))) * step;
  return low < -1000 ? near : low + near;
}

/** A little of anything. */
export function drawAny(int: Int, depth = 0): unknown {
  switch (int(0, depth > 4 ? 6 : 9)) {
    case 0:
      return null;
    case 1:
      return int(0, 1) === 1;
    case 2:
      return pick(int, oddNumbers);
    case 3:
      return pick(int, oddTexts);
    case 4:
      return pick(int, words);
    case 5:
      return chance(int, 10) ? 'x'.repeat(int(1000, 20_000)) : raw(int);
    case 6:
      return [];
    case 7:
      return Array.from({ length: int(1, 3) }, () => drawAny(int, depth + 1));
    case 8:
      return chance(int, 20) ? nested(int(100, 3000)) : { type: 'text', text: pick(int, words) };
    default: {
      const value = {};
      for (let i = int(1, 3); i > 0; i--) {
        define(value, pick(int, ['a', 'type', 'text', ...prototypeNames]), drawAny(int, depth + 1));
      }
      return value;
    }
  }
}

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) value = i % 2 === 0 ? [value] : { a: value };
  return value;
}

/** As JSON has it: a property of any name, and no prototype. */
function define(target: object, name: string, value: unknown): void {
  Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
}

/** Changes one place of a body: another value, a name more or less, an item more or less. */
export function mutate(value: unknown, int: Int): unknown {
  if (typeof value !== 'object' || value === null || chance(int, 5)) return drawAny(int);
  if (Array.isArray(value)) {
    const copy = [...value];
    const i = int(0, copy.length);
    if (i === copy.length) copy.push(drawAny(int));
    else if (chance(int, 15)) copy.splice(i, 1);
    else copy[i] = mutate(copy[i], int);
    return copy;
  }
  const names = Object.keys(value);
  const copy = {};
  const chosen = names.length === 0 ? null : pick(int, names);
  const how = int(1, 100);
  for (const name of names) {
    const own = (value as Record<string, unknown>)[name];
    if (name !== chosen) define(copy, name, own);
    else if (how > 85) define(copy, name, null);
    else if (how > 20) define(copy, name, mutate(own, int));
    else if (how > 10) define(copy, name, own);
  }
  if (chosen === null || (how > 10 && how <= 20)) {
    define(copy, pick(int, ['unknown_field', ...prototypeNames]), drawAny(int));
  }
  return copy;
}
