// Which format an answer is in: by the marks that the chat template writes, or by name.

import type { EventWriter, ToolSchemas } from './events.ts';
import { harmonyMarks, readHarmony } from './harmony.ts';
import { type ReasoningFormat, reasoningFormats } from './reasoning-formats.ts';
import type { Reading, TextInput } from './text-input.ts';
import { type ToolFormat, toolFormats } from './tool-formats.ts';

/** Everything in harmony is one format: reasoning, calls and content are messages alike. */
const harmonyTools = 'openai';
const harmonyReasoning = 'openai_gptoss';

export const toolParserNames = [...Object.keys(toolFormats), harmonyTools];
export const reasoningParserNames = [...Object.keys(reasoningFormats), harmonyReasoning];

export interface AnswerFormat {
  /** Names of the parsers, or none. */
  toolParser: string;
  reasoningParser: string;
  isHarmony: boolean;
  tools: ToolFormat | null;
  reasoning: ReasoningFormat | null;
}

type Rule = readonly [isWritten: (template: string) => boolean, name: string];
const has =
  (...marks: string[]) =>
  (template: string) =>
    marks.every((mark) => template.includes(mark));
const any =
  (...marks: string[]) =>
  (template: string) =>
    marks.some((mark) => template.includes(mark));

/** The first rule that holds decides: families that share marks come after those that have more of them. */
const toolRules: readonly Rule[] = [
  [has('<|channel|>', '<|message|>'), harmonyTools],
  [has('<｜tool▁call▁begin｜>'), 'deepseek_v3'],
  [has('[TOOL_CALLS]'), 'mistral'],
  [has('<function='), 'qwen3_coder'],
  [any('functools', '<|/tool|>'), 'phi4_mini_json'],
  [any('<|start_of_role|>', '<|tool_call|>'), 'granite'],
  [has('<tool_call>'), 'hermes'],
  [any('<|python_start|>', '<|tool_call_start|>', '[func_name1('), 'pythonic'],
  [any('<|python_tag|>', '{"name": function name'), 'llama3_json'],
];
const reasoningRules: readonly Rule[] = [
  [has('<|channel|>', '<|message|>'), harmonyReasoning],
  [has('[THINK]'), 'mistral'],
  [any(...reasoningFormats.granite.opens), 'granite'],
  [has('<｜Assistant｜>', '</think>'), 'deepseek_r1'],
  [any('<think>', '</think>'), 'qwen3'],
];

/**
 * The format of a model's answers. `auto` goes by its chat template, `none` leaves calls or reasoning in the
 * text; other names are of toolParserNames and reasoningParserNames.
 */
export function answerFormat(
  template: string | null,
  toolParser: string,
  reasoningParser: string,
): AnswerFormat {
  const byRule = (rules: readonly Rule[]) =>
    rules.find(([isWritten]) => isWritten(template ?? ''))?.[1] ?? 'none';
  const tools = toolParser === 'auto' ? byRule(toolRules) : toolParser;
  const reasoning = reasoningParser === 'auto' ? byRule(reasoningRules) : reasoningParser;
  return {
    toolParser: tools,
    reasoningParser: reasoning,
    isHarmony: tools === harmonyTools || reasoning === harmonyReasoning,
    tools: (toolFormats as Record<string, ToolFormat>)[tools] ?? null,
    reasoning: (reasoningFormats as Record<string, ReasoningFormat>)[reasoning] ?? null,
  };
}

export interface AnswerContext {
  /** Calls are read at all; without it they stay text. */
  readsCalls: boolean;
  tools: ToolSchemas;
  /** The prompt ends inside reasoning, or after it. */
  promptEnd: 'in reasoning' | 'after reasoning' | 'open';
  /** A grammar holds what comes after the reasoning, white space included. */
  isHeld: boolean;
}

/**
 * Where a prompt leaves the answer. `continued` is the text of the last message when the answer continues it.
 */
