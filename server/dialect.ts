// How a route words what no route does by itself: errors, and the name of the request. OpenAI's way, unless
// the route's config names another dialect.

import type { FastifyRequest } from 'fastify';
import type { ApiError } from './errors.ts';

export interface Dialect {
  errorBody(error: ApiError, requestId: string): object;
  /** A header with the request's id, beside x-request-id. */
  idHeader?: string;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    dialect?: Dialect;
  }
}

const openai: Dialect = { errorBody: ({ body }) => body };

export function dialectOf(request: FastifyRequest): Dialect {
  return request.routeOptions.config.dialect ?? openai;
}
