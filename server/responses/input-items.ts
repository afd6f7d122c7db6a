// The items of a conversation: what clients send, in the form in which it is stored and sent back.

import { randomBytes } from 'node:crypto';
import { ApiError } from '../errors.ts';
import { shown } from '../validation.ts';
import type { InputItemField, ResponseRequest } from './schemas.ts';

export type ItemStatus = 'in_progress' | 'completed' | 'incomplete';

export interface TextPart {
  type: 'input_text' | 'output_text' | 'reasoning_text' | 'summary_text';
  text: string;
  annotations?: object[];
  logprobs?: object[];
}

export interface RefusalPart {
  type: 'refusal';
  refusal: string;
}

export interface MessageItem {
  id: string;
  type: 'message';
  status: ItemStatus;
  role: 'user' | 'assistant' | 'system' | 'developer';
  content: Array<TextPart | RefusalPart>;
}

export interface ReasoningItem {
  id: string;
  type: 'reasoning';
  status: ItemStatus;
  summary: TextPart[];
  content: TextPart[];
}

export interface CallItem {
  id: string;
  type: 'function_call';
  status: ItemStatus;
  call_id: string;
  name: string;
  arguments: string;
}

export interface CallOutputItem {
  id: string;
  type: 'function_call_output';
  status: ItemStatus;
  call_id: string;
  output: string | TextPart[];
}

export type Item = MessageItem | ReasoningItem | CallItem | CallOutputItem;
export type OutputItem = MessageItem | ReasoningItem | CallItem;

const idPrefixes = {
  message: 'msg',
  reasoning: 'rs',
  function_call: 'fc',
  function_call_output: 'fco',
} as const satisfies Record<Item['type'], string>;

export const newItemId = (type: Item['type']) => `${idPrefixes[type]}_${randomBytes(20).toString('hex')}`;

/** Finds an item that the client stored before; null when there is none. */
export type FindItem = (id: string) => Item | null;

/** The items of a request. Throws ApiError naming the field that is none of them. */
export function readInput(input: ResponseRequest['input'], findItem: FindItem): Item[] {
  if (typeof input === 'string') return [userMessage(input)];
  return input.map((item, i) => readItem(item, `input.${i}`, findItem));
}

function userMessage(text: string): MessageItem {
  return {
    id: newItemId('message'),
    type: 'message',
    status: 'completed',
    role: 'user',
    content: [{ type: 'input_text', text }],
  };
}

/** One item; `field` names it in errors. */
export function readItem(item: InputItemField, field: string, findItem: FindItem): Item {
  const type = item.type ?? 'message';
  const idOf = (kind: Item['type']) => item.id ?? newItemId(kind);
  const status = item.status ?? 'completed';
  switch (type) {
    case 'message': {
      const role = needed(item.role, `${field}.role`, '"user", "assistant", "system", "developer"');
      const content = needed(item.content, `${field}.content`, 'a string or a list of text parts');
      return { id: idOf(type), type, status, role, content: messageParts(content, role, `${field}.content`) };
    }
    case 'function_call':
      return {
        id: idOf(type),
        type,
        status,
        call_id: needed(item.call_id, `${field}.call_id`, 'a string'),
        name: needed(item.name, `${field}.name`, 'a string'),
        arguments: checkedArguments(item.arguments, `${field}.arguments`),
      };
    case 'function_call_output': {
      const output = needed(item.output, `${field}.output`, 'a string or a list of input_text parts');
      const callId = needed(item.call_id, `${field}.call_id`, 'a string');
      return { id: idOf(type), type, status, call_id: callId, output: outputOf(output, `${field}.output`) };
    }
    case 'reasoning': {
      const content = typeof item.content === 'string' ? [] : (item.content ?? []);
      return {
        id: idOf(type),
        type,
        status,
        summary: textParts(item.summary ?? [], 'summary_text', `${field}.summary`),
        content: textParts(content, 'reasoning_text', `${field}.content`),
      };
    }
    case 'item_reference':
      return referenced(needed(item.id, `${field}.id`, 'the id of a stored item'), field, findItem);
    default:
      throw new ApiError(
        'unsupported_value',
        `${field}.type: found ${shown(type)}, supported: "message", "function_call", "function_call_output", "reasoning", "item_reference"`,
        `${field}.type`,
      );
  }
}

function needed<T>(value: T | null | undefined, field: string, allowed: string): T {
  if (value != null) return value;
  throw new ApiError('invalid_value', `${field} is missing, expected ${allowed}`, field);
}

function referenced(id: string, field: string, findItem: FindItem): Item {
  const item = findItem(id);
  if (item !== null) return item;
  throw new ApiError(
    'invalid_value',
    `${field}.id: found ${shown(id)}, allowed: an item that is stored`,
    `${field}.id`,
  );
}

/** What a template would refuse later, and under another name. */
function checkedArguments(text: string | null | undefined, field: string): string {
  const given = needed(text, field, 'a JSON object as text');
  if (isCallArguments(given)) return given;
  throw new ApiError(
    'invalid_value',
    `${field}: found ${shown(given)}, allowed: a JSON object as text`,
    field,
  );
}

export function isCallArguments(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text === '' ? '{}' : text);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

type Parts = Exclude<NonNullable<InputItemField['content']>, string>;

function messageParts(
  content: string | Parts,
  role: MessageItem['role'],
  field: string,
): MessageItem['content'] {
  const type = role === 'assistant' ? 'output_text' : 'input_text';
  const written = (text: string): TextPart =>
    role === 'assistant' ? { type, text, annotations: [] } : { type, text };
  if (typeof content === 'string') return [written(content)];
  return content.map((part, i) => {
    if (part.type === 'refusal' && part.refusal != null) return { type: 'refusal', refusal: part.refusal };
    return written(textOf(part, `${field}.${i}`, ['input_text', 'output_text', 'text']));
  });
}

function outputOf(output: string | Parts, field: string): CallOutputItem['output'] {
  return typeof output === 'string' ? output : textParts(output, 'input_text', field);
}

function textParts(parts: Parts, type: TextPart['type'], field: string): TextPart[] {
  return parts.map((part, i) => ({ type, text: textOf(part, `${field}.${i}`, [type, 'text']) }));
}

function textOf(part: Parts[number], field: string, types: readonly string[]): string {
  if (types.includes(part.type) && part.text != null) return part.text;
  const found = types.includes(part.type) ? 'a text part without text' : `a part of type ${shown(part.type)}`;
  throw new ApiError(
    'unsupported_value',
    `${field}: found ${found}, supported: text (${types.join(', ')})`,
    field,
  );
}
