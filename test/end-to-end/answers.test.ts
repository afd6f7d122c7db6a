// What the fields of a request do to its answer, through the official client.

import OpenAI, { AuthenticationError, BadRequestError, NotFoundError } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { greedyCases, hasStories, storiesFolder } from '../stories260k.ts';
import { type ServerProcess, startServer } from './server-process.ts';

const chatTemplate = new URL('../fixtures/plain-chat.jinja', import.meta.url).pathname;
const key = 'a-key';

describe.skipIf(!hasStories)('answers of stories260k', () => {
  const { prompt, text: story, tokenIds } = greedyCases[0];
  const greedy = { model: 'stories', prompt, temperature: 0, max_tokens: 30 } as const;
  let server: ServerProcess;
  let client: OpenAI;

  beforeAll(async () => {
    const flags = ['--served-model-name', 'stories', '--chat-template', chatTemplate, '--api-key', key];
    server = await startServer(storiesFolder, flags);
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: key, maxRetries: 0 });
  });
  afterAll(async () => {
    expect(await server?.stop()).toBe(0);
  });

  /** Fields that the client does not know. */
  const more = (fields: object): object => fields;

  it('lists its model', async () => {
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toEqual(['stories']);
    expect((await client.models.retrieve('stories')).id).toBe('stories');
  });

  it('refuses with the errors the client has classes for', async () => {
    const stranger = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'wrong', maxRetries: 0 });
    await expect(stranger.models.list()).rejects.toThrow(AuthenticationError);
    await expect(client.completions.create({ ...greedy, model: 'gpt-9' })).rejects.toThrow(NotFoundError);
    const bad = client.completions.create({ ...greedy, temperature: 3 });
    await expect(bad).rejects.toThrow(BadRequestError);
    await expect(bad).rejects.toMatchObject({ param: 'temperature', code: 'invalid_value' });
  });

  it('ends at a stop string, which spans tokens, and leaves it out or in', async () => {
    const stop = story.slice(20, 27);
    const whole = await client.completions.create({ ...greedy, stop, max_tokens: 80 });
    expect(whole.choices[0]).toMatchObject({
      text: story.slice(0, story.indexOf(stop)),
      finish_reason: 'stop',
      stop_reason: stop,
    });
    const included = await client.completions.create({
      ...greedy,
      stop: [stop, 'never'],
      ...more({ include_stop_str_in_output: true }),
    });
    expect(included.choices[0].text).toBe(story.slice(0, story.indexOf(stop) + stop.length));
    let streamed = '';
    const stream = await client.completions.create({ ...greedy, stop, max_tokens: 80, stream: true });
    for await (const chunk of stream) streamed += chunk.choices[0]?.text ?? '';
    expect(streamed).toBe(whole.choices[0].text);
  });

  it('ends at a stop token, and not before min_tokens', async () => {
    const stopToken = tokenIds[5];
    const first = tokenIds.indexOf(stopToken);
    const early = await client.completions.create({
      ...greedy,
      ...more({ stop_token_ids: [stopToken], return_token_ids: true }),
    });
    expect(early.choices[0]).toMatchObject({
      finish_reason: 'stop',
      stop_reason: stopToken,
      token_ids: tokenIds.slice(0, first + 1),
    });
    const late = await client.completions.create({
      ...greedy,
      ...more({ stop_token_ids: [stopToken], min_tokens: first + 2 }),
    });
    expect(late.usage?.completion_tokens).toBeGreaterThan(first + 1);
  });

  it('gives n choices: different by default, each the same again under a seed', async () => {
    const request = { ...greedy, n: 4, temperature: 1, seed: 7 };
    const once = await client.completions.create(request);
    const again = await client.completions.create(request);
    const texts = once.choices.map(({ text }) => text);
    expect(once.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    expect(new Set(texts).size).toBe(4);
    expect(again.choices.map(({ text }) => text)).toEqual(texts);
    expect(once.usage).toMatchObject({ completion_tokens: 120 });
    const other = await client.completions.create({ ...request, seed: 8 });
    expect(other.choices.map(({ text }) => text)).not.toEqual(texts);

    const streamed = ['', '', '', ''];
    for await (const chunk of await client.completions.create({ ...request, stream: true })) {
      for (const { index, text } of chunk.choices) streamed[index] += text;
    }
    expect(streamed).toEqual(texts);
  });

  it('follows logit_bias: a banned token never comes, a favoured one always', async () => {
    const banned = await client.completions.create({
      ...greedy,
      logit_bias: { [tokenIds[0]]: -100 },
      ...more({ return_token_ids: true }),
    });
    expect((banned.choices[0] as unknown as { token_ids: number[] }).token_ids).not.toContain(tokenIds[0]);
    const favoured = await client.completions.create({
      ...greedy,
      max_tokens: 5,
      logit_bias: { 300: 100 },
      ...more({ return_token_ids: true }),
    });
    expect(favoured.choices[0]).toMatchObject({ token_ids: [300, 300, 300, 300, 300] });
  });

  it('repeats less under a penalty', async () => {
    const distinct = async (fields: object) => {
      const answer = await client.completions.create({
        ...greedy,
        max_tokens: 100,
        ...more({ return_token_ids: true, ...fields }),
      });
      return new Set((answer.choices[0] as unknown as { token_ids: number[] }).token_ids).size;
    };
    const plain = await distinct({});
    expect(await distinct({ frequency_penalty: 2 })).toBeGreaterThan(plain);
    expect(await distinct({ presence_penalty: 2 })).toBeGreaterThan(plain);
    expect(await distinct({ repetition_penalty: 1.5 })).toBeGreaterThan(plain);
  });

  it('reports logprobs of chat answers with bytes and alternatives', async () => {
    const request = {
      model: 'stories',
      messages: [{ role: 'user' as const, content: prompt }],
      temperature: 0,
      max_completion_tokens: 10,
      logprobs: true,
      top_logprobs: 3,
    };
    const answer = await client.chat.completions.create(request);
    const content = answer.choices[0].logprobs?.content ?? [];
    expect(content).toHaveLength(10);
    expect(Buffer.from(content.flatMap(({ bytes }) => bytes ?? [])).toString()).toBe(
      answer.choices[0].message.content,
    );
    for (const { token, logprob, top_logprobs: top } of content) {
      expect(top).toHaveLength(3);
      expect(top[0]).toMatchObject({ token, logprob });
      expect(top.map((one) => one.logprob)).toEqual(top.map((one) => one.logprob).sort((a, b) => b - a));
    }
    const streamed = [];
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      const logprobs = chunk.choices[0]?.logprobs ?? null;
      if (logprobs !== null) expect(logprobs.refusal).toBeNull();
      streamed.push(...(logprobs?.content ?? []));
    }
    expect(streamed).toEqual(content);
  });

  it('names tokens by their ids with return_tokens_as_token_ids', async () => {
    const asIds = { ...greedy, max_tokens: 4, return_tokens_as_token_ids: true, return_token_ids: true };
    type Named = { token_ids: number[] };
    const text = await client.completions.create({ ...asIds, logprobs: 1 });
    const [{ token_ids: ids, logprobs }] = text.choices as unknown as [
      Named & { logprobs: { tokens: string[]; top_logprobs: object[]; text_offset: number[] } },
    ];
    const names = ids.map((id) => `token_id:${id}`);
    expect(logprobs.tokens).toEqual(names);
    expect(logprobs.top_logprobs.map((top) => Object.keys(top)[0])).toEqual(names);
    const plain = await client.completions.create({ ...greedy, max_tokens: 4, logprobs: 1 });
    expect(logprobs.text_offset).toEqual(plain.choices[0].logprobs?.text_offset);
    const { prompt: _, ...chat } = { ...asIds, logprobs: true, top_logprobs: 1 };
    const messages = [{ role: 'user' as const, content: prompt }];
    const [choice] = (await client.chat.completions.create({ ...chat, messages })).choices;
    const content = choice.logprobs?.content ?? [];
    const chatNames = (choice as unknown as Named).token_ids.map((id) => `token_id:${id}`);
    expect(content.map(({ token }) => token)).toEqual(chatNames);
    expect(content.map(({ top_logprobs: [top] }) => top.token)).toEqual(chatNames);
    expect(Buffer.from(content.flatMap(({ bytes }) => bytes ?? [])).toString()).toBe(choice.message.content);
  });

  it('reports prompt_logprobs, the same from a cold and a warm prefix cache', async () => {
    const request = {
      ...greedy,
      max_tokens: 1,
      prompt: greedyCases[1].prompt,
      ...more({ prompt_logprobs: 2 }),
    };
    const reported = async () =>
      ((await client.completions.create(request)).choices[0] as unknown as { prompt_logprobs: unknown[] })
        .prompt_logprobs;
    const cold = await reported();
    expect(cold).toHaveLength(greedyCases[1].promptTokenIds.length);
    expect(cold[0]).toBeNull();
    for (const [i, position] of cold.slice(1).entries()) {
      expect(position).toHaveProperty(String(greedyCases[1].promptTokenIds[i + 1]));
    }
    expect(await reported()).toEqual(cold);
  });

  it('counts cached tokens, and shares them only under equal salts', async () => {
    const long = { ...greedy, prompt: greedyCases[1].prompt.repeat(3), max_tokens: 1 };
    const cached = async (fields: object = {}) =>
      (await client.completions.create({ ...long, ...more(fields) })).usage?.prompt_tokens_details
        ?.cached_tokens;
    expect(await cached({ cache_salt: 'a' })).toBe(0);
    expect(await cached({ cache_salt: 'a' })).toBeGreaterThanOrEqual(16);
    expect(await cached({ cache_salt: 'b' })).toBe(0);
  });

  it('echoes the prompt alone with max_tokens 0', async () => {
    const answer = await client.completions.create({ ...greedy, echo: true, max_tokens: 0, logprobs: 0 });
    expect(answer.choices[0].text).toBe(prompt);
    expect(answer.choices[0].logprobs?.tokens).toHaveLength(greedyCases[0].promptTokenIds.length);
    expect(answer.usage?.completion_tokens).toBe(0);
  });

  it('sends usage last when asked, in every chunk when asked for that', async () => {
    const usages = async (options: object) => {
      const seen = [];
      const stream = await client.completions.create({
        ...greedy,
        stream: true,
        stream_options: options as never,
      });
      for await (const chunk of stream) seen.push({ usage: chunk.usage, choices: chunk.choices.length });
      return seen;
    };
    const last = await usages({ include_usage: true });
    expect(last.at(-1)).toMatchObject({ choices: 0, usage: { completion_tokens: 30 } });
    for (const { usage } of last.slice(0, -1)) expect(usage).toBeNull();
    const every = await usages({ include_usage: true, continuous_usage_stats: true });
    for (const { usage } of every) expect(usage?.prompt_tokens).toBe(greedyCases[0].promptTokenIds.length);
    expect((await usages({})).every(({ usage }) => usage === undefined)).toBe(true);
  });

  it('continues a final message', async () => {
    const answer = await client.chat.completions.create({
      model: 'stories',
      messages: [{ role: 'assistant', content: prompt }],
      temperature: 0,
      max_completion_tokens: 80,
      ...more({ continue_final_message: true, add_generation_prompt: false }),
    });
    expect(answer.choices[0].message.content).toBe(story);
  });

  it('tokenizes and detokenizes', async () => {
    const post = async (path: string, body: object) =>
      (
        await fetch(`${server.url}${path}`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
          body: JSON.stringify(body),
        })
      ).json();
    const { promptTokenIds } = greedyCases[0];
    expect(await post('/tokenize', { prompt, return_token_strs: true })).toMatchObject({
      tokens: promptTokenIds,
      count: promptTokenIds.length,
      max_model_len: 512,
    });
    expect(await post('/tokenize', { messages: [{ role: 'user', content: prompt }] })).toMatchObject({
      count: expect.any(Number),
    });
    expect(await post('/detokenize', { tokens: promptTokenIds.slice(1) })).toEqual({ prompt });
  });
});
