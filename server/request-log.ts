// One line per finished request.

import type { FastifyBaseLogger } from 'fastify';
import type { RequestRecord } from '../engine/engine.ts';

const between = (fromMs: number | null, toMs: number | null) =>
  fromMs === null || toMs === null ? null : Math.round((toMs - fromMs) * 10) / 10;

export function logRequest(logger: FastifyBaseLogger, record: RequestRecord): void {
  logger.info(
    {
      id: record.requestId,
      choice: record.n > 1 ? record.index : undefined,
      promptTokens: record.numPromptTokens,
      cachedTokens: record.numCachedTokens,
      outputTokens: record.numOutputTokens,
      queueMs: between(record.arrivalMs, record.scheduledMs),
      ttftMs: between(record.arrivalMs, record.firstTokenMs),
      totalMs: between(record.arrivalMs, record.finishedMs),
      finish: record.finishReason,
    },
    'request',
  );
}
