// OpenAI's harmony format, which gpt-oss writes: messages on channels, the receiver of a call in the header.
// https://cookbook.openai.com/articles/openai-harmony

import type { EventWriter } from './events.ts';
import type { Reading, TextInput } from './text-input.ts';

const start = '<|start|>';
const channel = '<|channel|>';
const message = '<|message|>';
const ends = ['<|end|>', '<|call|>', '<|return|>'];

/** How reasoning begins and ends, and what leads on to the answer. */
export const harmonyThinking = {
  open: `${channel}analysis${message}`,
  close: '<|end|>',
  lead: `${start}assistant${channel}final${message}`,
};

const maxHeaderLength = 200;

export const harmonyMarks = [start, channel, message, '<|constrain|>', ...ends];

interface HarmonyContext {
  promptEnd: 'in reasoning' | 'after reasoning' | 'open';
  /** Without it what is said to a tool is content. */
  readsCalls: boolean;
  /** A grammar holds the final message: what looks like a mark there is none. */
  isHeld: boolean;
}

/** The whole answer. */
export function* readHarmony(input: TextInput, out: EventWriter, context: HarmonyContext): Reading<void> {
  if (context.isHeld && context.promptEnd === 'after reasoning')
    return yield* rest(input, (text) => out.content(text));
  // The prompt ends in the role of the first message, so a receiver may come first.
  let mark = yield* input.takeAny([' to=', 'to=']);
  for (;;) {
    mark ??= yield* input.until([channel, start, message, ...ends], (text) => out.content(text));
    if (mark === null) return;
    if (!ends.includes(mark)) yield* readMessage(input, out, mark, context);
    mark = null;
  }
}

function* readMessage(
  input: TextInput,
  out: EventWriter,
  firstMark: string,
  { readsCalls, isHeld }: HarmonyContext,
): Reading<void> {
  let header = firstMark;
  for (let mark: string | null = firstMark; mark !== message; header += mark) {
    mark = yield* input.until([message, channel, start], (text) => {
      header += text;
    });
    if (mark === null) {
      // The text ends in a header, which says nothing yet. What is too long for one was meant otherwise.
      if (header.length > maxHeaderLength) out.content(header);
      return;
    }
  }
  const receiver = /\bto=(?:functions\.)?([\w.:-]+)/.exec(header)?.[1] ?? null;
  if (receiver !== null && readsCalls) {
    out.beginCall(receiver);
    const end = yield* body(input, (text) => out.arguments(text));
    if (end !== null) out.endCall();
  } else if (/<\|channel\|>\s*analysis/.test(header)) {
    out.beginReasoning(input.numRead);
    const end = yield* body(input, (text) => out.reasoning(text));
    out.endReasoning(input.numRead - (end ?? '').length);
  } else if (isHeld) {
    out.beginContent();
    out.keepSpace();
    yield* rest(input, (text) => out.content(text));
  } else {
    out.beginContent();
    yield* body(input, (text) => out.content(text));
  }
}

/** Reads what is left but for an end mark that nothing follows. */
function* rest(input: TextInput, emit: (text: string) => void): Reading<void> {
  for (;;) {
    const end = yield* input.until(ends, emit);
    if (end === null || (yield* input.peek()) === '') return;
    emit(end);
  }
}

/** Reads a message to its end mark, which is returned; null at the end of the text. */
function* body(input: TextInput, emit: (text: string) => void): Reading<string | null> {
  const end = yield* input.until([...ends, start], emit);
  if (end !== start) return end;
  // A message may lack its end, but not the beginning of the next.
  input.unread(start.length);
  return '';
}
