// A Messages request as the chat request that it means.

import { ApiError } from '../errors.ts';
import type { ChatRequest, MessageField, ToolField } from '../schemas.ts';
import { shown } from '../validation.ts';
import type { Block, MessageParam, MessagesRequest, PromptRequest, TextBlocks } from './schemas.ts';

/** `reasons`: the model does, so that a budget means something. */
export function toChatRequest(body: MessagesRequest, reasons: boolean): ChatRequest {
  return {
    ...toPromptFields(body, reasons),
    max_tokens: body.max_tokens,
    temperature: body.temperature,
    top_p: body.top_p,
    top_k: body.top_k,
    stop: body.stop_sequences,
    user: body.metadata?.user_id,
  };
}

/** The part that makes the prompt. */
export function toPromptFields(body: PromptRequest, reasons: boolean): ChatRequest {
  if (body.thread != null) {
    const message = `thread: found ${shown(body.thread)}, supported: requests with their whole conversation`;
    throw new ApiError('unsupported_value', message, 'thread');
  }
  const messages = toMessages(body);
  const last = messages.at(-1);
  const isPrefilled = last?.role === 'assistant';
  if (isPrefilled && last.tool_calls != null) {
    throw refused(
      `messages.${body.messages.length - 1}.content`,
      'tool_use at the end',
      'its tool_result after it',
    );
  }
  return {
    model: body.model,
    messages,
    continue_final_message: isPrefilled,
    ...toTools(body),
    ...toThinking(body, reasons),
    ...toFormat(body),
  };
}

const refused = (field: string, found: string, allowed: string) =>
  new ApiError('invalid_value', `${field}: found ${found}, allowed: ${allowed}`, field);

function toMessages({ system, messages }: PromptRequest): MessageField[] {
  const first = system == null ? '' : textOf(system, 'system');
  const converted = messages.flatMap((message, i) => fromMessage(message, `messages.${i}.content`));
  // An empty prefill asks for an answer from its beginning.
  if (isEmpty(converted.at(-1))) converted.pop();
  if (converted.length === 0) throw refused('messages', 'no content', 'at least one message with text');
  return joined([...(first === '' ? [] : [{ role: 'system' as const, content: first }]), ...converted]);
}

const isEmpty = (message: MessageField | undefined) =>
  message?.role === 'assistant' && message.content === '' && message.tool_calls == null;

/** Messages of one role in a row are one turn. Results of tools stay apart, each beside its call. */
function joined(messages: readonly MessageField[]): MessageField[] {
  const turns: MessageField[] = [];
  for (const message of messages) {
    const before = turns.at(-1);
    if (before === undefined || before.role !== message.role || message.role === 'tool') {
      turns.push(message);
      continue;
    }
    const texts = [before.content, message.content].filter((content) => content != null && content !== '');
    const reasoning = [before.reasoning, message.reasoning].filter((one) => one != null).join('\n');
    const calls = [...(before.tool_calls ?? []), ...(message.tool_calls ?? [])];
    turns[turns.length - 1] = {
      role: message.role,
      content: texts.join('\n'),
      ...(reasoning === '' ? {} : { reasoning }),
      ...(calls.length === 0 ? {} : { tool_calls: calls }),
    };
  }
  return turns;
}

/** One message, or several where results of tools stand beside text. */
function fromMessage({ role, content }: MessageParam, field: string): MessageField[] {
  if (typeof content === 'string') return [{ role, content }];
  if (role === 'assistant') return [fromAssistant(content, field)];
  return content.map((block, i): MessageField => {
    const at = `${field}.${i}`;
    if (role === 'user' && block.type === 'tool_result') return fromToolResult(block, at);
    return { role, content: textOfBlock(block, at, role === 'user' ? 'text, tool_result' : 'text') };
  });
}

