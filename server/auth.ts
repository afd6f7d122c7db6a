// Who may come in: API keys compared in constant time, the Host header checked against DNS rebinding, and the
// Origin of WebSockets.

import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { ApiError } from './errors.ts';

const digest = (text: string) => createHash('sha256').update(text).digest();

/** Pages cannot send headers with a WebSocket; OpenAI's client puts the key among the protocols it offers. */
const keyPrefix = 'openai-insecure-api-key.';

function keyProtocol({ 'sec-websocket-protocol': offered }: FastifyRequest['headers']): string | undefined {
  const protocols = (offered ?? '').split(',').map((name) => name.trim());
  return protocols.find((name) => name.startsWith(keyPrefix))?.slice(keyPrefix.length);
}

/** What a WebSocket agrees on: the first protocol that is no key, which must not be sent back. */
export function agreedProtocol(offered: ReadonlySet<string>): string | false {
  return [...offered].find((name) => !name.startsWith(keyPrefix)) ?? false;
}

export class Keys {
  readonly #digests: readonly Buffer[];

  constructor(keys: readonly string[]) {
    this.#digests = keys.map(digest);
  }

  /** Throws invalid_api_key. Returns a name for the key that does not give it away; '' without keys. */
  check({ headers }: FastifyRequest): string {
    if (this.#digests.length === 0) return '';
    const bearer = /^Bearer (.+)$/i.exec(headers.authorization ?? '')?.[1];
    const given = bearer ?? headers['x-api-key'] ?? keyProtocol(headers);
    if (typeof given !== 'string') {
      throw new ApiError(
        'invalid_api_key',
        'an API key is needed: send "Authorization: Bearer KEY" or "X-Api-Key: KEY"',
      );
    }
    const found = digest(given);
    // Every key is compared, whichever matches: the time tells nothing.
    const matches = this.#digests.map((known) => timingSafeEqual(known, found));
    if (!matches.includes(true))
      throw new ApiError('invalid_api_key', 'the API key is not one of this server');
    return digest(`owner ${found.toString('hex')}`).toString('hex');
  }
}

/** allowedHosts null allows any; else the name without port must be among them. */
export function checkHost(request: FastifyRequest, allowedHosts: readonly string[] | null): void {
  if (allowedHosts === null) return;
  const host = (request.headers.host ?? '').replace(/:\d+$/, '').toLowerCase();
  if (!allowedHosts.includes(host)) {
    throw new ApiError(
      'host_not_allowed',
      'the Host header is not one this server answers to: see --allowed-hosts',
    );
  }
}

/** Browsers let any page open a WebSocket, and say whose it is; other clients send no Origin. */
export function checkOrigin({ headers }: FastifyRequest, allowedOrigins: readonly string[]): void {
  const { origin } = headers;
  if (origin === undefined || [origin, '*'].some((allowed) => allowedOrigins.includes(allowed))) return;
  throw new ApiError(
    'origin_not_allowed',
    'the Origin header is not one that may open a WebSocket here: see --allowed-origins',
  );
}
