// Answers of every format, written from its documentation: read whole, byte by byte and at random cuts they
// are
// the same answer.

import { describe, expect, it } from 'vitest';
import { cuts, type Merged, read } from './merge.ts';

type Transcript = [name: string, text: string, expected: Merged];

const paris: Merged[number] = ['call', 'get_weather', '{"city": "Paris"}'];
const say = (text: string): Merged[number] => ['content', text];
const think = (text: string): Merged[number] => ['reasoning', text];
const call = (name: string, given: string): Merged[number] => ['call', name, given];

const hermesCall = (name: string, given: string) =>
  `<tool_call>\n{"name": "${name}", "arguments": ${given}}\n</tool_call>`;
const nested = '{"a": {"b": [1, {"c": "}]"}]}, "q": "say \\"hi\\"\\n\\\\", "e": "Köln 数 😀 \\u00e9"}';

const hermes: Transcript[] = [
  ['no call', 'Hello <b> and {"name": 1}\n', [say('Hello <b> and {"name": 1}\n')]],
  ['one call', hermesCall('get_weather', '{"city": "Paris"}'), [paris]],
  ['two calls', `${hermesCall('get_weather', '{"city": "Paris"}')}\n${hermesCall('now', '{}')}`, [paris, call('now', '{}')]],
  ['text around', `Let me look.\n\n${hermesCall('now', '{}')}\nOne moment. `, [say('Let me look.'), call('now', '{}'), say('One moment. ')]],
  ['nested, escaped, unicode', hermesCall('f', nested), [call('f', nested)]],
  ['the mark in a string', hermesCall('f', '{"a": "</tool_call><tool_call>"}'), [call('f', '{"a": "</tool_call><tool_call>"}')]],
  ['a quoted name', hermesCall('f\\"g', '{}'), [call('f"g', '{}')]],
  ['no arguments', '<tool_call>{"name": "now"}</tool_call>', [call('now', '{}')]],
  ['null for arguments', hermesCall('now', 'null'), [call('now', '{}')]],
  ['an empty string for arguments', hermesCall('now', '""'), [call('now', '{}')]],
  ['arguments in a string', hermesCall('f', '"{\\"a\\": 1}"'), [call('f', '{"a": 1}')]],
  ['arguments first', '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', [call('f', '{"a": 1}')]],
  ['parameters instead, and more fields', '<tool_call>{"type": "function", "name": "f", "parameters": {"a": 2}, "id": "x"}</tool_call>', [call('f', '{"a": 2}')]],
  ['no closing tag', '<tool_call>{"name": "f", "arguments": {"a": 1}}\n<tool_call>{"name": "g", "arguments": {}}', [call('f', '{"a": 1}'), call('g', '{}')]],
  ['no closing brace', '<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>', [call('f', '{"a": 1}')]],
  ['malformed: no call', '<tool_call>nothing</tool_call> more', [say('<tool_call>nothing</tool_call> more')]],
  ['malformed: no name', '<tool_call>{"arguments": {}}</tool_call>', [say('<tool_call>{"arguments": {}}</tool_call>')]],
  ['malformed: no JSON', '<tool_call>{name: f}</tool_call>', [say('<tool_call>{name: f}</tool_call>')]],
  ['malformed, then one', `<tool_call>{oops ${hermesCall('now', '{}')}`, [say('<tool_call>{oops'), call('now', '{}')]],
  ['words after the arguments', '<tool_call>{"name": "f", "arguments": {} and so on', [call('f', '{}'), say('and so on')]],
  ['cut in the mark', 'x <tool_c', [say('x <tool_c')]],
  ['cut in the name', '<tool_call>{"na', [say('<tool_call>{"na')]],
  ['cut before the arguments', '<tool_call>{"name": "f", "arguments": ', [call('f', '')]],
  ['cut in the arguments', '<tool_call>{"name": "f", "arguments": {"a', [call('f', '{"a')]],
  ['cut after the arguments', '<tool_call>{"name": "f", "arguments": {"a": 1}', [call('f', '{"a": 1}')]],
]; // biome-ignore format: one transcript a row

