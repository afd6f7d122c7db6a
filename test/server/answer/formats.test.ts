// Which parser a model gets by its chat template, and what parsers do with text that is none of theirs.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AnswerStream } from '../../../server/answer/answer-stream.ts';
import {
  answerFormat,
  promptEndOf,
  reasoningParserNames,
  toolParserNames,
} from '../../../server/answer/formats.ts';
import { reasoningFormats } from '../../../server/answer/reasoning-formats.ts';
import { toolFormats } from '../../../server/answer/tool-formats.ts';
import { cuts, read, tools } from './merge.ts';

/** What the templates of the families write where they show tools, calls and reasoning. */
const templates: Array<[family: string, template: string, tools: string, reasoning: string]> = [
  ['Qwen 2.5, Hermes', '{"name": <function-name>, ...} within <tool_call></tool_call> XML tags:', 'hermes', 'none'],
  ['Qwen 3', "<tool_call>\\n{\"name\": ... {%- if '</think>' in content %}", 'hermes', 'qwen3'],
  ['Qwen 3 Coder', '<tool_call>\\n<function=example_function_name>\\n<parameter=example_parameter_1>', 'qwen3_coder', 'none'],
  ['Qwen 3.5', "<tool_call>\\n<function=example_function_name> ... '<think>\\n'", 'qwen3_coder', 'qwen3'],
  ['Llama 3.1', "'<|start_header_id|>' 'Respond in the format {\"name\": function name, \"parameters\": dictionary' '<|python_tag|>'", 'llama3_json', 'none'],
  ['Llama 3.2, pythonic', 'Respond in the format [func_name1(params_name1=params_value1), func_name2(params)]', 'pythonic', 'none'],
  ['Llama 4', "'<|python_start|>' '<|python_end|>' {\"name\": function name", 'pythonic', 'none'],
  ['LFM2', "'<|tool_call_start|>' + calls + '<|tool_call_end|>'", 'pythonic', 'none'],
  ['Mistral', "'[AVAILABLE_TOOLS]' '[TOOL_CALLS]'", 'mistral', 'none'],
  ['Magistral', "'[TOOL_CALLS]' '[THINK]' '[/THINK]'", 'mistral', 'mistral'],
  ['DeepSeek V3', "'<｜Assistant｜>' '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>'", 'deepseek_v3', 'none'],
  ['DeepSeek R1', "'<｜Assistant｜><think>\\n' content.split('</think>') '<｜tool▁call▁begin｜>'", 'deepseek_v3', 'deepseek_r1'],
  ['Phi-4-mini', "'<|tool|>' + message['tools'] + '<|/tool|>'", 'phi4_mini_json', 'none'],
  ['Granite 3.2', "'<|start_of_role|>' 'Here is my thought process:'", 'granite', 'granite'],
  ['Granite 4', "'<|start_of_role|>' '<tool_call>'", 'granite', 'none'],
  ['gpt-oss', "'<|start|>assistant<|channel|>final<|message|>'", 'openai', 'openai_gptoss'],
  ['Llama 2', "'[INST] ' + content + ' [/INST]'", 'none', 'none'],
]; // biome-ignore format: one family a row

describe('the format of answers', () => {
  it.each(templates)('goes by the template of %s', (_family, template, toolParser, reasoningParser) => {
    expect(answerFormat(template, 'auto', 'auto')).toEqual(answerFormat(null, toolParser, reasoningParser));
  });

  it('is plain text without a template', () => {
    expect(answerFormat(null, 'auto', 'auto')).toEqual({
      toolParser: 'none',
      reasoningParser: 'none',
      isHarmony: false,
      tools: null,
      reasoning: null,
    });
  });

  it('goes by the names that options give', () => {
    expect(answerFormat('<tool_call>', 'mistral', 'qwen3')).toEqual({
      toolParser: 'mistral',
      reasoningParser: 'qwen3',
      isHarmony: false,
      tools: toolFormats.mistral,
      reasoning: reasoningFormats.qwen3,
    });
    expect(answerFormat('<tool_call><think>', 'none', 'none')).toMatchObject({
      tools: null,
      reasoning: null,
    });
  });
});

describe('the end of a prompt', () => {
  const format = answerFormat(null, 'none', 'qwen3');
  it.each([
    ['nothing', '<|im_start|>assistant\n', null, 'open'],
    ['an open mark', '<|im_start|>assistant\n<think>\n', null, 'in reasoning'],
    ['a closed one', '<|im_start|>assistant\n<think>\n\n</think>\n\n', null, 'after reasoning'],
    ['a mark that a message says', 'user\nwhat is <think>?\nassistant\n', null, 'open'],
    ['a message cut in its reasoning', '...', '<think>Hm', 'in reasoning'],
    ['a message cut after it', '...', '<think>Hm</think>Ye', 'after reasoning'],
    ['a message without any', '...', 'Ye', 'after reasoning'],
  ] as const)('%s', (_name, prompt, continued, expected) => {
    expect(promptEndOf(format, prompt, continued)).toBe(expected);
  });
});

