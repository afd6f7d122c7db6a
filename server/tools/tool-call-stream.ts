// Text of a model -> plain text and tool calls, as it comes. One state machine for every format whose calls
// stand between tags; the format is a few words of data.

import { JsonScanner } from './json-scanner.ts';

/** How a model writes a call: a JSON object with name and arguments between two tags. */
export interface ToolCallFormat {
  name: string;
  open: string;
  close: string;
}

export const toolCallFormats: readonly ToolCallFormat[] = [
  // Hermes, Qwen and the model that ships: https://github.com/NousResearch/Hermes-Function-Calling
  { name: 'hermes', open: '<tool_call>', close: '</tool_call>' },
];

/** The format whose tags the chat template writes; null when it writes none that is known. */
export function formatOfTemplate(template: string | null): ToolCallFormat | null {
  return toolCallFormats.find(({ open }) => template?.includes(open)) ?? null;
}

export type ToolEvent =
  | { type: 'text'; text: string }
  /** A new call. Its arguments follow as fragments of one JSON text. */
  | { type: 'call'; name: string }
  | { type: 'arguments'; text: string };

/** Up to the first character of the arguments. */
const header = /^\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=[^\s])/;

export class ToolCallStream {
  readonly #format: ToolCallFormat;
  /** Text that is not out yet: it may become a tag, or is the beginning of a call. */
  #held = '';
  #state: 'text' | 'header' | 'arguments' | 'closing' = 'text';
  #scanner = new JsonScanner();
  #numCalls = 0;

  constructor(format: ToolCallFormat) {
    this.#format = format;
  }

  get numCalls(): number {
    return this.#numCalls;
  }

  push(text: string): ToolEvent[] {
    const events: ToolEvent[] = [];
    this.#held += text;
    while (this.#advance(events));
    return events;
  }

  /** The end of the text. What looked like a call and is none comes out as text. */
  finish(): ToolEvent[] {
    const rest = this.#held;
    this.#held = '';
    if (this.#state === 'text') return this.#text(rest);
    return this.#state === 'header' ? this.#text(this.#format.open + rest) : [];
  }

  /** One step of the machine; false when it needs more text. */
  #advance(events: ToolEvent[]): boolean {
    switch (this.#state) {
      case 'text':
        return this.#advanceText(events);
      case 'header':
        return this.#advanceHeader(events);
      case 'arguments': {
        const length = this.#scanner.push(this.#held);
        if (length > 0) events.push({ type: 'arguments', text: this.#held.slice(0, length) });
        this.#held = this.#held.slice(length);
        if (this.#scanner.isDone) this.#state = 'closing';
        return this.#scanner.isDone;
      }
      case 'closing':
        return this.#afterClose(() => {});
    }
  }

  #advanceText(events: ToolEvent[]): boolean {
    const { open } = this.#format;
    const at = this.#held.indexOf(open);
    if (at >= 0) {
      events.push(...this.#text(this.#held.slice(0, at).trimEnd()));
      this.#held = this.#held.slice(at + open.length);
      this.#state = 'header';
      return true;
    }
    const certain = this.#held.length - possibleTag(this.#held, open);
    events.push(...this.#text(this.#held.slice(0, certain)));
    this.#held = this.#held.slice(certain);
    return false;
  }

  #advanceHeader(events: ToolEvent[]): boolean {
    const match = header.exec(this.#held);
    if (match !== null) {
      this.#held = this.#held.slice(match[0].length);
      this.#scanner = new JsonScanner();
      this.#state = 'arguments';
      this.#numCalls++;
      events.push({ type: 'call', name: JSON.parse(match[1]) as string });
      return true;
    }
    // Another order of the fields, or no call at all: the whole decides.
    return this.#afterClose((inner) => events.push(...this.#whole(inner)));
  }

  /** Waits for the closing tag, hands over what is before it, and goes on with text. */
  #afterClose(use: (inner: string) => void): boolean {
    const at = this.#held.indexOf(this.#format.close);
    if (at < 0) return false;
    use(this.#held.slice(0, at));
    this.#held = this.#held.slice(at + this.#format.close.length);
    this.#state = 'text';
    return true;
  }

  #whole(inner: string): ToolEvent[] {
    const call = parseCall(inner);
    if (call === null) return this.#text(this.#format.open + inner + this.#format.close);
    this.#numCalls++;
    return [
      { type: 'call', name: call.name },
      { type: 'arguments', text: JSON.stringify(call.arguments) },
    ];
  }

  /** White space beside calls is layout, not content. */
  #text(text: string): ToolEvent[] {
    return text === '' || (this.#numCalls > 0 && text.trim() === '') ? [] : [{ type: 'text', text }];
  }
}

function parseCall(text: string): { name: string; arguments: unknown } | null {
  try {
    const { name, arguments: given = {} } = JSON.parse(text);
    return typeof name === 'string' ? { name, arguments: given } : null;
  } catch {
    return null;
  }
}

/** Length of the longest tail that is white space and then, perhaps, the beginning of the tag. */
function possibleTag(text: string, tag: string): number {
  let tail = 0;
  for (let length = Math.min(tag.length - 1, text.length); length > 0; length--) {
    if (!text.endsWith(tag.slice(0, length))) continue;
    tail = length;
    break;
  }
  const before = text.slice(0, text.length - tail);
  return text.length - before.trimEnd().length;
}