export function promptEndOf(
  { isHarmony, reasoning }: AnswerFormat,
  prompt: string,
  continued: string | null,
): AnswerContext['promptEnd'] {
  // What is continued in harmony is a final message.
  if (isHarmony) return continued === null ? 'open' : 'after reasoning';
  if (reasoning === null) return 'open';
  if (continued !== null) {
    const lastOf = (marks: readonly string[]) =>
      Math.max(...marks.map((mark) => continued.lastIndexOf(mark)));
    return lastOf(reasoning.opens) > lastOf(reasoning.closes) ? 'in reasoning' : 'after reasoning';
  }
  const end = prompt.trimEnd();
  // What the template writes last, never what a message says.
  if (reasoning.opens.some((mark) => end.endsWith(mark))) return 'in reasoning';
  return reasoning.closes.some((mark) => end.endsWith(mark)) ? 'after reasoning' : 'open';
}

/** Answers are plain text: nothing of them is read. */
export function isPlainText({ isHarmony, tools, reasoning }: AnswerFormat, readsCalls: boolean): boolean {
  return !isHarmony && reasoning === null && !(readsCalls && tools !== null);
}

/** The model reasons before it answers, in a form that is read. */
export function readsReasoning({ isHarmony, reasoning }: AnswerFormat): boolean {
  return isHarmony || reasoning !== null;
}

/** Special tokens that the grammars must see although the client does not. */
export function marksOf({ isHarmony, tools, reasoning }: AnswerFormat, readsCalls: boolean): string[] {
  if (isHarmony) return harmonyMarks;
  const ofTools = readsCalls && tools !== null ? [...tools.opens, ...(tools.innerMarks ?? [])] : [];
  const ofReasoning = reasoning === null ? [] : [...reasoning.opens, ...reasoning.closes];
  return [...ofTools, ...ofReasoning];
}

/** Reads a whole answer. */
export function* readAnswer(
  format: AnswerFormat,
  input: TextInput,
  out: EventWriter,
  context: AnswerContext,
): Reading<void> {
  if (format.isHarmony) return yield* readHarmony(input, out, context);
  const tools = context.readsCalls ? format.tools : null;
  if (format.reasoning !== null) yield* readReasoning(format.reasoning, tools, input, out, context);
  yield* readContent(tools, input, out, context.tools);
}

function* readReasoning(
  format: ReasoningFormat,
  tools: ToolFormat | null,
  input: TextInput,
  out: EventWriter,
  { promptEnd, isHeld, tools: schemas }: AnswerContext,
): Reading<void> {
  if (promptEnd === 'after reasoning') return;
  const space = yield* input.skipSpace();
  const open = yield* input.takeAny(format.opens);
  if (open === null && promptEnd === 'open' && format.isImplied !== true) return out.content(space);
  out.beginReasoning(input.numRead);
  const calls = tools?.endsReasoning === true ? tools : null;
  for (;;) {
    const marks = [...format.closes, ...(calls?.opens ?? [])];
    const mark = yield* input.until(marks, (text) => out.reasoning(text));
    const end = input.numRead - (mark ?? '').length;
    out.endReasoning(end);
    if (isHeld && mark !== null && format.closes.includes(mark)) {
      yield* input.takeBeginning(format.lead ?? '');
      out.keepSpace();
    }
    if (mark === null || calls === null || format.closes.includes(mark)) return;
    if (yield* readCalls(calls, input, out, mark, schemas)) return;
    out.resumeReasoning(input.since(end));
    input.release();
  }
}

/** False when what follows the mark is no call; input.since(the mark) is then what it was. */
function* readCalls(
  format: ToolFormat,
  input: TextInput,
  out: EventWriter,
  mark: string,
  tools: ToolSchemas,
): Reading<boolean> {
  input.keepFrom(input.numRead - mark.length);
  const isCall = yield* format.read(input, out, mark, tools);
  if (isCall) input.release();
  return isCall;
}

function* readContent(
  format: ToolFormat | null,
  input: TextInput,
  out: EventWriter,
  tools: ToolSchemas,
): Reading<void> {
  let mark: string | null = null;
  if (format?.opensAtStart !== undefined) {
    out.content(yield* input.skipSpace());
    mark = yield* input.takeAny(format.opensAtStart);
  }
  for (;;) {
    mark ??= yield* input.until(format?.opens ?? [], (text) => out.content(text));
    if (mark === null || format === null) return;
    const start = input.numRead - mark.length;
    if (!(yield* readCalls(format, input, out, mark, tools))) out.content(input.since(start));
    input.release();
    mark = null;
  }
}
