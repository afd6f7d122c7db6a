// Every error a client can be answered with, in OpenAI's shape. docs/errors.md is this table for people; a
// test holds the two equal.

export const errorTable = {
  invalid_value: { status: 400, type: 'invalid_request_error', code: 'invalid_value' },
  unsupported_value: { status: 400, type: 'invalid_request_error', code: 'unsupported_value' },
  context_length_exceeded: { status: 400, type: 'invalid_request_error', code: 'context_length_exceeded' },
  invalid_prompt: { status: 400, type: 'invalid_request_error', code: 'invalid_prompt' },
  previous_response_not_found: {
    status: 400,
    type: 'invalid_request_error',
    code: 'previous_response_not_found',
  },
  malformed_request: { status: 400, type: 'invalid_request_error', code: 'malformed_request' },
  malformed_json: { status: 400, type: 'invalid_request_error', code: 'malformed_json' },
  invalid_api_key: { status: 401, type: 'authentication_error', code: 'invalid_api_key' },
  host_not_allowed: { status: 403, type: 'permission_error', code: 'host_not_allowed' },
  origin_not_allowed: { status: 403, type: 'permission_error', code: 'origin_not_allowed' },
  model_not_found: { status: 404, type: 'not_found_error', code: 'model_not_found' },
  response_not_found: { status: 404, type: 'not_found_error', code: 'response_not_found' },
  file_not_found: { status: 404, type: 'not_found_error', code: 'file_not_found' },
  batch_not_found: { status: 404, type: 'not_found_error', code: 'batch_not_found' },
  unknown_route: { status: 404, type: 'not_found_error', code: 'unknown_route' },
  method_not_allowed: { status: 405, type: 'invalid_request_error', code: 'method_not_allowed' },
  request_timeout: { status: 408, type: 'invalid_request_error', code: 'request_timeout' },
  conflict: { status: 409, type: 'invalid_request_error', code: 'conflict' },
  body_too_large: { status: 413, type: 'invalid_request_error', code: 'body_too_large' },
  unsupported_media_type: { status: 415, type: 'invalid_request_error', code: 'unsupported_media_type' },
  upgrade_required: { status: 426, type: 'invalid_request_error', code: 'upgrade_required' },
  queue_full: { status: 429, type: 'rate_limit_error', code: 'queue_full' },
  headers_too_large: { status: 431, type: 'invalid_request_error', code: 'headers_too_large' },
  internal_error: { status: 500, type: 'server_error', code: 'internal_error' },
  not_implemented: { status: 501, type: 'server_error', code: 'not_implemented' },
  too_many_websockets: { status: 503, type: 'server_error', code: 'too_many_websockets' },
  draining: { status: 503, type: 'server_error', code: 'draining' },
  engine_dead: { status: 503, type: 'server_error', code: 'engine_dead' },
  store_full: { status: 507, type: 'server_error', code: 'store_full' },
} as const;

export type ErrorName = keyof typeof errorTable;

/** Seconds after which a client refused for load may try again. */
const retryAfterSeconds: Partial<Record<ErrorName, number>> = {
  queue_full: 1,
  too_many_websockets: 10,
  draining: 10,
  engine_dead: 10,
};

export class ApiError extends Error {
  readonly errorName: ErrorName;
  /** The offending field, or null. */
  readonly param: string | null;

  constructor(errorName: ErrorName, message: string, param: string | null = null) {
    super(message);
    this.errorName = errorName;
    this.param = param;
  }

  get status(): number {
    return errorTable[this.errorName].status;
  }

  get retryAfter(): number | null {
    return retryAfterSeconds[this.errorName] ?? null;
  }

  get body(): { error: { message: string; type: string; param: string | null; code: string } } {
    const { type, code } = errorTable[this.errorName];
    return { error: { message: this.message, type, param: this.param, code } };
  }
}
