// The tools of a request, whichever way it names them.

import type { ToolFormat } from './answer/tool-formats.ts';
import { ApiError } from './errors.ts';
import { checkNesting } from './nesting.ts';
import type { ChatRequest, MessageField, ToolField } from './schemas.ts';
import { shown } from './validation.ts';

/** What a function takes that names no parameters: none, as OpenAI has it. */
const noParameters = { type: 'object', properties: {} };

type ToolFields = Pick<ChatRequest, 'tools' | 'tool_choice'>;

/** The tools that the model may call, all with parameters, since templates go through them. */
export function usedTools({ tools: given, tool_choice: choice }: ToolFields): readonly ToolField[] {
  if (choice === 'none') return [];
  const tools = given ?? [];
  const allowed = allowedTools(choice)?.tools.map(({ function: { name } }, i) =>
    toolNamed(tools, name, `tool_choice.allowed_tools.tools.${i}.function.name`),
  );
  return (allowed ?? tools).map((tool) => {
    const parameters = tool.function.parameters ?? noParameters;
    return { ...tool, function: { ...tool.function, parameters } };
  });
}

/** Of a choice that names several; null for another. */
function allowedTools(choice: ChatRequest['tool_choice']) {
  if (typeof choice !== 'object' || choice?.type !== 'allowed_tools') return null;
  return choice.allowed_tools;
}

/** Throws ApiError where there is none; `field` has the name. */
export function toolNamed(tools: readonly ToolField[], name: string, field: string): ToolField {
  const tool = tools.find(({ function: { name: known } }) => known === name);
  if (tool !== undefined) return tool;
  const names = tools.map(({ function: { name: known } }) => known).join(', ');
  throw new ApiError('invalid_value', `${field}: found ${shown(name)}, allowed: ${names || 'none'}`, field);
}

/** `functions` and `function_call`, OpenAI's older form, as tools and tool_choice. */
export function isLegacy({ functions }: ChatRequest): boolean {
  return functions != null && functions.length > 0;
}

export function withTools(body: ChatRequest): ChatRequest {
  const { functions, function_call: choice, ...rest } = body;
  if (functions == null || functions.length === 0) return body;
  if (body.tools != null && body.tools.length > 0) {
    throw new ApiError('invalid_value', 'functions: found beside tools, allowed: one of them', 'functions');
  }
  return {
    ...rest,
    tools: functions.map((one) => ({ type: 'function', function: one })),
    tool_choice:
      typeof choice === 'object' && choice !== null ? { type: 'function', function: choice } : choice,
  };
}

/**
 * Calls and results of messages in the form that templates know: tool_calls with arguments as objects, and
 * ids as long as the model's own.
 */
export function templateCalls(message: MessageField, field: string, callIds: ToolFormat['callIds']): object {
  const idOf = callIds === 'short' ? shortened : (id: string) => id;
  const legacy = message.function_call;
  if (legacy != null) {
    const given = argumentsOf(legacy.arguments, `${field}.function_call.arguments`);
    const called = { name: legacy.name, arguments: given };
    return { tool_calls: [{ id: idOf(legacyId(legacy.name)), type: 'function', function: called }] };
  }
  if (message.role === 'function') return { role: 'tool', tool_call_id: idOf(legacyId(message.name ?? '')) };
  if (message.role === 'tool' && message.tool_call_id != null)
    return { tool_call_id: idOf(message.tool_call_id) };
  const calls = message.tool_calls ?? [];
  if (calls.length === 0) return {};
  return {
    tool_calls: calls.map((call, i) => {
      const given = argumentsOf(call.function.arguments, `${field}.tool_calls.${i}.function.arguments`);
      return { ...call, id: idOf(call.id), function: { ...call.function, arguments: given } };
    }),
  };
}

/** The older form has no ids; a call and its result meet by the function's name. */
const legacyId = (name: string) => `call_${name}`;

/** Nine letters and digits, the same for the same id: Mistral's templates refuse what clients make up. */
const shortened = (id: string) =>
  id
    .replace(/[^A-Za-z0-9]/g, '')
    .slice(-9)
    .padStart(9, '0');

function argumentsOf(text: string, field: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text === '' ? '{}' : text);
  } catch {
    value = null;
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    checkNesting(value, field);
    return value;
  }
  const found = JSON.stringify(text.slice(0, 60));
  throw new ApiError('invalid_value', `${field}: found ${found}, allowed: a JSON object as text`, field);
}
