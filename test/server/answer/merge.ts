// Answers as a test sees them: events merged, and texts cut into pieces.

import fc from 'fast-check';
import { type AnswerOptions, AnswerStream } from '../../../server/answer/answer-stream.ts';
import type { AnswerEvent } from '../../../server/answer/events.ts';
import { answerFormat } from '../../../server/answer/formats.ts';

/**
 * In order, neighbours of a kind joined; a call is [name, arguments], with "..." after it when it is
 * incomplete.
 */
export type Merged = Array<['content' | 'reasoning', string] | ['call', string, string]>;

export const tools = new Map<string, Record<string, unknown>>([
  ['get_weather', { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } } }],
  [
    'edit',
    {
      type: 'object',
      properties: {
        path: { type: 'string' },
        lines: { type: 'array', items: { type: 'integer' } },
        options: { type: 'object' },
        force: { type: 'boolean' },
        ratio: { type: ['number', 'null'] },
        mode: { anyOf: [{ type: 'integer' }, { type: 'string' }] },
        any: {},
      },
    },
  ],
  ['now', { type: 'object', properties: {} }],
]);

export function read(
  parsers: { tool?: string; reasoning?: string },
  pieces: readonly string[],
  options: Partial<AnswerOptions> = {},
): Merged {
  const format = answerFormat(null, parsers.tool ?? 'none', parsers.reasoning ?? 'none');
  const stream = new AnswerStream(format, {
    readsCalls: true,
    tools,
    promptEnd: 'open',
    isHeld: false,
    onlyOneCall: false,
    ...options,
  });
  return merge([...pieces.flatMap((piece) => stream.push(piece)), ...stream.finish()]);
}

export function merge(events: readonly AnswerEvent[]): Merged {
  const merged: Merged = [];
  for (const event of events) {
    const last = merged.at(-1);
    if (event.type === 'call') merged.push(['call', event.name, '']);
    else if (event.type === 'arguments') (last as [string, string, string])[2] += event.text;
    else if (event.type === 'content' || event.type === 'reasoning') {
      if (last?.[0] === event.type) last[1] += event.text;
      else merged.push([event.type, event.text]);
    }
  }
  return merged;
}

/** The text whole, byte by byte (as a decoder hands it on), and at random places. */
export function cuts(text: string, numRandom = 100): string[][] {
  const bytes = Buffer.from(text);
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const byteByByte = Array.from(bytes, (byte) => decoder.decode(Uint8Array.of(byte), { stream: true }));
  const characters = [...text];
  const places = fc.sample(fc.array(fc.nat(characters.length), { maxLength: 12 }), {
    numRuns: numRandom,
    seed: 7,
  });
  const random = places.map((cutAt) => {
    const at = [0, ...cutAt.sort((a, b) => a - b), characters.length];
    return at.slice(1).map((end, i) => characters.slice(at[i], end).join(''));
  });
  return [[text], byteByByte, ...random];
}
