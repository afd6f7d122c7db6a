// xgrammar's structural tags (https://xgrammar.mlc.ai/docs/tutorials/structural_tag.html), checked field by
// field, with our grammars of schemas and regular expressions in place of its own.

import { GrammarError, shown, within } from './grammar-error.ts';
import { jsonSchemaToEbnf } from './json-schema.ts';
import { regexGrammar } from './regex.ts';
import { isObject } from './schema-pointers.ts';

type Fields = Readonly<Record<string, unknown>>;

const maxDepth = 50;

/** Throws GrammarError naming the field. */
export function toStructuralTag(tag: unknown): object {
  if (!isObject(tag)) throw new GrammarError(`found ${shown(tag)}, allowed: an object with "format"`);
  const format = tag.format ?? (tag.structures === undefined ? undefined : olderFormat(tag));
  if (format === undefined) throw new GrammarError('the field "format" is missing');
  return { type: 'structural_tag', format: toFormat(format, 'format', 0) };
}

/** `structures` and `triggers`, as they were written first. */
function olderFormat({ structures, triggers }: Fields): object {
  const tags = list(structures, 'structures').map((structure, i) => {
    if (!isObject(structure))
      throw new GrammarError(`structures.${i}: found ${shown(structure)}, allowed: an object`);
    const content = { type: 'json_schema', json_schema: structure.schema ?? true };
    return { type: 'tag', begin: structure.begin, content, end: structure.end };
  });
  return { type: 'triggered_tags', triggers, tags };
}

function toFormat(format: unknown, path: string, depth: number): object {
  if (depth > maxDepth) throw new GrammarError(`${path}: nested more than ${maxDepth} deep`);
  if (!isObject(format))
    throw new GrammarError(`${path}: found ${shown(format)}, allowed: a format, an object`);
  const writer = Object.hasOwn(writers, String(format.type)) ? writers[String(format.type)] : undefined;
  if (writer === undefined) {
    throw new GrammarError(
      `${path}.type: found ${shown(format.type)}, allowed: ${Object.keys(writers).join(', ')}`,
    );
  }
  const inner = (value: unknown, place: string) => toFormat(value, `${path}.${place}`, depth + 1);
  return { type: format.type, ...writer(format, path, inner) };
}

type Inner = (value: unknown, place: string) => object;

/** What each kind of format holds. */
const writers: Readonly<Record<string, (format: Fields, path: string, inner: Inner) => object>> = {
  any_text: () => ({}),
  const_string: ({ value }, path) => ({ value: text(value, `${path}.value`, 1) }),
  grammar: ({ grammar }, path) => ({ grammar: text(grammar, `${path}.grammar`, 1) }),
  json_schema: ({ json_schema: schema }, path) => ({
    type: 'grammar',
    grammar: within(path, () => jsonSchemaToEbnf(schema)),
  }),
  regex: ({ pattern }, path) => ({
    type: 'grammar',
    grammar: regexGrammar(text(pattern, `${path}.pattern`, 1)),
  }),
  qwen_xml_parameter: ({ json_schema: schema }, path) => {
    if (!isObject(schema))
      throw new GrammarError(`${path}.json_schema: found ${shown(schema)}, allowed: an object`);
    // xgrammar writes this one itself; what it would pass over in the schema is refused here.
    jsonSchemaToEbnf(schema);
    return { json_schema: schema };
  },
  sequence: ({ elements }, path, inner) => ({
    elements: list(elements, `${path}.elements`).map((one, i) => inner(one, `elements.${i}`)),
  }),
  or: ({ elements }, path, inner) => ({
    elements: list(elements, `${path}.elements`).map((one, i) => inner(one, `elements.${i}`)),
  }),
  tag: ({ begin, content, end }, path, inner) => ({
    begin: text(begin, `${path}.begin`, 0),
    content: inner(content, 'content'),
    end: text(end, `${path}.end`, 0),
  }),
  triggered_tags: ({ triggers, tags, ...flags }, path, inner) => ({
    triggers: list(triggers, `${path}.triggers`).map((one) => text(one, `${path}.triggers`, 1)),
    tags: list(tags, `${path}.tags`).map((one, i) => inner(one, `tags.${i}`)),
    ...repetition(flags),
  }),
  tags_with_separator: ({ tags, separator, ...flags }, path, inner) => ({
    tags: list(tags, `${path}.tags`).map((one, i) => inner(one, `tags.${i}`)),
    separator: text(separator, `${path}.separator`, 1),
    ...repetition(flags),
  }),
};

function repetition({ at_least_one: atLeastOne, stop_after_first: stopAfterFirst }: Fields): object {
  return { at_least_one: atLeastOne === true, stop_after_first: stopAfterFirst === true };
}

function list(value: unknown, path: string): unknown[] {
  if (Array.isArray(value) && value.length > 0) return value;
  throw new GrammarError(`${path}: found ${shown(value)}, allowed: a list that is not empty`);
}

function text(value: unknown, path: string, minLength: 0 | 1): string {
  if (typeof value === 'string' && value.length >= minLength) return value;
  throw new GrammarError(
    `${path}: found ${shown(value)}, allowed: a string${minLength === 1 ? ' with text' : ''}`,
  );
}
