// Grammars that make an answer call tools: structural tags in the model's own format of calls, with the
// arguments by each function's schema.

import { toolNamed, usedTools } from '../chat-tools.ts';
import { ApiError } from '../errors.ts';
import type { ChatRequest } from '../schemas.ts';
import type { WantedGrammar } from '../structured-output.ts';
import { shown } from '../validation.ts';

type Tool = NonNullable<ChatRequest['tools']>[number];

/** What stands around the arguments of a call, and between two calls. */
interface CallFormat {
  /** What every call begins with, and no other text. */
  trigger: string;
  begin(name: string): string;
  end: string;
  separator: string;
}

const named = (name: string, key = 'arguments') => `{"name": ${JSON.stringify(name)}, "${key}": `;

/** Between tags: Hermes and Qwen; Granite and Qwen3-Coder read it as well. */
const tagged: CallFormat = {
  trigger: '<tool_call>',
  begin: (name) => `<tool_call>\n${named(name)}`,
  end: '}\n</tool_call>',
  separator: '\n',
};

/**
 * By the names of parsers (server/answer/tool-formats.ts), which read what is made here. Python's calls have no
 * JSON, and in harmony a call is a message of its own: both are left to the model.
 */
export const callFormats: Readonly<Record<string, CallFormat>> = {
  hermes: tagged,
  granite: tagged,
  granite4: tagged,
  qwen3_coder: tagged,
  qwen3_xml: tagged,
  llama3_json: {
    trigger: '{"name": ',
    begin: (name) => named(name, 'parameters'),
    end: '}',
    separator: '; ',
  },
  mistral: {
    trigger: '[TOOL_CALLS]',
    begin: (name) => `[TOOL_CALLS][${named(name)}`,
    end: '}]',
    separator: '\n',
  },
  phi4_mini_json: {
    trigger: 'functools[',
    begin: (name) => `functools[${named(name)}`,
    end: '}]',
    separator: '\n',
  },
  deepseek_v3: {
    trigger: '<｜tool▁calls▁begin｜>',
    begin: (name) => `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>${name}\n\`\`\`json\n`,
    end: '\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    separator: '\n',
  },
};

/** null is what the model does when nothing is said: calls as it likes. */
type ToolChoice = 'none' | 'auto' | 'required' | { name: string };

export function toolChoiceOf({ tool_choice: choice, tools }: ChatRequest): ToolChoice {
  const hasTools = tools != null && tools.length > 0;
  if (choice == null || choice === 'auto') return hasTools ? 'auto' : 'none';
  if (choice === 'none') return 'none';
  if (!hasTools)
    throw new ApiError(
      'invalid_value',
      `tool_choice: found ${shown(choice)}, allowed: with tools`,
      'tool_choice',
    );
  if (choice === 'required') return 'required';
  if (choice.type === 'allowed_tools') return choice.allowed_tools.mode ?? 'auto';
  return { name: toolNamed(tools, choice.function.name, 'tool_choice.function.name').function.name };
}

/**
 * The grammar of an answer with tools: calls alone where they are forced, and what `wanted` asks for or
 * calls otherwise. Null when nothing holds the answer. `formatName`: of the model's format of calls, null
 * for none known.
 */
export function toolGrammar(
  body: ChatRequest,
  formatName: string | null,
  wanted: WantedGrammar | null,
): WantedGrammar | null {
  const choice = toolChoiceOf(body);
  if (choice === 'none') return wanted;
  const tools = usedTools(body);
  const isForced = choice !== 'auto';
  const isStrict = tools.some((tool) => tool.function.strict === true);
  const callFormat =
    formatName !== null && Object.hasOwn(callFormats, formatName) ? callFormats[formatName] : null;
  if (callFormat === null) {
    if (!isForced) return wanted;
    throw new ApiError(
      'unsupported_value',
      `tool_choice: found ${shown(body.tool_choice)}, supported with this chat template: "auto" and "none"`,
      'tool_choice',
    );
  }
  const stopsAfterFirst = body.parallel_tool_calls === false || typeof choice === 'object';
  const called = tools.filter(({ function: { name } }) => typeof choice !== 'object' || choice.name === name);
  const tags = called.map((tool) => tagOf(tool, callFormat, isForced));
  const names = (body.tools ?? []).map((tool) => tool.function.name);
  const tagFields = called.map((tool) => `tools.${names.indexOf(tool.function.name)}.function.parameters`);
  const calls = {
    type: 'tags_with_separator',
    tags,
    separator: callFormat.separator,
    at_least_one: true,
    stop_after_first: stopsAfterFirst,
  };
  if (isForced) {
    if (wanted === null) return structuralTag(calls, tagFields);
    throw new ApiError(
      'unsupported_value',
      `${wanted.field}: found beside tool_choice ${shown(body.tool_choice)}, supported: tool_choice "auto" or "none"`,
      wanted.field,
    );
  }
  if (wanted !== null) return { ...wanted, request: orCalls(wanted, calls), tagFields };
  if (!isStrict) return null;
  const { trigger } = callFormat;
  const format = { type: 'triggered_tags', triggers: [trigger], tags, stop_after_first: stopsAfterFirst };
  return structuralTag(format, tagFields);
}

function structuralTag(format: object, tagFields: readonly string[]): WantedGrammar {
  return { request: { type: 'structural_tag', tag: { format } }, field: 'tools', tagFields };
}

/**
 * Arguments are held to the schema where calls are forced or the function is strict, else to be an object.
 * `{}` as parameters says nothing of them.
 */
function tagOf(
  { function: { name, parameters, strict } }: Tool,
  { begin, end }: CallFormat,
  isForced: boolean,
): object {
  const isHeld = isForced || strict === true;
  const schema =
    isHeld && parameters != null && Object.keys(parameters).length > 0 ? parameters : { type: 'object' };
  return { type: 'tag', begin: begin(name), content: { type: 'json_schema', json_schema: schema }, end };
}

/** The answer in the wanted form, or calls instead of it. */
function orCalls({ request, field }: WantedGrammar, calls: object): WantedGrammar['request'] {
  // In the dress of a tag: xgrammar offers a choice only between formats of one kind.
  const alone = (content: object) => ({
    ...calls,
    tags: [{ type: 'tag', begin: '', content, end: '' }],
    stop_after_first: true,
  });
  const or = (format: object) =>
    ({ type: 'structural_tag', tag: { format: { type: 'or', elements: [alone(format), calls] } } }) as const;
  switch (request.type) {
    case 'json_schema':
      return or({ type: 'json_schema', json_schema: request.schema });
    case 'json_object':
      return or({ type: 'json_schema', json_schema: { type: 'object' } });
    case 'regex':
      return or({ type: 'regex', pattern: request.pattern });
    case 'choice':
      return or({ type: 'json_schema', json_schema: { enum: request.choices } });
    case 'ebnf':
      return or({ type: 'grammar', grammar: request.grammar });
    case 'structural_tag':
      throw new ApiError(
        'unsupported_value',
        `${field}: found beside tools, supported: without tools`,
        field,
      );
  }
}