const llama: Transcript[] = [
  ['no call', 'A JSON object: {"name": "Ann", "age": {"years": 5}} and { }', [say('A JSON object: {"name": "Ann", "age": {"years": 5}} and { }')]],
  ['one call', '{"name": "get_weather", "parameters": {"city": "Paris"}}', [paris]],
  ['with the mark', '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}', [paris]],
  ['two calls', '{"name": "get_weather", "parameters": {"city": "Paris"}}; {"name": "now", "parameters": {}}', [paris, call('now', '{}')]],
  ['text around', 'Sure: {"name": "get_weather", "arguments": {"city": "Paris"}} Is that all?', [say('Sure:'), paris, say('Is that all?')]],
  ['of type function', '{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}', [paris]],
  ['nested, escaped, unicode', `{"name": "edit", "parameters": ${nested}}`, [call('edit', nested)]],
  ['not a tool', '{"name": "other", "parameters": {"city": "Paris"}}', [say('{"name": "other", "parameters": {"city": "Paris"}}')]],
  ['a tool and no parameters', '{"name": "now"}', [say('{"name": "now"}')]],
  ['the mark before code', '<|python_tag|>search.call(query="x")', [say('<|python_tag|>search.call(query="x")')]],
  ['malformed', '{"name": "get_weather", "parameters" {}', [say('{"name": "get_weather", "parameters" {}')]],
  ['cut in the name', '{"name": "get_wea', [say('{"name": "get_wea')]],
  ['cut in the arguments', '{"name": "get_weather", "parameters": {"city": "Par', [call('get_weather', '{"city": "Par')]],
]; // biome-ignore format: one transcript a row

const mistral: Transcript[] = [
  ['no call', 'Just [words] and [TOOL', [say('Just [words] and [TOOL')]],
  ['a list of one', '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}}]', [paris]],
  ['a list of two, with ids', '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "abcdefghi"}, {"name": "now", "arguments": {}}]', [paris, call('now', '{}')]],
  ['name and arguments', '[TOOL_CALLS]get_weather{"city": "Paris"}', [paris]],
  ['with [ARGS]', '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]now[ARGS]{}', [paris, call('now', '{}')]],
  ['with [CALL_ID]', '[TOOL_CALLS]get_weather[CALL_ID]a1B2c3D4e[ARGS]{"city": "Paris"}', [paris]],
  ['text around', 'Looking. [TOOL_CALLS]get_weather{"city": "Paris"} Done.', [say('Looking.'), paris, say('Done.')]],
  ['nested, escaped, unicode', `[TOOL_CALLS]f${nested}`, [call('f', nested)]],
  ['arguments first', '[TOOL_CALLS][{"arguments": {"city": "Paris"}, "name": "get_weather"}]', [paris]],
  ['malformed: words', '[TOOL_CALLS]I cannot', [say('[TOOL_CALLS]I cannot')]],
  ['malformed: an empty list', '[TOOL_CALLS][]', [say('[TOOL_CALLS][]')]],
  ['malformed in second place', '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}}, {"x": 1}]', [paris, say('{"x": 1}]')]],
  ['cut in the name', '[TOOL_CALLS]get_wea', [say('[TOOL_CALLS]get_wea')]],
  ['cut in the arguments', '[TOOL_CALLS]get_weather{"city": "P', [call('get_weather', '{"city": "P')]],
  ['cut in a list', '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}}, {"na', [paris, say('{"na')]],
]; // biome-ignore format: one transcript a row

const pythonic: Transcript[] = [
  ['no call', 'A list: [1, 2] and f(x)', [say('A list: [1, 2] and f(x)')]],
  ['one call', '[get_weather(city="Paris")]', [paris]],
  ['two calls', "[get_weather(city='Paris'), now()]", [paris, call('now', '{}')]],
  ['with marks', '<|python_start|>[get_weather(city="Paris")]<|python_end|>', [paris]],
  ['text around marks', 'Sure. <|python_start|>[get_weather(city="Paris")]<|python_end|> Done.', [say('Sure.'), paris, say('Done.')]],
  ['as LFM2 writes it', '<|tool_call_start|>[get_weather(city="Paris")]<|tool_call_end|>Done.', [paris, say('Done.')]],
  ['text after', '[get_weather(city="Paris")] Done.', [paris, say('Done.')]],
  ['every literal', `[edit(a=1, b=-2.50, c=True, d=None, e=[1, 'x', (2,)], f={'k': {"n": false}}, g=1e3, h=1_000, i=+.5)]`, [call('edit', '{"a": 1, "b": -2.50, "c": true, "d": null, "e": [1, "x", [2]], "f": {"k": {"n": false}}, "g": 1e3, "h": 1000, "i": 0.5}')]],
  ['strings', `[edit(a='it\\'s', b="q\\"n\\n\\x41\\u00e9", c='Köln 数 😀', d='two ' "parts", e=')]', f='''t''')]`, [call('edit', '{"a": "it\'s", "b": "q\\"n\\nAé", "c": "Köln 数 😀", "d": "two parts", "e": ")]", "f": "t"}')]],
  ['not a tool', '[other(a=1)]', [say('[other(a=1)]')]],
  ['malformed: a variable', '[get_weather(city=paris)]', [say('[get_weather(city=paris)]')]],
  ['malformed: no keyword', '[get_weather("Paris")]', [say('[get_weather("Paris")]')]],
  ['malformed in second place', '[get_weather(city="Paris"), now(x)]', [paris, say('now(x)]')]],
  ['cut in a call', '[get_weather(city="Paris"), get_weather(city="R', [paris, say('get_weather(city="R')]],
  ['cut in the first call', '[get_weather(city="P', [say('[get_weather(city="P')]],
]; // biome-ignore format: one transcript a row

