/**
 * A model that cannot be used as it is. The message is one line for the person at the terminal: what was
 * found, where, what is supported or what to do.
 */
export class ModelError extends Error {
  override name = 'ModelError';
}
