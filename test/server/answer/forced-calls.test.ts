// What the grammar of forced calls allows is what the parser of the same name reads.

import { describe, expect, it } from 'vitest';
import { callFormats } from '../../../server/tools/tool-grammar.ts';
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
