// What an operator may ask with --enable-admin: requests ended, steps stopped, the KV cache's memory given
// back. vLLM's routes, which it has in its development mode.

import type { FastifyInstance } from 'fastify';
import { type ControlAction, ControlError } from '../../engine/engine.ts';
import type { Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import {
  type AbortRequest,
  abortRequest,
  type PauseQuery,
  pauseQuery,
  sleepQuery,
  wakeUpQuery,
} from '../schemas.ts';

/** What answers call themselves by, before the request's id. */
const answerPrefix = /^(chatcmpl-|cmpl-)/;

/** Only with options.enableAdmin: these act on every client's requests. */
export function adminRoutes(app: FastifyInstance, context: Context): void {
  const { engine } = context;

  app.post('/abort', { schema: { body: abortRequest } }, async (request) => {
    const ids = wantedIds(request.body as AbortRequest);
    return { status: 'ok', num_aborted: engine.abort(ids) };
  });

  app.post('/pause', { schema: { querystring: pauseQuery } }, async (request) => {
    refuseWhileDraining(context);
    await ask(context, 'pause');
    if ((request.query as PauseQuery).mode === 'abort') engine.abort(null);
    return { status: 'paused' };
  });

  app.post('/resume', async () => {
    await ask(context, 'resume');
    return { status: 'resumed' };
  });

  app.get('/is_paused', async () => ({ is_paused: engine.control.isPaused }));

  app.post('/sleep', { schema: { querystring: sleepQuery } }, async () => {
    refuseWhileDraining(context);
    await ask(context, 'sleep');
    return { status: 'sleeping' };
  });

  app.post('/wake_up', { schema: { querystring: wakeUpQuery } }, async () => {
    await ask(context, 'wakeUp');
    return { status: 'awake' };
  });

  app.get('/is_sleeping', async () => ({ is_sleeping: engine.control.isSleeping }));

  app.post('/reset_prefix_cache', async () => {
    await ask(context, 'resetPrefixCache');
    return { success: true };
  });
}

/** Null is every request. */
function wantedIds({ request_ids: requestIds, rid, abort_all: all }: AbortRequest): string[] | null {
  if (all === true) return null;
  const ids = [...(requestIds ?? []), ...(rid == null ? [] : [rid])];
  if (ids.length === 0) {
    throw new ApiError(
      'invalid_value',
      'request_ids is missing, expected a list of request ids, or abort_all true',
      'request_ids',
    );
  }
  return ids.map((id) => id.replace(answerPrefix, ''));
}

/** What runs has to come to its end. */
function refuseWhileDraining({ isDraining }: Context): void {
  if (isDraining()) throw new ApiError('draining', 'the server is shutting down');
}

async function ask({ engine }: Context, action: ControlAction): Promise<void> {
  try {
    await engine.control.ask(action);
  } catch (error) {
    if (error instanceof ControlError) throw new ApiError('conflict', error.message);
    throw error;
  }
}
