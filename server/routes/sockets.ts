// The routes that become WebSockets. What comes after the upgrade is in server/websocket/.

import type { FastifyInstance, FastifyRequest } from 'fastify';
import { checkOrigin } from '../auth.ts';
import { admit, type Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import type { Responses } from '../responses/responses.ts';
import type { JsonSocket } from '../websocket/json-socket.ts';
import { type RealtimeQuery, realtimeQuery } from '../websocket/realtime-schemas.ts';
import { RealtimeSession } from '../websocket/realtime-session.ts';
import { ResponseSocket, type SocketOwner } from '../websocket/response-socket.ts';
import type { Sockets } from '../websocket/sockets.ts';

const ownerOf = ({ id, owner, keySalt }: FastifyRequest): SocketOwner => ({ id, owner, keySalt });

export function socketRoutes(
  app: FastifyInstance,
  context: Context,
  responses: Responses,
  sockets: Sockets,
): void {
  const { allowedOrigins, bodyLimitBytes } = context.options;
  const onRequest = async (request: FastifyRequest) => {
    checkOrigin(request, allowedOrigins);
    if (request.ws) sockets.admit(request.owner);
  };
  const handler = async ({ method, routeOptions }: FastifyRequest) => {
    throw new ApiError(
      'upgrade_required',
      `${method} ${routeOptions.url} is a WebSocket: ask for an upgrade`,
    );
  };

  app.route({
    method: 'GET',
    url: '/v1/responses',
    onRequest,
    handler,
    wsHandler: (socket, request) => {
      const conversation = (json: JsonSocket) => new ResponseSocket(json, responses, ownerOf(request));
      sockets.open(socket, request.owner, request.log, conversation);
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/realtime',
    schema: { querystring: realtimeQuery },
    onRequest,
    // Before the upgrade, so that an unknown model is a 404 and not a socket that closes.
    preHandler: async ({ query }) => {
      admit(context, (query as RealtimeQuery).model);
    },
    handler,
    wsHandler: (socket, request) => {
      const { model } = admit(context, (request.query as RealtimeQuery).model);
      const options = { owner: ownerOf(request), model, maxConversationBytes: bodyLimitBytes };
      const conversation = (json: JsonSocket) => new RealtimeSession(json, responses, options);
      sockets.open(socket, request.owner, request.log, conversation);
    },
  });
}
