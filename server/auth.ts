// Who may come in: API keys compared in constant time, and the Host header checked against DNS rebinding.

import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { ApiError } from './errors.ts';

const digest = (text: string) => createHash('sha256').update(text).digest();

export class Keys {
  readonly #digests: readonly Buffer[];

  constructor(keys: readonly string[]) {
    this.#digests = keys.map(digest);
  }

  /** Throws invalid_api_key. Returns a name for the key that does not give it away; '' without keys. */
  check({ headers }: FastifyRequest): string {
    if (this.#digests.length === 0) return '';
    const bearer = /^Bearer (.+)$/i.exec(headers.authorization ?? '')?.[1];
    const given = bearer ?? headers['x-api-key'];
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
