// An application that lives as long as the test it is made in.

import type { FastifyInstance } from 'fastify';
import { afterEach } from 'vitest';
import { buildApp } from '../../dist/server/app.js';
import type { AppOptions } from '../../server/context.ts';
import { testAppOptions } from './app-options.ts';
import type { FakeEngine } from './fake-engine.ts';

let app: FastifyInstance | null = null;
afterEach(async () => {
  await app?.close();
  app = null;
});

export async function serve(engine: FakeEngine, options: Partial<AppOptions> = {}) {
  const built = await buildApp(engine, { ...testAppOptions, ...options });
  app = built.fastify;
  return built;
}
