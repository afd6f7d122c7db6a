// One line of a batch's input: {"custom_id", "method": "POST", "url", "body"}, checked as far as it can be
// without running it.

import type { Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import { checkNesting } from '../nesting.ts';
import type { BatchError, BatchLine } from '../store/batches.ts';
import { checked, shown } from '../validation.ts';
import type { BatchEndpoint } from './endpoints.ts';
import type { InputLine } from './input-lines.ts';

const maxCustomIdLength = 512;

/** What is wrong with a line; `param` is the field of the line, or of its body as body.FIELD. */
class LineError extends Error {
  readonly code: string;
  readonly param: string | null;
  constructor(code: string, message: string, param: string | null = null) {
    super(message);
    this.code = code;
    this.param = param;
  }
}

export interface CheckedLine extends BatchLine {
  model: string;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The JSON object of a line. Throws SyntaxError or TypeError for what is none. */
export function parseLine(bytes: Buffer): Record<string, unknown> {
  const value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  if (!isObject(value)) throw new TypeError('it is no object');
  return value;
}

export class LineCheck {
  readonly #context: Context;
  readonly #endpoint: BatchEndpoint;
  readonly #lineOfId = new Map<string, number>();

  constructor(context: Context, endpoint: BatchEndpoint) {
    this.#context = context;
    this.#endpoint = endpoint;
  }

  /** The line as it is stored, or what is wrong with it. */
  check(line: InputLine): CheckedLine | BatchError {
    try {
      const fields = this.#parse(line);
      const custom_id = this.#customId(fields.custom_id, line.number);
      const { model, sequences } = this.#request(fields);
      return { line: line.number, custom_id, start: line.start, length: line.length, sequences, model };
    } catch (error) {
      if (!(error instanceof LineError)) throw error;
      const { code, message, param } = error;
      return { code, message: `line ${line.number}: ${message}`, line: line.number, param };
    }
  }

  #parse({ bytes }: InputLine): Record<string, unknown> {
    if (bytes === null) {
      const limit = this.#context.options.bodyLimitBytes;
      throw new LineError('line_too_long', `it is longer than ${limit} bytes (--body-limit)`);
    }
    try {
      return parseLine(bytes);
    } catch (error) {
      throw new LineError('invalid_json_line', `it is not a JSON object: ${shown((error as Error).message)}`);
    }
  }

  #customId(id: unknown, line: number): string {
    if (id === undefined) {
      throw new LineError('missing_required_parameter', 'custom_id is missing', 'custom_id');
    }
    if (typeof id !== 'string' || id.length < 1 || id.length > maxCustomIdLength) {
      const allowed = `a string of 1 to ${maxCustomIdLength} characters`;
      throw new LineError('invalid_value', `custom_id: found ${shown(id)}, allowed: ${allowed}`, 'custom_id');
    }
    const before = this.#lineOfId.get(id);
    if (before !== undefined) {
      const message = `custom_id: found ${shown(id)}, which is line ${before}'s already`;
      throw new LineError('duplicate_custom_id', message, 'custom_id');
    }
    this.#lineOfId.set(id, line);
    return id;
  }

  #request({ method, url, body }: Record<string, unknown>): { model: string; sequences: number } {
    const endpoint = this.#endpoint;
    if (method !== 'POST') {
      throw new LineError('invalid_method', `method: found ${shown(method)}, allowed: "POST"`, 'method');
    }
    if (url !== endpoint.url) {
      const message = `url: found ${shown(url)}, allowed: "${endpoint.url}", the batch's endpoint`;
      throw new LineError('invalid_url', message, 'url');
    }
    if (!isObject(body)) {
      throw new LineError(
        'missing_required_parameter',
        `body: found ${shown(body)}, allowed: an object`,
        'body',
      );
    }
    for (const name of endpoint.neverTrue.filter((field) => body[field] === true)) {
      const field = `body.${name}`;
      throw new LineError('invalid_value', `${field}: found true, allowed in a batch: false`, field);
    }
    try {
      checkNesting(body, null);
      const { model } = checked<{ model?: string | null }>(endpoint.validate, body);
      return {
        model: endpoint.findModel(this.#context, model).model,
        sequences: endpoint.numSequences(body, this.#context),
      };
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const { param, message, errorName } = error;
      throw new LineError(errorName, message, param === null ? 'body' : `body.${param}`);
    }
  }
}
