// /v1/batches: create, list, one, cancel.

import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Batches } from '../batches/batches.ts';
import {
  type BatchesQuery,
  type BatchRequest,
  batchesQuery,
  batchRequest,
  type IdParams,
  idParams,
} from '../batches/schemas.ts';
import type { Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import type { BatchRow } from '../store/batches.ts';
import { listAnswer } from '../store/page.ts';
import { shown } from '../validation.ts';

/** OpenAI's. */
const outputLifetime = 30 * 24 * 3600;

export function batchRoutes(app: FastifyInstance, { isDraining }: Context, batches: Batches): void {
  app.post('/v1/batches', { schema: { body: batchRequest } }, async (request) => {
    if (isDraining()) throw new ApiError('draining', 'the server is shutting down');
    const body = request.body as BatchRequest;
    checkInput(batches, request.owner, body.input_file_id);
    const row = batches.create({
      owner: request.owner,
      key_salt: request.keySalt,
      endpoint: body.endpoint,
      input_file_id: body.input_file_id,
      completion_window: body.completion_window,
      metadata: body.metadata == null ? null : JSON.stringify(body.metadata),
      output_lifetime: body.output_expires_after?.seconds ?? outputLifetime,
    });
    return batchObject(row);
  });

  app.get('/v1/batches', { schema: { querystring: batchesQuery } }, async (request) => {
    const { after, limit } = request.query as BatchesQuery;
    const page = batches.store.list(request.owner, { after: after ?? null, limit, order: 'desc' });
    if (page === null) {
      throw new ApiError(
        'invalid_value',
        `after: found ${shown(after)}, allowed: the id of a batch`,
        'after',
      );
    }
    return listAnswer(page.rows.map(batchObject), page.hasMore);
  });

  const schema = { params: idParams };
  const get = ({ owner, params }: FastifyRequest): BatchRow => {
    const { id } = params as IdParams;
    const batch = batches.store.find(owner, id);
    if (batch !== null) return batch;
    throw new ApiError('batch_not_found', `id: found ${shown(id)}, which is no batch`, 'id');
  };

  app.get('/v1/batches/:id', { schema }, async (request) => batchObject(get(request)));

  app.post('/v1/batches/:id/cancel', { schema }, async (request) => {
    const batch = get(request);
    const isCancelled = batch.status === 'cancelling' || batches.cancel(batch);
    if (!isCancelled) {
      const allowed = 'validating, in_progress';
      throw new ApiError(
        'invalid_value',
        `status: found ${batch.status}, allowed to cancel: ${allowed}`,
        'id',
      );
    }
    return batchObject(get(request));
  });
}

function checkInput({ files }: Batches, owner: string, id: string): void {
  const file = files.find(owner, id);
  if (file === null) {
    throw new ApiError(
      'file_not_found',
      `input_file_id: found ${shown(id)}, which is no file`,
      'input_file_id',
    );
  }
  if (file.purpose !== 'batch') {
    throw new ApiError(
      'invalid_value',
      `input_file_id: found a file with purpose ${file.purpose}, allowed: batch`,
      'input_file_id',
    );
  }
}

/** Everything that has not come about yet is null. */
function batchObject(row: BatchRow): { id: string } {
  const { total, completed, failed } = row;
  const isOver = [row.completed_at, row.failed_at, row.expired_at, row.cancelled_at].some(
    (at) => at !== null,
  );
  const batch = {
    id: row.id,
    object: 'batch',
    endpoint: row.endpoint,
    model: row.model,
    errors: row.errors === null ? null : { object: 'list', data: JSON.parse(row.errors) },
    input_file_id: row.input_file_id,
    completion_window: row.completion_window,
    status: row.status,
    output_file_id: isOver ? row.output_file_id : null,
    error_file_id: isOver ? row.error_file_id : null,
    created_at: row.created_at,
    in_progress_at: row.in_progress_at,
    expires_at: row.expires_at,
    finalizing_at: row.finalizing_at,
    completed_at: row.completed_at,
    failed_at: row.failed_at,
    expired_at: row.expired_at,
    cancelling_at: row.cancelling_at,
    cancelled_at: row.cancelled_at,
    request_counts: { total, completed, failed },
    usage: {
      input_tokens: row.input_tokens,
      input_tokens_details: { cached_tokens: row.cached_tokens },
      output_tokens: row.output_tokens,
      output_tokens_details: { reasoning_tokens: row.reasoning_tokens },
      total_tokens: row.input_tokens + row.output_tokens,
    },
    metadata: row.metadata === null ? null : JSON.parse(row.metadata),
  };
  return batch;
}
