// /openapi.json and the application agree: every route is in it, and every field is described.

import { Ajv, type AnySchema } from 'ajv';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildApp } from '../../dist/server/app.js';
import { realtimeTypes } from '../../server/websocket/realtime-schemas.ts';
import { responseTypes } from '../../server/websocket/response-schemas.ts';
import { testAppOptions } from './app-options.ts';
import { FakeEngine } from './fake-engine.ts';

interface Schema {
  description?: string;
  properties?: Record<string, Schema>;
  anyOf?: Schema[];
  items?: Schema;
}

interface Operation {
  summary?: string;
  'x-websocket-messages'?: { oneOf: Array<{ $ref: string }> };
  parameters?: Array<{ name: string; description?: string }>;
  requestBody?: { content: Record<string, { schema: Schema }> };
}

/** Fields without a description, by their path. */
function undescribed(schema: Schema, at: string): string[] {
  const { properties = {}, anyOf = [], items } = schema;
  return [
    ...Object.entries(properties).flatMap(([name, field]) => [
      ...(field.description ? [] : [`${at}.${name}`]),
      ...undescribed(field, `${at}.${name}`),
    ]),
    ...anyOf.flatMap((branch) => undescribed(branch, at)),
    ...(items === undefined ? [] : undescribed(items, at)),
  ];
}

/** Out of Fastify's drawing of the tree: methods and paths. */
function routesOf(drawing: string): Array<[method: string, path: string]> {
  const parts: string[] = [];
  return drawing.split('\n').flatMap((line) => {
    const [, indent, part, methods] = /^((?:[│ ] {3})*)[├└]── (\S+)(?: \(([A-Z, ]+)\))?$/.exec(line) ?? [];
    if (part === undefined) return [];
    parts.length = indent.length / 4;
    parts.push(part === '*' ? '/*' : part);
    const path = parts.join('');
    return (methods?.split(', ') ?? []).map((method): [string, string] => [method, path]);
  });
}

describe('/openapi.json', () => {
  let fastify: FastifyInstance;
  let schemas: Record<string, Schema>;
  let operations: Array<[route: string, operation: Operation]>;
  beforeAll(async () => {
    const options = { ...testAppOptions, enableAdmin: true, allowRuntimeLora: true };
    ({ fastify } = await buildApp(new FakeEngine(), options));
    const { paths, components } = (await fastify.inject('/openapi.json')).json();
    schemas = components.schemas;
    operations = Object.entries(paths as Record<string, Record<string, Operation>>).flatMap(
      ([path, methods]) =>
        Object.entries(methods).map(([method, operation]): [string, Operation] => [
          `${method.toUpperCase()} ${path.replace('{*}', '*').replace(/\{(\w+)\}/g, ':$1')}`,
          operation,
        ]),
    );
  });
  afterAll(() => fastify.close());

  it('lists exactly the routes there are', () => {
    const routes = routesOf(fastify.printRoutes({ commonPrefix: false }));
    const listed = operations.map(([route]) => route);
    for (const route of listed) {
      const [method, url] = route.split(' ');
      expect(fastify.hasRoute({ method: method as 'GET', url }), route).toBe(true);
    }
    // What is there to be refused, under every method, is left out.
    const isRefused = (path: string) => routes.some((route) => route[0] === 'TRACE' && route[1] === path);
    const served = routes.filter(([method, path]) => !/HEAD|OPTIONS/.test(method) && !isRefused(path));
    expect(served.map((route) => route.join(' ')).sort()).toEqual(listed.sort());
  });

  it('says what each is for', () => {
    expect(operations.filter(([, { summary }]) => !summary).map(([route]) => route)).toEqual([]);
  });

  it('has schemas that JSON Schema allows, which the server itself does not check', () => {
    const ajv = new Ajv();
    const bodies = operations.flatMap(([, { requestBody }]) => Object.values(requestBody?.content ?? {}));
    expect(bodies.length).toBeGreaterThan(20);
    for (const schema of [...bodies.map((body) => body.schema), ...Object.values(schemas)]) {
      expect(ajv.validateSchema(schema as AnySchema), ajv.errorsText()).toBe(true);
    }
    expect(ajv.validateSchema({ type: 'text' })).toBe(false);
  });

  it('describes every field and parameter', () => {
    const missing = operations.flatMap(([route, { parameters = [], requestBody }]) => [
      ...parameters.filter(({ description }) => !description).map(({ name }) => `${route} ${name}`),
      ...Object.values(requestBody?.content ?? {}).flatMap(({ schema }) => undescribed(schema, route)),
    ]);
    expect(missing).toEqual([]);
  });

  it.each([
    ['responses', '/v1/responses', responseTypes],
    ['realtime', '/v1/realtime', realtimeTypes],
  ])('has the messages of the WebSocket %s, and describes their fields', (name, path, types) => {
    const [, operation] = operations.find(([route]) => route === `GET ${path}`) ?? [];
    const refs = operation?.['x-websocket-messages']?.oneOf.map((message) => message.$ref);
    expect(refs).toEqual(types.map((type) => `#/components/schemas/${name}.${type}`));
    for (const type of types) {
      const schema = schemas[`${name}.${type}`];
      expect(schema.properties?.type).toMatchObject({ enum: [type] });
      expect(undescribed(schema, type)).toEqual([]);
    }
  });
});
