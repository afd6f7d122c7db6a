// What the grammar of forced calls allows is what the parser of the same name reads.

import { describe, expect, it } from 'vitest';
import { callFormats, toolGrammar } from '../../../server/tools/tool-grammar.ts';
import { cuts, read } from './merge.ts';

describe.each(Object.entries(callFormats))(
  'forced calls as %s',
  (tool, { begin, end, separator, trigger }) => {
    it('are read as calls', () => {
      const call = (name: string, given: string) => `${begin(name)}${given}${end}`;
      const text = `${call('get_weather', '{"city": "Paris"}')}${separator}${call('now', '{}')}`;
      expect(text.startsWith(trigger)).toBe(true);
      for (const pieces of cuts(text, 20)) {
        expect(read({ tool }, pieces)).toEqual([
          ['call', 'get_weather', '{"city": "Paris"}'],
          ['call', 'now', '{}'],
        ]);
      }
    });
  },
);

describe('the arguments of a forced call', () => {
  const schemaOf = (parameters?: Record<string, unknown>) => {
    const tools = [{ type: 'function' as const, function: { name: 'now', parameters } }];
    const wanted = toolGrammar({ messages: [], tools, tool_choice: 'required' }, 'hermes', null);
    const request = wanted?.request as unknown as { tag: { format: { tags: Array<{ content: object }> } } };
    return request.tag.format.tags[0].content;
  };

  it('are none where the function names no parameters, and any with {}', () => {
    expect(schemaOf()).toMatchObject({ json_schema: { type: 'object', properties: {} } });
    expect(schemaOf({})).toEqual({ type: 'json_schema', json_schema: { type: 'object' } });
  });
});
