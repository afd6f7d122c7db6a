// Requests over every operation of an OpenAPI document, each drawn from the seed and its own number alone.

import { randomInts } from '../../engine/random.ts';
import { drawAny, drawValue, type Int, mutate, type Schema, toJson } from './schema-values.ts';

interface Parameter {
  name: string;
  in: 'query' | 'path' | 'header';
  schema: Schema;
}

export interface Operation {
  method: string;
  /** As the document writes it, with {names}. */
  path: string;
  parameters: readonly Parameter[];
  /** Of the body, or null. */
  body: Schema | null;
  isMultipart: boolean;
}

interface DocumentOperation {
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { schema: Schema }> };
}

export interface OpenApi {
  paths: Record<string, Record<string, DocumentOperation>>;
}

export function operationsOf(document: OpenApi): Operation[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { parameters = [], requestBody }]) => {
      const content = requestBody?.content ?? {};
      const schema = content['application/json']?.schema ?? Object.values(content)[0]?.schema ?? null;
      const isMultipart = content['multipart/form-data'] !== undefined;
      return { method: method.toUpperCase(), path, parameters, body: schema, isMultipart };
    }),
  );
}

export interface FuzzRequest {
  number: number;
  operation: Operation;
  method: string;
  url: string;
  headers: Record<string, string>;
  body: Buffer | null;
  /** The client goes after so many ms; null stays. */
  leavesAfterMs: number | null;
}

const pick = <T>(int: Int, values: readonly T[]): T => values[int(0, values.length - 1)];
const chance = (int: Int, percent: number) => int(1, 100) <= percent;

const oddIds = [
  'x',
  '0',
  '-1',
  '%00',
  '%2e%2e',
  '..%2f..',
  '%F0%9F%98%80',
  '%zz',
  '%',
  'a'.repeat(999),
  'a'.repeat(1001),
];
const oddNames = ['__proto__', 'constructor', 'limit', 'after', 'order', 'stream', 'a[]', 'a[b]', ''];

