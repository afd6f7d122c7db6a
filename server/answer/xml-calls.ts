// Calls written as elements, <function=NAME><parameter=KEY>value</parameter></function>. Values are plain
// text;
// the tool's schema says what they are in JSON.

import type { EventWriter, ToolSchemas } from './events.ts';
import { pythonToJson } from './python-calls.ts';
import type { Reading, TextInput } from './text-input.ts';

const isNameCharacter = (character: string) => !/[<>\s]/.test(character);
/** What ends a value; those that only imply its end are left to be read again. */
const ends = [
  '\n</parameter>',
  '</parameter>',
  '\n<parameter=',
  '<parameter=',
  '\n</function>',
  '</function>',
];

/** Reads a call after `<function=`. False when there is no name. */
export function* readFunction(input: TextInput, out: EventWriter, tools: ToolSchemas): Reading<boolean> {
  const name = yield* input.takeWhile(isNameCharacter);
  if (name === '' || !(yield* input.take('>'))) return false;
  input.release();
  out.beginCall(name);
  const types = parameterTypes(tools.get(name) ?? {});
  let separator = '{';
  for (;;) {
    yield* input.skipSpace();
    const mark = yield* input.takeAny(['<parameter=', '</function>']);
    if (mark !== '<parameter=') {
      // Without its closing tag the call ends where something else begins, or stays incomplete with the text.
      if (mark === null && (yield* input.peek()) === '') return true;
      if (separator !== '{') out.arguments('}');
      out.endCall();
      return true;
    }
    const key = yield* input.takeWhile(isNameCharacter);
    if (!(yield* input.take('>'))) continue;
    out.arguments(`${separator}${JSON.stringify(key)}: `);
    separator = ', ';
    if (!(yield* readValue(input, out, types.get(key) ?? ['string']))) return true;
  }
}

/** False when the text ends before the value does. */
function* readValue(input: TextInput, out: EventWriter, types: readonly string[]): Reading<boolean> {
  yield* input.take('\n');
  const isText = types.every((type) => type === 'string');
  let text = '';
  if (isText) out.arguments('"');
  const end = yield* input.until(ends, (piece) => {
    if (isText) out.arguments(JSON.stringify(piece).slice(1, -1));
    else text += piece;
  });
  if (end === null) return false;
  out.arguments(isText ? '"' : asJson(text, types));
  if (!end.endsWith('</parameter>')) input.unread(end.length);
  return true;
}

/** Types of each parameter; absent where the schema has none. */
function parameterTypes(schema: Record<string, unknown>): Map<string, string[]> {
  const types = new Map<string, string[]>();
  const { properties } = schema;
  if (typeof properties !== 'object' || properties === null) return types;
  for (const [name, property] of Object.entries(properties)) {
    const own = typesOf(property);
    if (own.length > 0) types.set(name, own);
  }
  return types;
}

function typesOf(schema: unknown): string[] {
  if (typeof schema !== 'object' || schema === null) return [];
  const { type, anyOf, oneOf, enum: values } = schema as Record<string, unknown>;
  if (typeof type === 'string') return [type];
  if (Array.isArray(type)) return type.filter((entry) => typeof entry === 'string');
  const branches = Array.isArray(anyOf) ? anyOf : Array.isArray(oneOf) ? oneOf : [];
  if (branches.length > 0) return branches.flatMap(typesOf);
  if (Array.isArray(values)) return values.map((value) => (value === null ? 'null' : typeof value));
  // A reference or an empty schema: whatever the text is.
  return ['any', 'string'];
}

const readers: Record<string, (text: string) => string | null> = {
  null: (text) => (/^(null|none)$/i.test(text) ? 'null' : null),
  boolean: (text) => (/^(true|false)$/i.test(text) ? text.toLowerCase() : null),
  integer: (text) => (/^-?(0|[1-9]\d*)$/.test(text) ? text : null),
  number: (text) => (/^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(text) ? text : null),
  object: jsonOrPython,
  array: jsonOrPython,
  any: jsonOrPython,
};

/** The value in the first of its types that it has the form of; a string when it has none. */
function asJson(text: string, types: readonly string[]): string {
  const trimmed = text.trim();
  for (const type of types) {
    const value = readers[type]?.(trimmed) ?? null;
    if (value !== null) return value;
  }
  // Models write null for what they leave out, whatever the schema says.
  return readers.null(trimmed) ?? JSON.stringify(text);
}

function jsonOrPython(text: string): string | null {
  try {
    JSON.parse(text);
    return text;
  } catch {
    return pythonToJson(text);
  }
}
