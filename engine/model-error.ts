/**
 * A model that cannot be used as it is. The message is one line for the person at the terminal: what was
 * found, where, what is supported or what to do.
 */
export class ModelError extends Error {
  override name = 'ModelError';
}

const fullDisk: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/** The error of writing `out`; one line of its own when the disk has no room. */
export function writeError(error: unknown, out: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (!fullDisk.has(code)) return error;
  return new ModelError(`the disk has no room for ${out} (${code}): make some and run the command again`);
}