/** ids: names of objects that answers so far have told of, newest last. */
export function drawRequest(
  operations: readonly Operation[],
  seed: number,
  number: number,
  ids: readonly string[],
): FuzzRequest {
  const int = randomInts(Math.imul(seed, 1_000_003) + number);
  const operation = drawOperation(operations, int);
  const { body, headers } = drawBody(operation, int);
  return {
    number,
    operation,
    method: chance(int, 4)
      ? pick(int, ['PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'TRACE', 'POST', 'GET'])
      : operation.method,
    url: drawUrl(operation, int, ids),
    headers: { ...headers, ...drawHeaders(int) },
    body,
    leavesAfterMs: chance(int, 5) ? int(0, 8) : null,
  };
}

/** Those with a body have more to get wrong. */
function drawOperation(operations: readonly Operation[], int: Int): Operation {
  const withBody = operations.filter(({ body }) => body !== null);
  return chance(int, 80) && withBody.length > 0 ? pick(int, withBody) : pick(int, operations);
}

function drawUrl({ path, parameters }: Operation, int: Int, ids: readonly string[]): string {
  const drawId = () =>
    ids.length > 0 && chance(int, 60)
      ? encodeURIComponent(ids[ids.length - 1 - int(0, Math.min(ids.length, 20) - 1)])
      : pick(int, oddIds);
  const filled = path.replace(/\{[^}]*\}/g, drawId);
  const query: string[] = [];
  for (const parameter of parameters) {
    if (parameter.in !== 'query' || chance(int, 50)) continue;
    const value = chance(int, 25) ? drawAny(int, 9) : drawValue(parameter.schema, int, parameter.name);
    const text = typeof value === 'string' ? Buffer.from(value.slice(0, 2000)).toString() : String(value);
    query.push(`${encodeURIComponent(parameter.name)}=${encodeURIComponent(text)}`);
  }
  if (chance(int, 5)) query.push(`${pick(int, oddNames)}=${pick(int, ['', '1', '%zz', '%00', '&&', '=='])}`);
  const odd = chance(int, 2) ? pick(int, ['/', '//', '/x', '/..', '%2f', ';a=b', '?', '#']) : '';
  return filled + odd + (query.length === 0 ? '' : `?${query.join('&')}`);
}

function drawHeaders(int: Int): Record<string, string> {
  const headers: Record<string, string> = {};
  if (chance(int, 5))
    headers['x-request-id'] = pick(int, ['mine', 'two words', 'x'.repeat(128), 'x'.repeat(129), '__proto__']);
  if (chance(int, 2)) headers['accept-encoding'] = pick(int, ['gzip', '*', 'br;q=2']);
  if (chance(int, 2)) headers.accept = pick(int, ['text/event-stream', 'image/png', '*']);
  if (chance(int, 1)) headers.authorization = pick(int, ['Bearer', 'Bearer x', 'Basic eDp5']);
  if (chance(int, 1)) headers['anthropic-version'] = pick(int, ['2023-06-01', 'x']);
  if (chance(int, 1)) headers.expect = '100-continue';
  return headers;
}

const contentTypes = [
  'text/plain',
  'application/x-www-form-urlencoded',
  'multipart/form-data',
  'application/json; charset=utf-16',
  'application/jsonx',
  '*',
  '',
];

function drawBody(operation: Operation, int: Int): { body: Buffer | null; headers: Record<string, string> } {
  if (operation.method === 'GET' || operation.method === 'DELETE') return { body: null, headers: {} };
  if (operation.body === null) {
    return chance(int, 50) ? { body: null, headers: {} } : withType(Buffer.from('{}'), 'application/json');
  }
  let value = drawValue(operation.body, int);
  for (let i = pick(int, [0, 0, 0, 1, 1, 2]); i > 0; i--) value = mutate(value, int);
  if (operation.isMultipart && chance(int, 80)) return multipart(value, int);
  const type = chance(int, 3) ? pick(int, contentTypes) : 'application/json';
  return withType(chance(int, 6) ? spoilt(toJson(value), int) : Buffer.from(toJson(value)), type);
}

const withType = (body: Buffer, type: string) => ({
  body,
  headers: type === '' ? ({} as Record<string, string>) : { 'content-type': type },
});

/** JSON that is none any more, or says the same in another way. */
function spoilt(json: string, int: Int): Buffer {
  const at = int(0, json.length);
  switch (int(0, 8)) {
    case 0:
      return Buffer.from(json.slice(0, at));
    case 1:
      return Buffer.from(`${json}${pick(int, ['}', ',', 'x', '\u0000', json])}`);
    case 2:
      return Buffer.from(`\ufeff${json}`);
    case 3:
      return Buffer.concat([
        Buffer.from(json.slice(0, at)),
        Buffer.of(0xff, 0xc0, 0x80),
        Buffer.from(json.slice(at)),
      ]);
    case 4:
      return Buffer.alloc(0);
    case 5:
      return Buffer.from(json.replaceAll('"', "'"));
    case 6:
      return Buffer.from(json.replace('{', `{"model": null, "model": ${'['.repeat(int(0, 20_000))}`));
    case 7:
      return Buffer.from('['.repeat(int(1, 50_000)));
    default:
      return Buffer.from(`{"x": "${'x'.repeat(int(1, 400_000))}", ${json.slice(1)}`);
  }
}

/** Objects as fields of a form, and a file among them. */
function multipart(value: unknown, int: Int): { body: Buffer; headers: Record<string, string> } {
  const fields = typeof value === 'object' && value !== null ? Object.entries(value) : [];
  const line = {
    custom_id: 'a',
    method: 'POST',
    url: '/v1/completions',
    body: { prompt: 'Hi', max_tokens: 1 },
  };
  const content = pick(int, [
    toJson(line),
    `${toJson(line)}\n`.repeat(3),
    'x',
    '',
    '\n\n',
    toJson(value),
    `${toJson(line)}\n{`,
  ]);
  const name = pick(int, ['a.jsonl', '../a', '', 'a"b', 'é.jsonl']);
  const parts = fields
    .filter(([field]) => field !== 'file')
    .map(
      ([field, text]) =>
        `--b\r\ncontent-disposition: form-data; name="${field}"\r\n\r\n${typeof text === 'string' ? text : toJson(text ?? null)}\r\n`,
    );
  if (chance(int, 90)) {
    parts.push(
      `--b\r\ncontent-disposition: form-data; name="${chance(int, 95) ? 'file' : 'other'}"; filename="${name}"\r\n\r\n${content}\r\n`,
    );
  }
  const whole = `${parts.join('')}${chance(int, 95) ? '--b--\r\n' : ''}`;
  return {
    body: Buffer.from(whole),
    headers: { 'content-type': `multipart/form-data; boundary=${chance(int, 97) ? 'b' : 'c'}` },
  };
}
