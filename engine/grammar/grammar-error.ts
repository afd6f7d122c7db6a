/**
 * The client's error: a schema, regex or grammar that cannot be compiled. The message is for the client and
 * begins with the part that is at fault, where there is one.
 */
export class GrammarError extends Error {
  override name = 'GrammarError';
}

/** A value for an error message, cut to a length that helps. */
export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** Runs what may refuse, with the place before its words. */
export function within<T>(path: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (error instanceof GrammarError) throw new GrammarError(`${path}: ${error.message}`);
    throw error;
  }
}
