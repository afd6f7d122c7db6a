// Routes of OpenAI's and Ollama's that this server has nothing behind: 501, and what it has instead.

import type { FastifyInstance } from 'fastify';
import type { Dialect } from '../dialect.ts';
import { ApiError } from '../errors.ts';
import { ollama } from '../ollama/dialect.ts';

const text = 'text alone, by /v1/chat/completions, /v1/completions, /v1/responses and /v1/messages';
const ownModel = 'the models that the server was started with (/api/tags)';

const unsupported: ReadonlyArray<readonly [paths: readonly string[], supported: string, dialect?: Dialect]> =
  [
    [['/v1/audio/*', '/v1/images/*', '/v1/videos', '/v1/videos/*'], text],
    [['/api/pull', '/api/push', '/api/create', '/api/copy', '/api/delete', '/api/blobs/*'], ownModel, ollama],
  ];

export function unsupportedRoutes(app: FastifyInstance): void {
  for (const [paths, supported, dialect] of unsupported) {
    const refuse = async ({ method, url }: { method: string; url: string }) => {
      const path = url.split('?')[0].slice(0, 200);
      throw new ApiError('not_implemented', `${method} ${path} is not there, supported: ${supported}`);
    };
    // Before the body, whatever its type, is read.
    const options = { config: { dialect }, schema: { hide: true }, onRequest: refuse };
    for (const path of paths) app.all(path, options, async () => {});
  }
}
