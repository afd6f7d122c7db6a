// How models write tool calls. Each format is where a call may begin and a grammar for what follows; names
// are those of vLLM's --tool-call-parser.

import type { EventWriter, ToolSchemas } from './events.ts';
import { callWithArguments, objectCall, restOfListCalls, restOfObjectCall } from './json-calls.ts';
import { pythonCalls } from './python-calls.ts';
import type { Reading, TextInput } from './text-input.ts';
import { readFunction } from './xml-calls.ts';

export interface ToolFormat {
  /** Begin a call anywhere in the text. */
  opens: readonly string[];
  /** Begin one at the start of the answer only. */
  opensAtStart?: readonly string[];
  /** Further marks, which matter where they are special tokens: those must reach the grammar. */
  innerMarks?: readonly string[];
  callIds?: 'short';
  /** Models of it call in the middle of their reasoning and leave out its end; the call is then the end. */
  endsReasoning?: true;
  /**
   * Reads what follows a mark. False when it is no call: it and the mark then come out as content. May leave
   * text unread, which is content or further calls.
   */
  read(input: TextInput, out: EventWriter, mark: string, tools: ToolSchemas): Reading<boolean>;
}

/** https://github.com/NousResearch/Hermes-Function-Calling; Qwen 2.5 and 3, and the model that ships. */
const hermes: ToolFormat = {
  opens: ['<tool_call>'],
  innerMarks: ['</tool_call>'],
  *read(input, out) {
    yield* input.skipSpace();
    if (!(yield* objectCall(input, out, true))) return false;
    yield* skipClose(input, ['</tool_call>']);
    return true;
  },
};

/** Llama 3.1 and 3.2: https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1 */
const llama3Json: ToolFormat = {
  opens: ['<|python_tag|>', '{'],
  *read(input, out, mark) {
    const isMarked = mark !== '{';
    yield* input.skipSpace();
    const isCall = isMarked
      ? yield* objectCall(input, out, true)
      : yield* restOfObjectCall(input, out, false);
    if (isCall) yield* skipClose(input, [';']);
    return isCall;
  },
};

/**
 * Mistral: a list of objects after one mark (tokenizers before v11), or for each call a mark, the name and
 * the
 * arguments: https://docs.mistral.ai/capabilities/function_calling
 */
const mistral: ToolFormat = {
  opens: ['[TOOL_CALLS]'],
  innerMarks: ['[CALL_ID]', '[ARGS]'],
  callIds: 'short',
  *read(input, out) {
    yield* input.skipSpace();
    if (yield* input.take('[')) return yield* restOfListCalls(input, out, true);
    if ((yield* input.peek()) === '{') return yield* objectCall(input, out, true);
    const name = yield* input.takeWhile((character) => /[\w.:-]/.test(character));
    if (name === '') return false;
    if (yield* input.take('[CALL_ID]')) yield* input.takeWhile((character) => /\w/.test(character));
    yield* input.take('[ARGS]');
    yield* input.skipSpace();
    if ((yield* input.peek()) !== '{') return false;
    yield* callWithArguments(input, out, name);
    return true;
  },
};

/** IBM's Granite 3 (a list after a mark, or alone) and 4 (an object between tags). */
const granite: ToolFormat = {
  opens: ['<|tool_call|>', '<tool_call>'],
  opensAtStart: ['['],
  innerMarks: ['</tool_call>'],
  *read(input, out, mark) {
    if (mark === '[') return yield* restOfListCalls(input, out, false);
    yield* input.skipSpace();
    const isCall = (yield* input.take('['))
      ? yield* restOfListCalls(input, out, true)
      : yield* objectCall(input, out, true);
    if (isCall) yield* skipClose(input, ['</tool_call>']);
    return isCall;
  },
};

/** https://huggingface.co/microsoft/Phi-4-mini-instruct */
const phi4Mini: ToolFormat = {
  opens: ['functools[', '<|tool_call|>['],
  innerMarks: ['<|tool_call|>', '<|/tool_call|>'],
  *read(input, out) {
    const isCall = yield* restOfListCalls(input, out, true);
    if (isCall) yield* skipClose(input, ['<|/tool_call|>']);
    return isCall;
  },
};

