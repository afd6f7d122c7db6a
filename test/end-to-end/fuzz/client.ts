// Sends one drawn request over a socket, and reads its answer to the end, or leaves.

import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import type { FuzzRequest } from './requests.ts';

export interface FuzzAnswer {
  status: number;
  headers: IncomingMessage['headers'];
  body: string;
}

/** An answer takes milliseconds here; what takes this long hangs. */
const limitMs = 20_000;

export class FuzzClient {
  readonly #base: URL;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 64 });

  constructor(url: string) {
    this.#base = new URL(url);
  }

  /** Null when the client has left. */
  send({ method, url, headers, body, leavesAfterMs }: FuzzRequest): Promise<FuzzAnswer | null> {
    return new Promise((resolve, reject) => {
      const { hostname, port } = this.#base;
      const length = body === null ? {} : { 'content-length': String(body.length) };
      const sent = httpRequest({
        hostname,
        port,
        method,
        path: url,
        agent: this.#agent,
        headers: { ...headers, ...length },
      });
      const limit = setTimeout(
        () => sent.destroy(new Error(`no whole answer within ${limitMs} ms`)),
        limitMs,
      );
      let hasLeft = false;
      const leave = () => {
        hasLeft = true;
        clearTimeout(limit);
        sent.destroy();
        resolve(null);
      };
      if (leavesAfterMs !== null) setTimeout(leave, leavesAfterMs);
      const fail = (error: Error) => {
        clearTimeout(limit);
        if (!hasLeft) reject(error);
      };
      sent.on('error', fail);
      sent.on('response', (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk) => chunks.push(chunk));
        answer.on('error', fail);
        answer.on('end', () => {
          clearTimeout(limit);
          const { statusCode: status = 0, headers: answered } = answer;
          resolve({ status, headers: answered, body: Buffer.concat(chunks).toString() });
        });
      });
      sent.end(body ?? undefined);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
