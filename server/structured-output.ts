// What a request says its answer must match -> the engine's grammar. OpenAI's response_format, vLLM's
// structured_outputs, and the guided_* fields that came before it.

import {
  type EngineApi,
  type Grammar,
  GrammarError,
  GrammarQueueFullError,
  type GrammarRequest,
} from '../engine/engine.ts';
import { ApiError } from './errors.ts';
import type { SamplingFields } from './schemas.ts';
import { shown } from './validation.ts';

/** A grammar and the field that asks for it. */
export interface WantedGrammar {
  request: GrammarRequest;
  field: string;
  /** Fields of the tags' schemas, where it is made of tools. */
  tagFields?: readonly string[];
}

type Fields = Readonly<Record<string, unknown>>;

/** Kinds of structured_outputs, and what each is for the engine. */
const kinds: ReadonlyArray<
  readonly [name: string, read: (value: unknown, field: string) => GrammarRequest | null]
> = [
  [
    'json',
    (value, field) => ({
      type: 'json_schema',
      schema: typeof value === 'string' ? parsed(value, field) : value,
    }),
  ],
  ['regex', (value, field) => ({ type: 'regex', pattern: textOf(value, field) })],
  ['choice', (value, field) => ({ type: 'choice', choices: choicesOf(value, field) })],
  ['grammar', (value, field) => ({ type: 'ebnf', grammar: textOf(value, field) })],
  ['json_object', (value, field) => (flagOf(value, field) ? { type: 'json_object' } : null)],
  [
    'structural_tag',
    (value, field) => ({
      type: 'structural_tag',
      tag: typeof value === 'string' ? parsed(value, field) : value,
    }),
  ],
];

/** Options of vLLM's that would change the white space, or the engine that makes the masks. */
const otherOptions = ['disable_any_whitespace', 'whitespace_pattern', 'disable_additional_properties'];

/** Throws when the request asks for two things at once, or for one that does not exist. */
export function wantedGrammar(body: SamplingFields): WantedGrammar | null {
  const fields = body as Fields;
  const wanted = [
    fromResponseFormat(fields.response_format),
    ...fromStructuredOutputs(fields),
    ...fromGuided(fields),
  ];
  const [first, second] = wanted.filter((one) => one !== null);
  if (second !== undefined) {
    throw new ApiError(
      'invalid_value',
      `${second.field}: found beside ${first.field}, allowed: one of them`,
      second.field,
    );
  }
  return first ?? null;
}

function fromResponseFormat(value: unknown): WantedGrammar | null {
  const field = 'response_format';
  if (value == null) return null;
  const { type, ...format } = value as Fields;
  switch (type) {
    case 'text':
      return null;
    case 'json_object':
      return { request: { type: 'json_object' }, field };
    case 'json_schema': {
      // Whether strict or not: what can be promised is kept in both cases.
      const at = `${field}.json_schema.schema`;
      const { schema } = (format.json_schema ?? {}) as Fields;
      if (schema == null) throw new ApiError('invalid_value', `${at} is missing, expected a JSON schema`, at);
      return { request: { type: 'json_schema', schema }, field: at };
    }
    case 'structural_tag':
      return { request: { type: 'structural_tag', tag: format }, field };
    default:
      throw new ApiError(
        'unsupported_value',
        `${field}.type: found ${shown(type)}, supported: "text", "json_object", "json_schema", "structural_tag"`,
        `${field}.type`,
      );
  }
}

function fromStructuredOutputs({ structured_outputs: value }: Fields): Array<WantedGrammar | null> {
  if (value == null) return [];
  const outputs = value as Fields;
  const other = otherOptions.find((name) => outputs[name] != null && outputs[name] !== false);
  if (other !== undefined) {
    const at = `structured_outputs.${other}`;
    throw new ApiError(
      'unsupported_value',
      `${at}: found ${shown(outputs[other])}, supported: requests without it`,
      at,
    );
  }
  const found = kinds.filter(([name]) => outputs[name] != null);
  if (found.length === 0) {
    const allowed = kinds.map(([name]) => name).join(', ');
    throw new ApiError(
      'invalid_value',
      `structured_outputs: found ${shown(value)}, allowed: one of ${allowed}`,
      'structured_outputs',
    );
  }
  return found.map(([name, read]) => wantedOf(`structured_outputs.${name}`, outputs[name], read));
}

function fromGuided(fields: Fields): Array<WantedGrammar | null> {
  return kinds
    .map(([name, read]) => [`guided_${name}`, read] as const)
    .filter(([field]) => fields[field] != null)
    .map(([field, read]) => wantedOf(field, fields[field], read));
}

function wantedOf(field: string, value: unknown, read: (typeof kinds)[number][1]): WantedGrammar | null {
  const request = read(value, field);
  return request === null ? null : { request, field };
}

function parsed(text: string, field: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError('invalid_value', `${field}: found ${shown(text)}, allowed: JSON, or an object`, field);
  }
}

function textOf(value: unknown, field: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw new ApiError('invalid_value', `${field}: found ${shown(value)}, allowed: a string with text`, field);
}

function flagOf(value: unknown, field: string): boolean {
  if (typeof value === 'boolean') return value;
  throw new ApiError('invalid_value', `${field}: found ${shown(value)}, allowed: true or false`, field);
}

function choicesOf(value: unknown, field: string): string[] {
  const isList =
    Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'string' && one !== '');
  if (isList) return value;
  throw new ApiError(
    'invalid_value',
    `${field}: found ${shown(value)}, allowed: a list of strings with text`,
    field,
  );
}

/** A list of tokens and a grammar could leave nothing that may be said. */
export function checkAllowedTokens(body: SamplingFields, wanted: WantedGrammar | null): void {
  if (wanted === null || body.allowed_token_ids == null) return;
  const field = 'allowed_token_ids';
  throw new ApiError(
    'unsupported_value',
    `${field}: found beside ${wanted.field}, supported: one of them`,
    field,
  );
}

/** The grammar holds the answer from its first token on, so that it has no reasoning. */
export function holdsFromStart({ request }: WantedGrammar): boolean {
  if (request.type !== 'structural_tag') return true;
  const { format } = request.tag as { format?: { type?: unknown } };
  return format !== undefined && format.type !== 'triggered_tags';
}

/** Compiles it, or throws why it cannot be. */
export async function compileGrammar(
  engine: EngineApi,
  wanted: WantedGrammar | null,
): Promise<Grammar | null> {
  if (wanted === null) return null;
  try {
    return await engine.compileGrammar(wanted.request);
  } catch (error) {
    if (error instanceof GrammarQueueFullError) throw new ApiError('queue_full', error.message);
    if (!(error instanceof GrammarError)) throw error;
    throw fromGrammarError(error, wanted);
  }
}

/** "schema.properties.a: ..." says where in the field, "format.tags.1.content: schema...", in which tool. */
function fromGrammarError({ message }: GrammarError, { field, tagFields }: WantedGrammar): ApiError {
  const [prefix = '', element, tag] =
    /^format\.(?:elements\.([01])\.)?tags\.(\d+)\.content: /.exec(message) ?? [];
  // Beside tools, element 0 is the wanted format itself.
  const isTool = tag !== undefined && element !== '0';
  const at = (isTool && tagFields?.[Number(tag)]) || field;
  const rest = message.slice(tagFields === undefined ? 0 : prefix.length);
  const text = /^schema\b/.test(rest) ? rest.slice('schema'.length) : `: ${rest}`;
  return new ApiError('invalid_value', at + text, at);
}
