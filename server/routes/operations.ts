// What operators ask: /health, /ping, /version, /metrics.

import type { FastifyInstance } from 'fastify';
import type { EngineApi } from '../../engine/engine.ts';
import type { Context } from '../context.ts';

/** An operator has stopped the steps; the server is well, and takes requests. */
function heldState({ control }: EngineApi): { status?: string } {
  if (control.isSleeping) return { status: 'sleeping' };
  return control.isPaused ? { status: 'paused' } : {};
}

export function operationRoutes(app: FastifyInstance, { engine, options, isDraining }: Context): void {
  /** 200 while the step loop turns; 503 with the reason when it is late, has ended, or the server drains. */
  app.get('/health', async (_request, reply) => {
    const { status, heartbeatAgeMs } = engine.health(options.heartbeatTimeoutMs);
    if (status === 'ok' && !isDraining()) return heldState(engine);
    reply.code(503);
    return status === 'ok'
      ? { status: 'draining' }
      : { status, heartbeat_age_ms: Number.isFinite(heartbeatAgeMs) ? Math.round(heartbeatAgeMs) : null };
  });

  /** The HTTP thread is alive; says nothing of the engine. */
  app.get('/ping', async () => ({}));

  app.get('/version', async () => ({ version: options.version }));

  app.get('/metrics', async (_request, reply) => {
    reply.type(options.metrics.contentType);
    return options.metrics.render();
  });
}