const parameter = (name: string, value: string) => `<parameter=${name}>\n${value}\n</parameter>\n`;
const xmlCall = (name: string, ...parameters: string[]) =>
  `<tool_call>\n<function=${name}>\n${parameters.join('')}</function>\n</tool_call>`;
const parametersOf = (values: Record<string, string>) =>
  Object.entries(values)
    .map(([name, value]) => parameter(name, value))
    .join('');
const everyType = parametersOf({
  path: '5',
  lines: '[1, 2]',
  options: '{"a": {"b": "c"}}',
  force: 'True',
  ratio: '0.5',
  mode: 'fast',
  unknown: '7',
});
const everyTypeAsJson =
  '{"path": "5", "lines": [1, 2], "options": {"a": {"b": "c"}}, "force": true, "ratio": 0.5, "mode": "fast", "unknown": "7"}';
const otherValues = parametersOf({
  options: "{'a': True}",
  ratio: 'null',
  mode: '3',
  lines: 'none',
  any: '{"x": 1}',
  force: 'maybe',
});
const otherValuesAsJson =
  '{"options": {"a": true}, "ratio": null, "mode": 3, "lines": null, "any": {"x": 1}, "force": "maybe"}';
const xml: Transcript[] = [
  ['no call', 'a < b and <function> or <tool>', [say('a < b and <function> or <tool>')]],
  ['one call', xmlCall('get_weather', parameter('city', 'Paris')), [paris]],
  ['two calls', `${xmlCall('get_weather', parameter('city', 'Paris'))}\n${xmlCall('now')}`, [paris, call('now', '{}')]],
  ['text around', `Sure.\n${xmlCall('get_weather', parameter('city', 'Paris'))}\nDone.`, [say('Sure.'), paris, say('Done.')]],
  ['types of the schema', xmlCall('edit', everyType), [call('edit', everyTypeAsJson)]],
  ['other values of those types', xmlCall('edit', otherValues), [call('edit', otherValuesAsJson)]],
  ['lines, quotes, tags, unicode', xmlCall('edit', parameter('path', 'a "b"\n\\c <tag> Köln 😀\n\tend\n')), [call('edit', '{"path": "a \\"b\\"\\n\\\\c <tag> Köln 😀\\n\\tend\\n"}')]],
  ['an empty value', xmlCall('edit', '<parameter=path></parameter>'), [call('edit', '{"path": ""}')]],
  ['no outer tag', '<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>', [paris]],
  ['no closing of a parameter', '<tool_call><function=edit><parameter=path>\nx\n<parameter=force>true</function></tool_call>', [call('edit', '{"path": "x", "force": true}')]],
  ['no closing of the function', '<tool_call>\n<function=now>\n</tool_call>', [call('now', '{}')]],
  ['an object instead', hermesCall('get_weather', '{"city": "Paris"}'), [paris]],
  ['malformed: no function', '<tool_call>\nnothing\n</tool_call>', [say('<tool_call>\nnothing\n</tool_call>')]],
  ['malformed: no name', '<function=>x', [say('<function=>x')]],
  ['cut in the name', '<tool_call>\n<function=get_w', [say('<tool_call>\n<function=get_w')]],
  ['cut in a value', '<tool_call>\n<function=get_weather>\n<parameter=city>\nPar', [call('get_weather', '{"city": "Par')]],
  ['cut between values', '<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n', [call('get_weather', '{"city": "Paris"')]],
]; // biome-ignore format: one transcript a row

