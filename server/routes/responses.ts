// /v1/responses: OpenAI's API of conversations whose turns the server keeps.

import type { FastifyInstance, FastifyReply } from 'fastify';
import { type Caller, callerOf } from '../caller.ts';
import type { Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import type { ResponseEvent } from '../responses/response-run.ts';
import type { Responses, RunningResponse } from '../responses/responses.ts';
import {
  type InputItemsQuery,
  type InputTokensRequest,
  inputItemsQuery,
  inputTokensRequest,
  type ResponseRequest,
  type RetrieveQuery,
  responseParams,
  responseRequest,
  retrieveQuery,
} from '../responses/schemas.ts';
import { SseStream } from '../sse.ts';

const idOf = ({ params }: { params: unknown }) => (params as { response_id: string }).response_id;

export function responseRoutes(app: FastifyInstance, context: Context, responses: Responses): void {
  const { ssePingIntervalMs } = context.options;

  app.post('/v1/responses', { schema: { body: responseRequest } }, async (request, reply) => {
    const body = request.body as ResponseRequest;
    const running = await responses.create(callerOf(request, reply), body);
    if (running === null) return reply.hijack();
    if (body.stream === true) return stream(running.events, reply, ssePingIntervalMs);
    return body.background === true ? running.response : whole(running);
  });

  app.post('/v1/responses/input_tokens', { schema: { body: inputTokensRequest } }, async (request) => ({
    object: 'response.input_tokens',
    input_tokens: await responses.countTokens(request.owner, request.body as InputTokensRequest),
  }));

  const one = { params: responseParams };
  const retrieve = { schema: { ...one, querystring: retrieveQuery } };
  app.get('/v1/responses/:response_id', retrieve, async (request, reply) => {
    const { stream: wantsStream, starting_after: after } = request.query as RetrieveQuery;
    if (wantsStream !== true) return responses.get(request.owner, idOf(request));
    return stream(responses.follow(request.owner, idOf(request), after ?? -1), reply, ssePingIntervalMs);
  });

  app.delete('/v1/responses/:response_id', { schema: one }, async (request) => {
    const id = idOf(request);
    responses.delete(request.owner, id);
    return { id, object: 'response', deleted: true };
  });

  app.post('/v1/responses/:response_id/cancel', { schema: one }, async (request) =>
    responses.cancel(request.owner, idOf(request)),
  );

  const listing = { schema: { ...one, querystring: inputItemsQuery } };
  app.get('/v1/responses/:response_id/input_items', listing, async (request) =>
    responses.inputItems(request.owner, idOf(request), request.query as InputItemsQuery),
  );
}

/** What a body without `stream` and `background` is answered with. Null when the caller has gone meanwhile. */
export async function wholeResponse(
  responses: Responses,
  caller: Caller,
  body: ResponseRequest,
): Promise<object | null> {
  const running = await responses.create(caller, body);
  return running === null ? null : whole(running);
}

async function whole({ response, events, storeError }: RunningResponse): Promise<object> {
  for await (const _ of events);
  const full = storeError();
  if (full !== null) throw full;
  if (response.error?.code === 'server_error') throw new ApiError('internal_error', response.error.message);
  return response;
}

async function stream(
  events: AsyncIterable<ResponseEvent[]>,
  reply: FastifyReply,
  pingIntervalMs: number,
): Promise<void> {
  const sse = new SseStream(reply, pingIntervalMs);
  for await (const batch of events) {
    const room = sse.write(batch.map(namedEvent).join(''));
    if (room !== undefined) await room;
    if (sse.isOver) return;
  }
  sse.end('');
}

const namedEvent = (event: ResponseEvent) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