const marks = [...Object.values(toolFormats), ...Object.values(reasoningFormats)].flatMap((format) => [
  ...format.opens,
  ...('opensAtStart' in format ? (format.opensAtStart ?? []) : []),
  ...('innerMarks' in format ? (format.innerMarks ?? []) : []),
  ...('closes' in format ? format.closes : []),
]);
const harmonyWords = [
  '<|start|>',
  '<|channel|>',
  '<|message|>',
  '<|end|>',
  'analysis',
  ' to=functions.now',
  'final',
];
const words = [
  ...marks, ...harmonyWords, '{"name": "now", ', '"arguments": ', '"parameters": ', 'now(', 'city=', 'now>', 'city>',
  '```json\n', '{', '}', '[', ']', '(', ')', '"', "'", '\\', ' ', '\n', ',', ';', ':', '1', 'x', 'é', '😀', 'null', '<', '|',
]; // biome-ignore format: one list

const allParsers = [
  ...toolParserNames.map((tool) => ({ tool, reasoning: 'none' })),
  ...reasoningParserNames.map((reasoning) => ({ tool: 'hermes', reasoning })),
  { tool: 'qwen3_coder', reasoning: 'qwen3' },
];

describe.each(allParsers)('calls as $tool, reasoning as $reasoning', (parsers) => {
  it('say the same in any pieces, whatever the text', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...words), { maxLength: 30 }), (pieces) => {
        const whole = read(parsers, [pieces.join('')]);
        expect(read(parsers, pieces)).toEqual(whole);
        expect(read(parsers, [...pieces.join('')])).toEqual(whole);
      }),
      { numRuns: 300 },
    );
  });

  it('take any characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
        const whole = read(parsers, [text]);
        expect(read(parsers, [...text])).toEqual(whole);
      }),
      { numRuns: 200 },
    );
  });

  it('leave text without marks as it is', () => {
    // What R1 says before </think> is reasoning by definition.
    const type = parsers.reasoning === 'deepseek_r1' ? 'reasoning' : 'content';
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('a', 'é', '😀', '.', '"', "'", '(', ' b', '\nc'), { minLength: 1 }),
        (pieces) => {
          const text = pieces.join('');
          expect(read(parsers, pieces)).toEqual([[type, type === 'reasoning' ? text.trimStart() : text]]);
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe('long answers', () => {
  it('cost time in proportion', () => {
    const format = answerFormat(null, 'hermes', 'none');
    const options = {
      readsCalls: true,
      tools,
      promptEnd: 'open',
      isHeld: false,
      onlyOneCall: false,
    } as const;
    const attempts: Array<[string, string]> = [
      ['marks that begin no call', '<tool_call>'.repeat(20_000)],
      ['calls that never end', '<tool_call>{"a": ['.repeat(10_000)],
      ['one long argument', `<tool_call>{"name": "f", "arguments": {"a": "${'x'.repeat(300_000)}"}}`],
      ['white space', ' '.repeat(300_000)],
    ];
    for (const [name, text] of attempts) {
      const started = performance.now();
      const stream = new AnswerStream(format, options);
      for (let at = 0; at < text.length; at += 4) stream.push(text.slice(at, at + 4));
      stream.finish();
      expect(performance.now() - started, name).toBeLessThan(2000);
    }
  });
});

describe('tokens of the reasoning', () => {
  const call = '<tool_call>\n<function=now>\n</function>\n</tool_call>';
  it.each([
    ['between marks', '<think>\none two\n</think>\n\nthree', '\none two\n'],
    ['with what is no call', '<think>one <tool_call> two</think>three', 'one <tool_call> two'],
    ['before a call', `<think>one\n${call}`, 'one\n'],
    ['cut off', '<think>one two', 'one two'],
    ['none', 'one two', ''],
  ])('are counted the same in any pieces: %s', (_name, text, reasoned) => {
    const format = answerFormat(null, 'qwen3_coder', 'qwen3');
    for (const pieces of cuts(text).slice(2)) {
      const stream = new AnswerStream(format, {
        readsCalls: true,
        tools,
        promptEnd: 'open',
        isHeld: false,
        onlyOneCall: false,
      });
      for (const piece of pieces)
        stream.push(
          piece,
          [...piece].map(({ length }) => length),
        );
      stream.finish();
      expect(stream.numReasoningTokens, JSON.stringify(pieces)).toBe(reasoned.length);
    }
  });
});