const deepseekMarks = {
  callsBegin: '<｜tool▁calls▁begin｜>',
  callBegin: '<｜tool▁call▁begin｜>',
  separator: '<｜tool▁sep｜>',
  callEnd: '<｜tool▁call▁end｜>',
  callsEnd: '<｜tool▁calls▁end｜>',
};

/**
 * DeepSeek V3 and R1 (the arguments in a fenced block) and V3.1 (bare): https://huggingface.co/deepseek-ai
 */
const deepseekV3: ToolFormat = {
  opens: [deepseekMarks.callsBegin],
  innerMarks: Object.values(deepseekMarks),
  *read(input, out) {
    for (let isFirst = true; ; isFirst = false) {
      yield* input.skipSpace();
      const start = input.numRead;
      if (!isFirst) input.keepFrom(start);
      if (!(yield* input.take(deepseekMarks.callBegin))) {
        yield* input.take(deepseekMarks.callsEnd);
        return !isFirst;
      }
      if (!(yield* deepseekCall(input, out))) {
        if (!isFirst) out.content(input.since(start));
        return !isFirst;
      }
    }
  },
};

function* deepseekCall(input: TextInput, out: EventWriter): Reading<boolean> {
  let name = yield* input.takeWhile((character) => /[\w.:-]/.test(character));
  if (!(yield* input.take(deepseekMarks.separator))) return false;
  if ((yield* input.peek()) !== '{') {
    name = yield* input.takeWhile((character) => /[\w.:-]/.test(character));
    yield* input.skipSpace();
    if (!(yield* input.take('```json'))) return false;
    yield* input.skipSpace();
  }
  if (name === '' || (yield* input.peek()) !== '{') return false;
  yield* callWithArguments(input, out, name);
  yield* skipClose(input, ['```']);
  yield* skipClose(input, [deepseekMarks.callEnd]);
  return true;
}

/**
 * https://huggingface.co/Qwen/Qwen3-Coder-30B-A3B-Instruct: one element per parameter, values as plain
 * text.
 */
const qwen3Coder: ToolFormat = {
  opens: ['<tool_call>', '<function='],
  innerMarks: ['</tool_call>', '</function>', '<parameter=', '</parameter>'],
  endsReasoning: true,
  *read(input, out, mark, tools) {
    if (mark === '<tool_call>') {
      yield* input.skipSpace();
      // Its neighbours write Hermes' objects between the same tags.
      if ((yield* input.peek()) === '{') return yield* hermes.read(input, out, mark, tools);
      if (!(yield* input.take('<function='))) return false;
    }
    const isCall = yield* readFunction(input, out, tools);
    if (isCall) yield* skipClose(input, ['</tool_call>']);
    return isCall;
  },
};

/** A Python list of calls: Llama 3.2 and 4, ToolACE, LFM2. */
const pythonic: ToolFormat = {
  opens: ['<|python_start|>', '<|python_tag|>', '<|tool_call_start|>'],
  opensAtStart: ['['],
  innerMarks: ['<|python_end|>', '<|tool_call_end|>'],
  *read(input, out, mark) {
    if (mark !== '[') {
      yield* input.skipSpace();
      if (!(yield* input.take('['))) return false;
    }
    const isCall = yield* pythonCalls(input, out, mark !== '[');
    if (isCall) yield* skipClose(input, ['<|python_end|>', '<|tool_call_end|>']);
    return isCall;
  },
};

/**
 * Reads the mark that may close a call, and the space before it; the space alone is left, for it is layout.
 */
function* skipClose(input: TextInput, marks: readonly string[]): Reading<void> {
  yield* input.skipSpace();
  yield* input.takeAny(marks);
}

export const toolFormats = {
  hermes,
  llama3_json: llama3Json,
  mistral,
  pythonic,
  llama4_pythonic: pythonic,
  lfm2: pythonic,
  qwen3_coder: qwen3Coder,
  qwen3_xml: qwen3Coder,
  deepseek_v3: deepseekV3,
  deepseek_v31: deepseekV3,
  phi4_mini_json: phi4Mini,
  granite,
  granite4: granite,
} satisfies Record<string, ToolFormat>;
