// A grammar holds what comes after the reasoning. The model that ships does not reason, so here two of its
// tokens are marks of reasoning, and a bias has it say them now and then: where it begins and ends is chance.

import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServerProcess, startServer } from './server-process.ts';

const shipped = fileURLToPath(new URL('../../models/quire-demo', import.meta.url));

/** The model with other words for some of its tokens, and another beginning of its answers. */
async function reworded(words: Record<string, string>, isSpecial: boolean, opening: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'quire-reasoning-'));
  for (const name of await readdir(shipped)) await copyFile(join(shipped, name), join(folder, name));
  const path = join(folder, 'tokenizer.json');
  const tokenizer = JSON.parse(await readFile(path, 'utf8'));
  for (const token of tokenizer.added_tokens) {
    const word = words[token.content];
    if (word !== undefined) Object.assign(token, { content: word, special: isSpecial });
  }
  await writeFile(path, JSON.stringify(tokenizer));
  const templatePath = join(folder, 'chat_template.jinja');
  const template = await readFile(templatePath, 'utf8');
  await writeFile(templatePath, template.replace("{{- '<|im_start|>assistant\\n' }}", opening));
  return folder;
}

const schema = {
  type: 'object',
  properties: {
    color: { enum: ['red', 'green'] },
    isOn: { type: 'boolean' },
    level: { type: 'integer', minimum: -9, maximum: 99 },
  },
  required: ['color', 'isOn'],
  additionalProperties: false,
};
const answerPattern = /^\{\s*"color":\s*"(red|green)",\s*"isOn":\s*(true|false)(,\s*"level":\s*-?\d+)?\s*\}$/;
const tools = [{ type: 'function', function: { name: 'paint', parameters: schema } }];
const response_format = { type: 'json_schema', json_schema: { name: 'lamp', schema } };

// biome-ignore lint/suspicious/noExplicitAny: answers of many shapes
type Answer = any;

