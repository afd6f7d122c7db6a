// Who asks for something and waits for the answer: an HTTP request, a message on a socket, a line of a batch.

import type { FastifyReply, FastifyRequest } from 'fastify';

declare module 'fastify' {
  interface FastifyRequest {
    /** Whose key it came with: what separates the objects that clients store; '' without keys. */
    owner: string;
    /** Separates the prefix cache of one API key from another's; '' with fewer than two keys. */
    keySalt: string;
    /** Monotonic ms at which the request came in. */
    arrivalMs: number;
  }
}

export interface Caller {
  /** Names the request in logs and answers. */
  id: string;
  owner: string;
  keySalt: string;
  arrivalMs: number;
  /** Fires when nobody waits for the answer any more. */
  signal: AbortSignal;
  /** Nobody waits for it right now: everybody else goes first, and it takes no place in the queue. */
  isBatchLine?: true;
}

/** The largest int32: behind everything that clients may ask for. */
const lastPriority = 2 ** 31 - 1;

export function priorityOf({ isBatchLine }: Caller, asked: number | null | undefined): number {
  return isBatchLine === true ? lastPriority : (asked ?? 0);
}

/** The caller behind an HTTP request; the signal fires when its connection goes before the answer is out. */
export function callerOf({ id, owner, keySalt, arrivalMs }: FastifyRequest, reply: FastifyReply): Caller {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  return { id, owner, keySalt, arrivalMs, signal: controller.signal };
}

export function cacheSaltOf({ keySalt }: Caller, cacheSalt: string | null | undefined): string {
  return keySalt === '' && cacheSalt == null ? '' : `${keySalt}/${cacheSalt ?? ''}`;
}
