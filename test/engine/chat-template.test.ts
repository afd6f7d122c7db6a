// Rendered prompts are transformers', and a template can do nothing but render.

import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { ChatTemplate, readTemplate } from '../../engine/chat-template.ts';
import type { ChatMessage, ChatPrompt } from '../../engine/prompt.ts';

interface Case {
  template: string;
  name: string;
  messages: ChatMessage[];
  tools: unknown[] | null;
  documents: unknown[] | null;
  variables: Record<string, unknown>;
  addGenerationPrompt: boolean;
  continueFinalMessage: boolean;
  text?: string;
  error?: string;
}

const read = (path: string) => readFileSync(new URL(path, import.meta.url), 'utf8');
const golden: { specialTokens: Record<string, string>; cases: Case[] } = JSON.parse(
  read('../golden/chat-templates.json'),
);

const question: ChatPrompt = {
  messages: [{ role: 'user', content: 'Hi' }],
  addGenerationPrompt: true,
  continueFinalMessage: false,
  addSpecialTokens: false,
};

describe('templates in the forms of the model families', () => {
  it.each(golden.cases)('$template: $name', (given) => {
    const template = new ChatTemplate(read(`../fixtures/templates/${given.template}`), golden.specialTokens);
    const render = () =>
      template.render({
        messages: given.messages,
        tools: given.tools ?? undefined,
        documents: given.documents ?? undefined,
        templateVariables: given.variables,
        addGenerationPrompt: given.addGenerationPrompt,
        continueFinalMessage: given.continueFinalMessage,
        addSpecialTokens: false,
      });
    if (given.error === undefined) expect(render()).toBe(given.text);
    else expect(render).toThrow(`the chat template refused the messages: ${given.error}`);
  });
});

describe('a template reaches nothing but its values', () => {
  it.each([
    '{{ messages.constructor }}',
    '{{ messages.__proto__ }}',
    '{{ "".constructor }}',
    '{{ messages[0].constructor }}',
    '{{ messages[0]["__proto__"] }}',
    '{{ namespace.constructor }}',
    '{{ process }}{{ globalThis }}{{ require }}{{ global }}{{ self }}',
  ])('%s is nothing', (text) => {
    expect(new ChatTemplate(text, {}).render(question)).toBe('');
  });

  it.each([
    '{{ strftime_now.constructor("return 1")() }}',
    '{{ "".__class__.__mro__[1].__subclasses__() }}',
    '{{ require("fs") }}',
    '{% include "/etc/passwd" %}',
    '{% import "/etc/passwd" as x %}',
  ])('%s is refused', (text) => {
    expect(() => new ChatTemplate(text, {}).render(question)).toThrow(/the chat template/);
  });

  it('variables of the request cannot replace the messages', () => {
    const template = new ChatTemplate('{{ messages | length }}{{ add_generation_prompt }}', {});
    const templateVariables = { messages: [], add_generation_prompt: false };
    expect(template.render({ ...question, templateVariables })).toBe('1true');
  });
});

it('names what is wrong with a template that is none', () => {
  expect(() => new ChatTemplate('{% for m in messages %}', {})).toThrow(/the chat template is not valid: /);
});

it('refuses to continue a message that the template does not write out', () => {
  const template = new ChatTemplate('nothing of it', {});
  const prompt = { ...question, addGenerationPrompt: false, continueFinalMessage: true };
  expect(() => template.render(prompt)).toThrow(/continue_final_message needs/);
});

describe('where a template comes from', () => {
  let folder = '';
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it.each([
    ['none', {}, null, null],
    ['tokenizer_config.json', { chat_template: 'A' }, null, 'A'],
    [
      'its list of named ones',
      {
        chat_template: [
          { name: 'rag', template: 'R' },
          { name: 'default', template: 'D' },
        ],
      },
      null,
      'D',
    ],
    ['a list without default', { chat_template: [{ name: 'rag', template: 'R' }] }, null, null],
    ['chat_template.jinja before the config', { chat_template: 'A' }, 'B', 'B'],
  ])('%s', async (_name, config, file, expected) => {
    folder = await mkdtemp(join(tmpdir(), 'quire-template-'));
    await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(config));
    if (file !== null) await writeFile(join(folder, 'chat_template.jinja'), file);
    expect((await readTemplate(folder, null)).template).toBe(expected);
    expect((await readTemplate(folder, 'given')).template).toBe('given');
  });

  it('special tokens, as strings or objects', async () => {
    folder = await mkdtemp(join(tmpdir(), 'quire-template-'));
    const config = { bos_token: '<s>', eos_token: { content: '</s>', lstrip: false }, pad_token: null };
    await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(config));
    expect((await readTemplate(folder, null)).specialTokens).toEqual({ bos_token: '<s>', eos_token: '</s>' });
  });
});
