// Connections: how many and how long, which may become WebSockets, and what is answered where Node finds no
// request that a route could be given.

import { IncomingMessage, STATUS_CODES } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { nowMs } from '../engine/clock.ts';
import { ApiError } from './errors.ts';

/** For a file of --max-file-size on a slow line. */
export const uploadTimeoutMs = 600_000;

/**
 * Asks for an upgrade only where a WebSocket is wanted. Once anyone listens for upgrades, Node gives them
 * every request that has the header, without its body. Java's client sends `Upgrade: h2c` with its first
 * request by default, and has to be answered over HTTP/1.1, as RFC 9110 (7.8) has it.
 */
export class Incoming extends IncomingMessage {
  declare isUpgrade: boolean | null;

  /** Assigned by Node's parser. */
  set upgrade(isUpgrade: boolean | null) {
    this.isUpgrade = isUpgrade;
  }

  get upgrade(): boolean {
    if (this.isUpgrade !== true) return false;
    return this.method === 'CONNECT' || this.headers.upgrade?.toLowerCase() === 'websocket';
  }
}

function parserError({ code }: NodeJS.ErrnoException): ApiError {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new ApiError('request_timeout', 'the request did not come to its end in time');
    case 'HPE_HEADER_OVERFLOW':
      return new ApiError('headers_too_large', 'the headers are larger than 16 KiB together');
    default:
      return new ApiError('malformed_request', 'what was sent is no HTTP/1.1 request');
  }
}

/** There is no reply to send it with, and nothing else that could be read from this connection. */
export function answerParserError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  writeError(socket, parserError(error));
}

export function writeError(socket: Duplex, error: ApiError): void {
  const body = JSON.stringify(error.body);
  const head = [
    `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}`,
    'connection: close',
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
}

/** Node has one limit for all of a server's requests, and uploads need a longer one than other bodies. */
export function limitBodyTime(app: FastifyInstance, limitMs: number): void {
  app.addHook('onRequest', async ({ raw, routeOptions }) => {
    // A request that is injected has no socket.
    if (routeOptions.config.isUpload === true || !(raw.socket instanceof Socket)) return;
    const timer = setTimeout(() => {
      const late = Object.assign(new Error('Request timeout'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' });
      if (!raw.complete) app.server.emit('clientError', late, raw.socket);
    }, limitMs).unref();
    raw.once('close', () => clearTimeout(timer));
  });
}

/** Node closes those that are too many without a word; the log has one a minute. */
export function limitConnections(app: FastifyInstance, limit: number): void {
  app.server.maxConnections = limit;
  let silentUntilMs = 0;
  app.server.on('drop', () => {
    if (nowMs() < silentUntilMs) return;
    silentUntilMs = nowMs() + 60_000;
    app.log.warn(`connections are refused: ${limit} are open (--max-connections)`);
  });
}

/** Node takes those that never said anything for requests on their way, and would wait for them. */
export function closeSilent(app: FastifyInstance): void {
  const open = new Set<Socket>();
  app.server.on('connection', (socket: Socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  app.addHook('preClose', async () => {
    for (const socket of open) if (socket.bytesRead === 0) socket.destroy();
  });
}
