// Calls written as JSON objects, {"name": ..., "arguments": {...}}: what most formats have between their
// marks.

import type { EventWriter } from './events.ts';
import type { Reading, TextInput } from './text-input.ts';

const argumentNames = ['arguments', 'parameters'];

/**
 * Reads a call after its opening brace. False when it is none; what was read is then the caller's to give
 * back.
 * `isMarked`: a mark says that this is a call. Without one it must name a tool and have arguments.
 */
export function* restOfObjectCall(input: TextInput, out: EventWriter, isMarked: boolean): Reading<boolean> {
  let name: string | null = null;
  let heldArguments: string | null = null;
  let isOpen = true;
  let hasBegun = false;
  while (isOpen) {
    yield* input.skipSpace();
    isOpen = !(yield* input.take('}'));
    const key = isOpen ? yield* fieldName(input) : null;
    if (key === null) break;
    const isArguments = argumentNames.includes(key) && !hasBegun;
    if (key === 'name' && name === null) {
      name = yield* input.jsonString();
      if (name === null || name === '' || !(isMarked || out.isTool(name))) return false;
    } else if (isArguments && name !== null) {
      hasBegun = true;
      yield* callWithArguments(input, out, name);
    } else {
      const value = yield* input.valueText();
      if (value === null) break;
      if (isArguments) heldArguments = value;
    }
    yield* input.skipSpace();
    yield* input.take(',');
  }
  if (hasBegun) return true;
  if (name === null || isOpen || (heldArguments === null && !isMarked)) return false;
  out.wholeCall(name, objectText(heldArguments ?? ''));
  return true;
}

/** `"name":` and the space after it; null when none stands here. */
function* fieldName(input: TextInput): Reading<string | null> {
  const key = yield* input.jsonString();
  yield* input.skipSpace();
  if (key === null || !(yield* input.take(':'))) return null;
  yield* input.skipSpace();
  return key;
}

export function* objectCall(input: TextInput, out: EventWriter, isMarked: boolean): Reading<boolean> {
  if (!(yield* input.take('{'))) return false;
  return yield* restOfObjectCall(input, out, isMarked);
}

/** A call whose name is known and whose arguments stand here; they come out as they come in. */
export function* callWithArguments(input: TextInput, out: EventWriter, name: string): Reading<void> {
  input.release();
  out.beginCall(name);
  const first = yield* input.peek();
  if (first === '"' || first === 'n') {
    const text = yield* input.valueText();
    if (text !== null) out.arguments(objectText(text));
  } else yield* input.value((text) => out.arguments(text));
  // Only the end of the answer leaves a call incomplete.
  if (!input.isCut) out.endCall();
}

/** Some models write the object into a string, or null where there are no arguments. */
function objectText(text: string): string {
  if (text === 'null') return '';
  if (!text.startsWith('"')) return text;
  try {
    const inner = JSON.parse(text) as string;
    return inner.trim() === '' ? '' : typeof JSON.parse(inner) === 'object' ? inner : text;
  } catch {
    return text;
  }
}

/**
 * Calls in a list, after its opening bracket. False when the first is none; what stands in the place of a
 * later
 * one comes out as content.
 */
export function* restOfListCalls(input: TextInput, out: EventWriter, isMarked: boolean): Reading<boolean> {
  for (let isFirst = true; ; isFirst = false) {
    yield* input.skipSpace();
    if (yield* input.take(']')) return !isFirst;
    const start = input.numRead;
    if (!isFirst) input.keepFrom(start);
    if (!(yield* objectCall(input, out, isMarked))) {
      if (!isFirst) out.content(input.since(start));
      return !isFirst;
    }
    yield* input.skipSpace();
    yield* input.take(',');
  }
}