function fromAssistant(blocks: readonly Block[], field: string): MessageField {
  const texts: string[] = [];
  const reasoning: string[] = [];
  const calls: NonNullable<MessageField['tool_calls']> = [];
  blocks.forEach((block, i) => {
    const at = `${field}.${i}`;
    switch (block.type) {
      case 'thinking':
        reasoning.push(needed(block, 'thinking', at));
        break;
      case 'redacted_thinking':
        // Nobody but its maker can read it.
        break;
      case 'tool_use': {
        const given = JSON.stringify(needed(block, 'input', at));
        const called = { name: needed(block, 'name', at), arguments: given };
        calls.push({ id: needed(block, 'id', at), type: 'function', function: called });
        break;
      }
      default:
        texts.push(textOfBlock(block, at, 'text, tool_use, thinking, redacted_thinking'));
    }
  });
  return {
    role: 'assistant',
    content: texts.join('\n'),
    ...(reasoning.length === 0 ? {} : { reasoning: reasoning.join('\n') }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

/** Templates know no failed calls, so the text says it. */
function fromToolResult(block: Block, field: string): MessageField {
  const text = textOf(block.content ?? '', `${field}.content`);
  const content = block.is_error === true ? `Error: ${text}` : text;
  return { role: 'tool', tool_call_id: needed(block, 'tool_use_id', field), content };
}

function needed<K extends 'text' | 'thinking' | 'input' | 'name' | 'id' | 'tool_use_id'>(
  block: Block,
  name: K,
  field: string,
): NonNullable<Block[K]> {
  const value = block[name];
  if (value != null) return value;
  const what = `expected in a block of type ${shown(block.type)}`;
  throw new ApiError('invalid_value', `${field}.${name} is missing, ${what}`, `${field}.${name}`);
}

function textOf(content: TextBlocks, field: string): string {
  if (typeof content === 'string') return content;
  return content.map((block, i) => textOfBlock(block, `${field}.${i}`, 'text')).join('\n');
}

function textOfBlock(block: Block, field: string, supported: string): string {
  if (block.type === 'text') return needed(block, 'text', field);
  throw new ApiError(
    'unsupported_value',
    `${field}: found a block of type ${shown(block.type)}, supported: ${supported}`,
    field,
  );
}

function toTools({ tools: given, tool_choice: choice }: PromptRequest): Partial<ChatRequest> {
  const tools = given?.map(toTool);
  if (choice == null) return { tools };
  if ((choice.type === 'any' || choice.type === 'tool') && !tools?.length)
    throw refused('tool_choice', shown(choice), 'with tools');
  return {
    tools,
    tool_choice: toToolChoice(choice, tools ?? []),
    parallel_tool_calls: choice.disable_parallel_tool_use === true ? false : undefined,
  };
}

function toTool(
  { type, name, description, input_schema: parameters, strict }: NonNullable<PromptRequest['tools']>[number],
  i: number,
): ToolField {
  if (type != null && type !== 'custom') {
    const field = `tools.${i}.type`;
    const message = `${field}: found ${shown(type)}, supported: "custom", tools that the client runs`;
    throw new ApiError('unsupported_value', message, field);
  }
  if (parameters == null) {
    const field = `tools.${i}.input_schema`;
    throw new ApiError('invalid_value', `${field} is missing, expected a JSON schema`, field);
  }
  return { type: 'function', function: { name, description, parameters, strict } };
}

function toToolChoice(
  { type, name }: NonNullable<PromptRequest['tool_choice']>,
  tools: readonly ToolField[],
): ChatRequest['tool_choice'] {
  if (type === 'auto' || type === 'none') return type;
  if (type === 'any') return 'required';
  const names = tools.map((tool) => tool.function.name);
  if (name == null || !names.includes(name)) throw refused('tool_choice.name', shown(name), names.join(', '));
  return { type: 'function', function: { name } };
}

/** Under the names that templates know. A model that does not reason stays within any budget. */
function toThinking(
  { thinking, output_config: config }: PromptRequest,
  reasons: boolean,
): Partial<ChatRequest> {
  const effort = { reasoning_effort: config?.effort };
  if (thinking == null) return effort;
  const isOn = thinking.type !== 'disabled';
  const budget = thinking.type === 'enabled' ? thinking.budget_tokens : undefined;
  if (budget === null || (budget === undefined && thinking.type === 'enabled')) {
    const field = 'thinking.budget_tokens';
    throw new ApiError('invalid_value', `${field} is missing, expected with type "enabled"`, field);
  }
  return {
    ...effort,
    chat_template_kwargs: { enable_thinking: isOn, thinking: isOn },
    thinking_token_budget: reasons ? budget : undefined,
  };
}

/** output_format is output_config.format as it was called at first. */
function toFormat({ output_config: config, output_format: older }: PromptRequest): Partial<ChatRequest> {
  if (config?.format != null && older != null)
    throw refused('output_format', 'both it and output_config.format', 'one of them');
  const format = config?.format ?? older;
  if (format == null) return {};
  return { response_format: { type: 'json_schema', json_schema: { schema: format.schema } } };
}
