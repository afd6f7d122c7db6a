// The text a client gets is exactly what transformers generates: streamed or not, through the official client
// and curl.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { greedyCases, hasStories, storiesFolder } from '../stories260k.ts';
import { type ServerProcess, startServer } from './server-process.ts';

const chatTemplate = new URL('../fixtures/plain-chat.jinja', import.meta.url).pathname;

describe.skipIf(!hasStories)('greedy text of stories260k', () => {
  let server: ServerProcess;
  let client: OpenAI;

  beforeAll(async () => {
    server = await startServer(storiesFolder, [
      '--served-model-name',
      'stories',
      '--chat-template',
      chatTemplate,
    ]);
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  });
  afterAll(async () => {
    expect(await server?.stop()).toBe(0);
  });

  it.each(greedyCases)('completes "$prompt"', async ({ prompt, promptTokenIds, text }) => {
    const request = { model: 'stories', prompt, max_tokens: 80, temperature: 0 };
    const whole = await client.completions.create(request);
    expect(whole.choices[0].text).toBe(text);
    expect(whole.choices[0].finish_reason).toBe('length');
    expect(whole.usage).toMatchObject({ prompt_tokens: promptTokenIds.length, completion_tokens: 80 });

    let streamed = '';
    for await (const chunk of await client.completions.create({ ...request, stream: true })) {
      streamed += chunk.choices[0]?.text ?? '';
    }
    expect(streamed).toBe(text);

    const fromIds = await client.completions.create({ ...request, prompt: promptTokenIds });
    expect(fromIds.choices[0].text).toBe(text);
  });

  it('completes all of them as one request with a list of prompts', async () => {
    const answer = await client.completions.create({
      model: 'stories',
      prompt: greedyCases.map(({ prompt }) => prompt),
      max_tokens: 80,
      temperature: 0,
    });
    expect(answer.choices.map(({ text }) => text)).toEqual(greedyCases.map(({ text }) => text));
    expect(answer.choices.map(({ index }) => index)).toEqual(greedyCases.map((_, i) => i));
  });

  it('chats: the template hands the message over as it is', async () => {
    const { prompt, text } = greedyCases[0];
    const request = {
      model: 'stories',
      messages: [{ role: 'user' as const, content: prompt }],
      max_completion_tokens: 80,
      temperature: 0,
    };
    const whole = await client.chat.completions.create(request);
    expect(whole.choices[0].message).toMatchObject({ role: 'assistant', content: text });
    const stream = await client.chat.completions.create({
      ...request,
      stream: true,
      stream_options: { include_usage: true },
    });
    let streamed = '';
    let usage = null;
    for await (const chunk of stream) {
      streamed += chunk.choices[0]?.delta.content ?? '';
      usage = chunk.usage ?? usage;
    }
    expect(streamed).toBe(text);
    expect(usage).toMatchObject({ completion_tokens: 80 });
  });

  it('answers curl', async () => {
    const { prompt, text } = greedyCases[0];
    const body = JSON.stringify({ prompt, max_tokens: 80, temperature: 0 });
    const post = ['-sS', '-H', 'content-type: application/json', `${server.url}/v1/completions`, '-d'];
    const whole = await promisify(execFile)('curl', [...post, body]);
    expect(JSON.parse(whole.stdout).choices[0].text).toBe(text);

    const streamed = await promisify(execFile)('curl', ['-N', ...post, body.replace('{', '{"stream":true,')]);
    const events = streamed.stdout.split('\n\n').filter((event) => event.startsWith('data: '));
    expect(events.at(-1)).toBe('data: [DONE]');
    const chunks = events.slice(0, -1).map((event) => JSON.parse(event.slice('data: '.length)));
    expect(chunks.map((chunk) => chunk.choices[0]?.text ?? '').join('')).toBe(text);
  });

  it('reports log-probabilities of prompt and answer', async () => {
    const { prompt, promptTokenIds, text } = greedyCases[0];
    const answer = await client.completions.create({
      model: 'stories',
      prompt,
      max_tokens: 80,
      temperature: 0,
      echo: true,
      logprobs: 2,
    });
    const [choice] = answer.choices;
    expect(choice.text).toBe(prompt + text);
    const logprobs = choice.logprobs;
    expect(logprobs?.tokens).toHaveLength(promptTokenIds.length + 80);
    expect(logprobs?.token_logprobs?.[0]).toBeNull();
    for (const logprob of logprobs?.token_logprobs?.slice(1) ?? []) expect(logprob).toBeLessThanOrEqual(0);
    // Greedy: the sampled token is the likeliest.
    const generated = logprobs?.top_logprobs?.slice(promptTokenIds.length) ?? [];
    const sampled = logprobs?.token_logprobs?.slice(promptTokenIds.length) ?? [];
    generated.forEach((top, i) => {
      expect(Math.max(...Object.values(top))).toBeCloseTo(sampled[i] as number, 5);
    });
  });
});