const dsCall = (name: string, given: string) =>
  `<｜tool▁call▁begin｜>function<｜tool▁sep｜>${name}\n\`\`\`json\n${given}\n\`\`\`<｜tool▁call▁end｜>`;
const dsCalls = (...calls: string[]) => `<｜tool▁calls▁begin｜>${calls.join('\n')}<｜tool▁calls▁end｜>`;
const deepseek: Transcript[] = [
  ['no call', 'Words <｜tool', [say('Words <｜tool')]],
  ['one call', dsCalls(dsCall('get_weather', '{"city": "Paris"}')), [paris]],
  ['two calls', dsCalls(dsCall('get_weather', '{"city": "Paris"}'), dsCall('now', '{}')), [paris, call('now', '{}')]],
  ['text around', `Sure.${dsCalls(dsCall('now', '{}'))}Done.`, [say('Sure.'), call('now', '{}'), say('Done.')]],
  ['nested, escaped, unicode', dsCalls(dsCall('f', nested)), [call('f', nested)]],
  ['as V3.1 writes it', dsCalls('<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>', '<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜>'), [paris, call('now', '{}')]],
  ['malformed: no call', '<｜tool▁calls▁begin｜>none<｜tool▁calls▁end｜>', [say('<｜tool▁calls▁begin｜>none<｜tool▁calls▁end｜>')]],
  ['malformed in second place', dsCalls(dsCall('now', '{}'), '<｜tool▁call▁begin｜>?'), [call('now', '{}'), say('<｜tool▁call▁begin｜>?<｜tool▁calls▁end｜>')]],
  ['cut in the name', '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get', [say('<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get')]],
  ['cut in the arguments', '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{"city"', [call('get_weather', '{"city"')]],
]; // biome-ignore format: one transcript a row

const phi4: Transcript[] = [
  ['no call', 'About functools and lists [1].', [say('About functools and lists [1].')]],
  ['one call', 'functools[{"name": "get_weather", "arguments": {"city": "Paris"}}]', [paris]],
  ['two calls', 'functools[{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "now", "parameters": {}}]', [paris, call('now', '{}')]],
  ['text around', 'Sure. functools[{"name": "now", "arguments": {}}] Done.', [say('Sure.'), call('now', '{}'), say('Done.')]],
  ['between marks', '<|tool_call|>[{"name": "now", "arguments": {}}]<|/tool_call|>', [call('now', '{}')]],
  ['nested, escaped, unicode', `functools[{"name": "f", "arguments": ${nested}}]`, [call('f', nested)]],
  ['malformed', 'functools[reduce, partial]', [say('functools[reduce, partial]')]],
  ['cut in the arguments', 'functools[{"name": "get_weather", "arguments": {"city": "P', [call('get_weather', '{"city": "P')]],
]; // biome-ignore format: one transcript a row

const granite: Transcript[] = [
  ['no call', '[1] is a footnote.', [say('[1] is a footnote.')]],
  ['one call', '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]', [paris]],
  ['two calls', '<|tool_call|> [{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "now", "arguments": {}}]', [paris, call('now', '{}')]],
  ['as 3.1 writes it', '<tool_call>[{"name": "get_weather", "arguments": {"city": "Paris"}}]', [paris]],
  ['as 4 writes it', `${hermesCall('get_weather', '{"city": "Paris"}')}\n${hermesCall('now', '{}')}`, [paris, call('now', '{}')]],
  ['the list alone', '[{"name": "get_weather", "arguments": {"city": "Paris"}}]', [paris]],
  ['a list of others', '[{"name": "Ann", "arguments": {}}]', [say('[{"name": "Ann", "arguments": {}}]')]],
  ['text around', 'Sure. <|tool_call|>[{"name": "now", "arguments": {}}] Done.', [say('Sure.'), call('now', '{}'), say('Done.')]],
  ['nested, escaped, unicode', `<|tool_call|>[{"name": "f", "arguments": ${nested}}]`, [call('f', nested)]],
  ['malformed', '<|tool_call|>none', [say('<|tool_call|>none')]],
  ['cut in the arguments', '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "P', [call('get_weather', '{"city": "P')]],
]; // biome-ignore format: one transcript a row

