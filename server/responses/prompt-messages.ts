// Items -> the messages of a chat. What an assistant did in one turn, its reasoning, its text and its calls,
// is several items and one message.

import type { MessageField } from '../schemas.ts';
import {
  type CallItem,
  type Item,
  isCallArguments,
  type MessageItem,
  type ReasoningItem,
} from './input-items.ts';

export function toMessages(instructions: string | null, items: readonly Item[]): MessageField[] {
  const messages: MessageField[] = [];
  if (instructions !== null) messages.push({ role: 'system', content: instructions });
  let turn: MessageField | null = null;
  for (const item of items) {
    if (!isAssistants(item)) {
      turn = null;
      messages.push(fromClient(item));
    } else if (isSaid(item)) {
      if (turn === null || beginsAnew(turn, item)) {
        turn = { role: 'assistant' };
        messages.push(turn);
      }
      add(turn, item);
    }
  }
  return messages;
}

type AssistantItem = CallItem | ReasoningItem | MessageItem;

function isAssistants(item: Item): item is AssistantItem {
  if (item.type === 'message') return item.role === 'assistant';
  return item.type !== 'function_call_output';
}

/** A call that was cut off was never made, and templates want whole ones. */
function isSaid(item: AssistantItem): boolean {
  return item.type !== 'function_call' || isCallArguments(item.arguments);
}

/** A message has its reasoning first, then one text, then calls. */
function beginsAnew(turn: MessageField, item: AssistantItem): boolean {
  switch (item.type) {
    case 'reasoning':
      return turn.reasoning != null || turn.content != null || turn.tool_calls != null;
    case 'message':
      return turn.content != null || turn.tool_calls != null;
    case 'function_call':
      return false;
  }
}

function add(turn: MessageField, item: AssistantItem): void {
  switch (item.type) {
    case 'reasoning': {
      const parts = item.content.length > 0 ? item.content : item.summary;
      turn.reasoning = parts.map(({ text }) => text).join('\n');
      break;
    }
    case 'message':
      turn.content = contentOf(item.content);
      break;
    case 'function_call': {
      const { call_id: id, name, arguments: given } = item;
      turn.tool_calls = [
        ...(turn.tool_calls ?? []),
        { id, type: 'function', function: { name, arguments: given } },
      ];
      break;
    }
  }
}

function fromClient(item: Exclude<Item, CallItem | ReasoningItem>): MessageField {
  if (item.type === 'message') return { role: item.role, content: contentOf(item.content) };
  const { call_id: id, output } = item;
  return { role: 'tool', tool_call_id: id, content: typeof output === 'string' ? output : contentOf(output) };
}

function contentOf(parts: MessageItem['content']): MessageField['content'] {
  return parts.map((part) => (part.type === 'refusal' ? part : { type: 'text', text: part.text }));
}
