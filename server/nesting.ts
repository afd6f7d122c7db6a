// A limit on how deep JSON from clients may nest: what walks it by recursion (validation, templates, the way
// into worker threads) would otherwise run out of stack.

import { ApiError } from './errors.ts';

/** More than people's schemas have, and far less than a stack holds. */
export const maxNesting = 256;

/** Throws invalid_value when the value has more levels of objects and lists; `field` names it, null the body. */
export function checkNesting(value: unknown, field: string | null): void {
  let level = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > maxNesting) {
      throw new ApiError(
        'invalid_value',
        `${field ?? 'the body'}: found more than ${maxNesting} levels of nesting, allowed: ${maxNesting}`,
        field,
      );
    }
    const next: unknown[] = [];
    for (const container of level) {
      if (typeof container !== 'object' || container === null) continue;
      for (const inner of Array.isArray(container) ? container : Object.values(container)) {
        if (typeof inner === 'object' && inner !== null) next.push(inner);
      }
    }
    level = next;
  }
}