const analysis = (text: string) => `<|channel|>analysis<|message|>${text}<|end|><|start|>assistant`;
const harmony: Transcript[] = [
  ['an answer', `${analysis('They greet.')}<|channel|>final<|message|>Hello!`, [think('They greet.'), say('Hello!')]],
  ['no reasoning', '<|channel|>final<|message|>Hello!<|return|>', [say('Hello!')]],
  ['one call', `${analysis('Need weather.')}<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>`, [think('Need weather.'), paris]],
  ['the receiver first', ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris"}', [paris]],
  ['the receiver in the role', '<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant to=functions.get_weather<|channel|>commentary<|message|>{"city": "Paris"}<|call|>', [think('Hm.'), paris]],
  ['two calls', '<|channel|>commentary to=functions.get_weather<|message|>{"city": "Paris"}<|call|><|start|>assistant<|channel|>commentary to=functions.now<|message|>{}<|call|>', [paris, call('now', '{}')]],
  ['a preamble', '<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant<|channel|>commentary to=functions.now<|message|>{}', [say('I will look.'), call('now', '{}')]],
  ['reasoning twice', `${analysis('One.')}${analysis('Two.')}<|channel|>final<|message|>Done.`, [think('One.\nTwo.'), say('Done.')]],
  ['no arguments', '<|channel|>commentary to=functions.now<|message|><|call|>', [call('now', '{}')]],
  ['nested, escaped, unicode', `<|channel|>commentary to=functions.f <|constrain|>json<|message|>${nested}<|call|>`, [call('f', nested)]],
  ['no end of a message', '<|channel|>analysis<|message|>Hm.<|start|>assistant<|channel|>final<|message|>Yes.', [think('Hm.'), say('Yes.')]],
  ['no harmony at all', 'Plain words.', [say('Plain words.')]],
  ['words between messages', '<|channel|>final<|message|>A.<|end|>B.', [say('A.B.')]],
  ['cut in the header', `${analysis('Hm.')}<|channel|>fin`, [think('Hm.')]],
  ['cut in the arguments', '<|channel|>commentary to=functions.get_weather<|message|>{"city": "P', [call('get_weather', '{"city": "P')]],
  ['cut in the reasoning', '<|channel|>analysis<|message|>Let me', [think('Let me')]],
]; // biome-ignore format: one transcript a row

const formats: Array<[tool: string, transcripts: Transcript[]]> = [
  ['hermes', hermes],
  ['llama3_json', llama],
  ['mistral', mistral],
  ['pythonic', pythonic],
  ['llama4_pythonic', pythonic],
  ['qwen3_coder', xml],
  ['qwen3_xml', xml],
  ['deepseek_v3', deepseek],
  ['deepseek_v31', deepseek],
  ['phi4_mini_json', phi4],
  ['granite', granite],
  ['granite4', granite],
  ['openai', harmony],
];

describe.each(formats)('calls as %s', (tool, transcripts) => {
  it.each(transcripts)('%s', (_name, text, expected) => {
    for (const pieces of cuts(text)) expect(read({ tool }, pieces), JSON.stringify(pieces)).toEqual(expected);
  });
});

type Reasoned = [name: string, reasoning: string, text: string, expected: Merged];
const reasoned: Reasoned[] = [
  ['qwen3: both marks', 'qwen3', '<think>\nHm, 1 < 2.\n</think>\n\nYes.\n', [think('Hm, 1 < 2.'), say('Yes.\n')]],
  ['qwen3: none', 'qwen3', '\nYes <think> no', [say('\nYes <think> no')]],
  ['qwen3: nothing reasoned', 'qwen3', '<think>\n\n</think>\n\nYes.', [say('Yes.')]],
  ['qwen3: cut', 'qwen3', '<think>\nHm </thi', [think('Hm </thi')]],
  ['qwen3: a call after it', 'qwen3', `<think>\nHm.\n</think>\n\n${hermesCall('now', '{}')}`, [think('Hm.'), call('now', '{}')]],
  ['qwen3: a call in it', 'qwen3', `<think>${hermesCall('now', '{}')}</think>No.`, [think(hermesCall('now', '{}')), say('No.')]],
  ['deepseek_r1: both marks', 'deepseek_r1', '<think>\nHm.\n</think>\nYes.', [think('Hm.'), say('Yes.')]],
  ['deepseek_r1: the first is left out', 'deepseek_r1', 'Hm.\n</think>\nYes.', [think('Hm.'), say('Yes.')]],
  ['deepseek_r1: cut', 'deepseek_r1', 'Hm. Let me', [think('Hm. Let me')]],
  ['granite', 'granite', 'Here is my thought process: Hm: 1. Here is my response: Yes.', [think('Hm: 1.'), say('Yes.')]],
  ['granite: short forms', 'granite', "Here's my thought process:\nHm.\nHere's my response:\nYes.", [think('Hm.'), say('Yes.')]],
  ['granite: none', 'granite', 'Here is my answer.', [say('Here is my answer.')]],
  ['mistral', 'mistral', '[THINK]Hm.[/THINK]Yes.', [think('Hm.'), say('Yes.')]],
  ['mistral: none', 'mistral', 'Yes.', [say('Yes.')]],
]; // biome-ignore format: one transcript a row

describe('reasoning', () => {
  it.each(reasoned)('%s', (_name, reasoning, text, expected) => {
    const tool = reasoning === 'qwen3' ? 'hermes' : 'none';
    for (const pieces of cuts(text)) {
      expect(read({ tool, reasoning }, pieces), JSON.stringify(pieces)).toEqual(expected);
    }
  });

  it('ends with a call where models leave out its end', () => {
    const parsers = { tool: 'qwen3_coder', reasoning: 'qwen3' };
    const transcripts: Array<[string, Merged]> = [
      [`<think>\nHm.\n${xmlCall('now')}`, [think('Hm.'), call('now', '{}')]],
      [`<think>\nHm, <tool_call>?\n</think>\nYes.`, [think('Hm, <tool_call>?'), say('Yes.')]],
      [`<think>Hm.</think>${xmlCall('now')}`, [think('Hm.'), call('now', '{}')]],
    ];
    for (const [text, expected] of transcripts) {
      for (const pieces of cuts(text)) expect(read(parsers, pieces)).toEqual(expected);
    }
  });

  it('may begin or end in the prompt', () => {
    const inside = { promptEnd: 'in reasoning' } as const;
    const after = { promptEnd: 'after reasoning' } as const;
    for (const reasoning of ['qwen3', 'deepseek_r1']) {
      const text = 'Hm.\n</think>\n\nYes.';
      for (const pieces of cuts(text, 10)) {
        expect(read({ reasoning }, pieces, inside)).toEqual([think('Hm.'), say('Yes.')]);
        expect(read({ reasoning }, pieces, after)).toEqual([say(text)]);
      }
    }
  });
});

describe('what a grammar holds', () => {
  const final = '<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>';
  it.each<[string, { tool?: string; reasoning?: string }, string, string]>([
    ['think', { reasoning: 'qwen3' }, '<think>Hm.</think>\n\n', '\n {"a": "</think>"}\n'],
    ['think, without its lead', { reasoning: 'qwen3' }, '<think>Hm.</think>', ' x'],
    ['think, in the prompt', { reasoning: 'deepseek_r1' }, 'Hm.\n</think>\n\n', '  x\n\n'],
    ['[THINK]', { reasoning: 'mistral' }, '[THINK]Hm.[/THINK]', '\n\nx'],
    ['harmony', { tool: 'openai' }, final, ' {"a": "<|end|> <|start|>"}\n'],
  ])('is all of what follows the reasoning: %s', (_name, parsers, reasoned, content) => {
    for (const pieces of cuts(reasoned + content, 20)) {
      expect(read(parsers, pieces, { isHeld: true })).toEqual([think('Hm.'), say(content)]);
    }
  });

  it('may be all there is', () => {
    for (const parsers of [{ reasoning: 'qwen3' }, { tool: 'openai' }]) {
      const after = { isHeld: true, promptEnd: 'after reasoning' } as const;
      expect(read(parsers, [' <|end|>x\n'], after)).toEqual([say(' <|end|>x\n')]);
    }
    expect(read({ reasoning: 'qwen3' }, ['\nx '], { isHeld: true })).toEqual([say('\nx ')]);
  });

  it('is not there when the end cuts what leads to it', () => {
    for (const cut of ['<think>Hm.</think>', '<think>Hm.</think>\n'])
      expect(read({ reasoning: 'qwen3' }, [cut], { isHeld: true })).toEqual([think('Hm.')]);
  });
});

describe('harmony without tools', () => {
  it('says what it would have called', () => {
    const text = '<|channel|>commentary to=functions.now<|message|>{}<|call|>';
    expect(read({ tool: 'openai' }, [text], { readsCalls: false })).toEqual([say('{}')]);
  });
});
