// Why a request does not run: it never can, or no request can any more.

/**
 * The client's error: the request can never run. `param` is the offending field in SamplingParams or
 * `prompt`.
 */
export class RequestError extends Error {
  override name = 'RequestError';
  readonly param: string;
  /** `context_length_exceeded` for prompts that are too long, else `invalid_value`. */
  readonly code: string;
  constructor(message: string, param: string, code = 'invalid_value') {
    super(message);
    this.param = param;
    this.code = code;
  }
}

/** The request was ended by Engine.abort before it had an answer. */
export class AbortedError extends Error {
  override name = 'AbortedError';
}

/** The engine was closed or has died: no request can run. */
export class EngineEndedError extends Error {
  override name = 'EngineEndedError';
}