async function post(server: ServerProcess, path: string, body: object): Promise<Response> {
  return fetch(`${server.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
}

async function whole(server: ServerProcess, path: string, body: object): Promise<Answer> {
  const response = await post(server, path, body);
  const answer: Answer = await response.json();
  expect(response.status, JSON.stringify(answer)).toBe(200);
  return answer;
}

/** What a stream of a chat says, by choice. */
async function streamed(server: ServerProcess, body: object): Promise<Map<number, object>> {
  const text = await (await post(server, '/v1/chat/completions', { ...body, stream: true })).text();
  const said = new Map<number, { content: string; reasoning: string; finish: string | null }>();
  for (const line of text.split('\n')) {
    if (!line.startsWith('data: {')) continue;
    for (const { index, delta, finish_reason: finish } of JSON.parse(line.slice(6)).choices) {
      const one = said.get(index) ?? { content: '', reasoning: '', finish: null };
      one.content += delta.content ?? '';
      one.reasoning += delta.reasoning ?? '';
      one.finish = finish ?? one.finish;
      said.set(index, one);
    }
  }
  return said;
}

const thinkWords = { '<tool_response>': '<think>', '</tool_response>': '</think>' };
const [startId, endId] = [2044, 2045];
const opening = `{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined -%}
{{ '<think>\\n' if enable_thinking else '<think>\\n\\n</think>\\n\\n' }}{%- endif -%}`;

describe('an answer that must match something', () => {
  let folder: string;
  let server: ServerProcess;
  beforeAll(async () => {
    folder = await reworded(thinkWords, false, opening);
    const flags = ['--num-gpu-blocks-override', '48', '--max-model-len', '512', '--disable-log-requests'];
    server = await startServer(folder, [...flags, '--served-model-name', 'm']);
  });
  afterAll(async () => {
    expect(await server?.stop()).toBe(0);
    await rm(folder, { recursive: true });
  });

  const messages = [{ role: 'user', content: 'What is the weather in Paris?' }];
  const body = (seed: number, more: object = {}) => ({
    model: 'm',
    messages,
    seed,
    max_tokens: 150,
    // Reasoning in about half of the answers, of some tens of tokens.
    logit_bias: { [startId]: -2, [endId]: 6 },
    response_format,
    ...more,
  });
  const chat = (seed: number, more: object = {}) =>
    whole(server, '/v1/chat/completions', body(seed, more)).then(({ choices }) => choices);
  /** With eight tokens of reasoning. */
  const briefly = {
    logit_bias: { [endId]: -100 },
    thinking_token_budget: 8,
    chat_template_kwargs: { enable_thinking: true },
  };
  const seeds = Array.from({ length: 24 }, (_, i) => 100 * i);

  it('has its reasoning before, in any of many, alone or in a crowd', async () => {
    const crowd = await Promise.all(seeds.map((seed) => chat(seed, { n: 2 })));
    let numReasoned = 0;
    let numWhole = 0;
    for (const [i, seed] of seeds.entries()) {
      const stream = await streamed(server, body(seed, { n: 2 }));
      for (const { index, message, finish_reason: finish } of crowd[i]) {
        const { content, reasoning = '' } = message;
        expect(stream.get(index), `seed ${seed}`).toEqual({ content: content ?? '', reasoning, finish });
        expect(message.reasoning_content ?? '').toBe(reasoning);
        if (reasoning !== '') numReasoned++;
        if (finish === 'stop') {
          expect(content).toMatch(answerPattern);
          numWhole++;
        } else expect(finish).toBe('length');
      }
    }
    // The draw must reach what it is meant to reach.
    expect(numReasoned).toBeGreaterThan(5);
    expect(2 * seeds.length - numReasoned).toBeGreaterThan(5);
    expect(numWhole).toBeGreaterThan(24);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(Number(/num_preemptions_total\S* (\d+)/.exec(metrics)?.[1])).toBeGreaterThan(0);
  });

  it('is null when nothing but reasoning fits', async () => {
    const given = { logit_bias: { [startId]: 100, [endId]: -100 }, max_tokens: 12 };
    for (const more of [{}, { include_reasoning: false }]) {
      const [{ message, finish_reason: finish }] = await chat(1, { ...given, ...more });
      expect([message.content, finish]).toEqual([null, 'length']);
      expect('reasoning' in message).toBe(!('include_reasoning' in more));
    }
  });

  it('begins when a budget is spent', async () => {
    const given = { logit_bias: { [startId]: 100, [endId]: -100 }, thinking_token_budget: 5 };
    const answer = await whole(server, '/v1/chat/completions', body(2, { ...given, bad_words: ['\n\n'] }));
    expect(answer.choices[0].message.content).toMatch(answerPattern);
    expect(answer.usage.completion_tokens_details.reasoning_tokens).toBe(5);
  });

  it('goes by the prompt', async () => {
    const [inside] = await chat(3, briefly);
    expect(inside.message.reasoning).not.toBe('');
    expect(inside.message.content).toMatch(answerPattern);
    const [after] = await chat(3, { chat_template_kwargs: { enable_thinking: false } });
    expect(after.message).not.toHaveProperty('reasoning');
    expect(after.message.content).toMatch(answerPattern);
  });

  it('keeps the white space that the grammar asks for', async () => {
    const more = { response_format: undefined, structured_outputs: { regex: '\\n {3}x\\n' } };
    const [{ message }] = await chat(4, { ...briefly, ...more });
    expect(message.content).toBe('\n   x\n');
  });

  it('may be calls', async () => {
    const more = { ...briefly, response_format: undefined, tools };
    for (const tool_choice of ['required', { type: 'function', function: { name: 'paint' } }]) {
      const [{ message, finish_reason: finish }] = await chat(5, { ...more, tool_choice });
      expect(finish).toBe('tool_calls');
      expect(message.reasoning).not.toBe('');
      for (const call of message.tool_calls) expect(call.function.arguments).toMatch(answerPattern);
    }
  });

  it('has log-probabilities, of reasoning and answer', async () => {
    const [{ message, logprobs }] = await chat(6, { ...briefly, logprobs: true });
    const text = logprobs.content.map(({ token }: { token: string }) => token).join('');
    expect(text.replace(/<\|im_end\|>$/, '').endsWith(`</think>\n\n${message.content}`)).toBe(true);
    expect(message.reasoning).not.toBe('');
    expect(text).toContain(message.reasoning);
  });

  it('is so in the other dialects', async () => {
    const response = await whole(server, '/v1/responses', {
      ...{ model: 'm', input: 'Hello', seed: 7, store: false, ...briefly },
      text: { format: { type: 'json_schema', name: 'lamp', schema } },
    });
    expect(response.output.map(({ type }: { type: string }) => type)).toEqual(['reasoning', 'message']);
    expect(response.output[1].content[0].text).toMatch(answerPattern);
    const { content } = await whole(server, '/v1/messages', {
      ...{ model: 'm', messages, temperature: 0, max_tokens: 200 },
      thinking: { type: 'enabled', budget_tokens: 8 },
      output_config: { format: { type: 'json_schema', schema } },
    });
    expect(content.map(({ type }: { type: string }) => type)).toEqual(['thinking', 'text']);
    expect(content[1].text).toMatch(answerPattern);
  });
});

describe('an answer in harmony that must match something', () => {
  let folder: string;
  let server: ServerProcess;
  beforeAll(async () => {
    const marks = ['<|start|>', '<|channel|>', '<|message|>', '<|end|>'];
    const names = ['<tool_call>', '</tool_call>', '<tool_response>', '</tool_response>'];
    const words = Object.fromEntries(names.map((name, i) => [name, marks[i]]));
    folder = await reworded(words, true, "{{- '<|start|>assistant' }}{#- <|channel|><|message|> -#}");
    server = await startServer(folder, ['--served-model-name', 'm', '--disable-log-requests']);
  });
  afterAll(async () => {
    expect(await server?.stop()).toBe(0);
    await rm(folder, { recursive: true });
  });

  it('is the final message, after an analysis', async () => {
    for (let seed = 0; seed < 8; seed++) {
      const body = {
        ...{ model: 'm', messages: [{ role: 'user', content: 'Hello' }], seed, max_tokens: 150 },
        ...{ logit_bias: { [endId]: 8 }, response_format },
      };
      const { choices } = await whole(server, '/v1/chat/completions', body);
      const [{ message, finish_reason: finish }] = choices;
      expect((await streamed(server, body)).get(0)).toMatchObject({ content: message.content ?? '', finish });
      expect(finish).toBe('stop');
      expect(message.content).toMatch(answerPattern);
    }
  });

  it('keeps text that looks like a mark', async () => {
    const text = 'a<|end|>b';
    const { choices } = await whole(server, '/v1/chat/completions', {
      ...{ model: 'm', messages: [{ role: 'user', content: 'Hello' }], seed: 1, max_tokens: 150 },
      ...{ logit_bias: { [endId]: 8 }, structured_outputs: { choice: [text] } },
    });
    expect(choices[0].message.content).toBe(text);
  });

  it('goes on with a final message', async () => {
    const { choices } = await whole(server, '/v1/chat/completions', {
      model: 'm',
      messages: [
        { role: 'user', content: 'Hello' },
        { role: 'assistant', content: 'It is' },
      ],
      ...{ continue_final_message: true, structured_outputs: { regex: ' (red|green)\\.' } },
    });
    expect(choices[0].message.content).toMatch(/^ (red|green)\.$/);
    expect(choices[0].message).not.toHaveProperty('reasoning');
  });
});
