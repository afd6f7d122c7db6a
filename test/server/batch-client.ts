// /v1/files and /v1/batches of an application, as a test speaks to them.

import type { FastifyInstance } from 'fastify';

export interface BatchLineAnswer {
  id: string;
  custom_id: string;
  response: { status_code: number; request_id: string; body: Record<string, never> } | null;
  error: { code: string; message: string } | null;
}

const boundary = 'test-boundary';

/** A form with one file, and fields before and after it. */
export function form(
  content: string | Buffer,
  after: Record<string, string> = { purpose: 'batch' },
  before: Record<string, string> = {},
  filename = 'input.jsonl',
) {
  const field = ([name, value]: [string, string]) =>
    `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
  const file = `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${filename}"\r\nContent-Type: application/octet-stream\r\n\r\n`;
  return {
    method: 'POST',
    url: '/v1/files',
    headers: { 'content-type': `multipart/form-data; boundary=${boundary}` } as Record<string, string>,
    payload: Buffer.concat([
      Buffer.from(Object.entries(before).map(field).join('') + file),
      Buffer.from(content),
      Buffer.from(`\r\n${Object.entries(after).map(field).join('')}--${boundary}--\r\n`),
    ]),
  } as const;
}

export const line = (customId: string, body: object = { prompt: customId }, more: object = {}) =>
  JSON.stringify({ custom_id: customId, method: 'POST', url: '/v1/completions', body, ...more });

export const lines = (count: number) => Array.from({ length: count }, (_, i) => line(`id-${i}`)).join('\n');

export class BatchClient {
  readonly #app: FastifyInstance;
  readonly #headers: Record<string, string>;

  constructor(app: FastifyInstance, headers: Record<string, string> = {}) {
    this.#app = app;
    this.#headers = headers;
  }

  async upload(
    content: string | Buffer,
    ...more: [Record<string, string>?, Record<string, string>?, string?]
  ) {
    const request = form(content, ...more);
    return this.#app.inject({ ...request, headers: { ...request.headers, ...this.#headers } });
  }

  async get(url: string) {
    return this.#app.inject({ url, headers: this.#headers });
  }

  async delete(url: string) {
    return this.#app.inject({ method: 'DELETE', url, headers: this.#headers });
  }

  async post(url: string, payload?: object) {
    return this.#app.inject({ method: 'POST', url, headers: this.#headers, payload });
  }

  /** Uploads and creates. */
  async batch(content: string | Buffer, more: object = {}): Promise<string> {
    const { id } = (await this.upload(content)).json();
    const created = await this.post('/v1/batches', {
      input_file_id: id,
      endpoint: '/v1/completions',
      completion_window: '24h',
      ...more,
    });
    if (created.statusCode !== 200) throw new Error(created.body);
    return created.json().id;
  }

  async until(id: string, ...statuses: string[]) {
    for (const end = Date.now() + 30_000; Date.now() < end; ) {
      const batch = (await this.get(`/v1/batches/${id}`)).json();
      if (statuses.includes(batch.status)) return batch;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error(`${id} is not ${statuses.join(' or ')} after 30 s`);
  }

  async ended(id: string) {
    return this.until(id, 'completed', 'failed', 'expired', 'cancelled');
  }

  /** The lines of a file; none for null. */
  async answers(fileId: string | null): Promise<BatchLineAnswer[]> {
    if (fileId === null) return [];
    const { body } = await this.get(`/v1/files/${fileId}/content`);
    return body
      .split('\n')
      .filter((text) => text !== '')
      .map((text) => JSON.parse(text));
  }
}
