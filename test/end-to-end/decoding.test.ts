// A server that guesses ahead: the same text, counted in vLLM's metrics. Beam search and best_of over HTTP.

import { readFileSync } from 'node:fs';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { greedyCases, hasStories, storiesFolder } from '../stories260k.ts';
import { type ServerProcess, startServer } from './server-process.ts';

const chatTemplate = new URL('../fixtures/plain-chat.jinja', import.meta.url).pathname;
const { cases: beamCases } = JSON.parse(
  readFileSync(new URL('../golden/beam-search.json', import.meta.url), 'utf8'),
);

describe.skipIf(!hasStories)('a server with n-gram speculation', () => {
  let server: ServerProcess;
  let client: OpenAI;

  beforeAll(async () => {
    const config = { method: 'ngram', num_speculative_tokens: 4, prompt_lookup_max: 3, prompt_lookup_min: 1 };
    server = await startServer(storiesFolder, [
      '--chat-template',
      chatTemplate,
      '--served-model-name',
      'stories',
      '--speculative-config',
      JSON.stringify(config),
    ]);
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  });
  afterAll(async () => {
    expect(await server?.stop()).toBe(0);
  });

  it.each(greedyCases)('completes "$prompt" as without', async ({ prompt, text }) => {
    const request = { model: 'stories', prompt, max_tokens: 80, temperature: 0, logprobs: 1 };
    const whole = await client.completions.create(request);
    expect(whole.choices[0].text).toBe(text);
    expect(whole.choices[0].logprobs?.tokens?.length).toBe(80);
    const stop = text.slice(20, 24);
    const stopped = await client.completions.create({ ...request, stop });
    expect(stopped.choices[0].text).toBe(text.slice(0, text.indexOf(stop)));
  });

  it('counts drafts as vLLM does', async () => {
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    const value = (name: string) => {
      const line = metrics.split('\n').find((one) => one.startsWith(`vllm:spec_decode_${name}`));
      return Number(line?.split(' ').at(-1));
    };
    const perPosition = [0, 1, 2, 3].map((position) => {
      const name = 'vllm:spec_decode_num_accepted_tokens_per_pos_total';
      const line = metrics.split('\n').find((one) => one.startsWith(name) && one.includes(`="${position}"`));
      return Number(line?.split(' ').at(-1));
    });
    expect(value('num_drafts_total')).toBeGreaterThan(10);
    expect(value('num_draft_tokens_total')).toBeGreaterThan(value('num_accepted_tokens_total'));
    expect(value('num_accepted_tokens_total')).toBeGreaterThan(10);
    expect(perPosition.reduce((sum, count) => sum + count, 0)).toBe(value('num_accepted_tokens_total'));
    expect(perPosition).toEqual([...perPosition].sort((a, b) => b - a));
  });

  it.each([false, true])('searches with beams, streamed: %s', async (isStreamed) => {
    const { prompt, promptTokenIds, n, maxTokens, outputs } = beamCases[1];
    const extra = { use_beam_search: true, return_token_ids: true };
    const request = { model: 'stories', prompt, n, max_tokens: maxTokens, temperature: 0.9, ...extra };
    const tokenIds: number[][] = [];
    if (isStreamed) {
      for await (const { choices } of await client.completions.create({ ...request, stream: true })) {
        for (const choice of choices) {
          tokenIds[choice.index] = (choice as unknown as { token_ids: number[] }).token_ids;
        }
      }
    } else {
      const { choices, usage } = await client.completions.create(request);
      for (const choice of choices) {
        tokenIds[choice.index] = (choice as unknown as { token_ids: number[] }).token_ids;
      }
      const completionTokens = outputs.flat().length;
      expect(usage).toMatchObject({
        prompt_tokens: promptTokenIds.length,
        completion_tokens: completionTokens,
      });
    }
    expect(tokenIds).toEqual(outputs);
  });

  it('searches with beams in a chat', async () => {
    const { prompt, n, maxTokens } = beamCases[1];
    const request = { model: 'stories', max_tokens: maxTokens, n, use_beam_search: true };
    const text = await client.completions.create({ ...request, prompt });
    const chat = await client.chat.completions.create({
      ...request,
      messages: [{ role: 'user', content: prompt }],
    });
    expect(chat.choices.map(({ message }) => message.content?.trim())).toEqual(
      text.choices.map((choice) => choice.text.trim()),
    );
  });

  it('gives the n best of best_of', async () => {
    const request = { model: 'stories', prompt: 'The big dog', max_tokens: 12, seed: 5, logprobs: 0 };
    const all = await client.completions.create({ ...request, n: 6 });
    const mean = (choice: OpenAI.CompletionChoice) => {
      const logprobs = choice.logprobs?.token_logprobs ?? [];
      return logprobs.reduce((sum, logprob) => sum + logprob, 0) / logprobs.length;
    };
    const best = [...all.choices].sort((a, b) => mean(b) - mean(a)).slice(0, 2);
    const { choices, usage } = await client.completions.create({ ...request, n: 2, best_of: 6 });
    expect(choices.map(({ text }) => text)).toEqual(best.map(({ text }) => text));
    expect(choices.map(({ index }) => index)).toEqual([0, 1]);
    expect(usage?.completion_tokens).toBe(all.usage?.completion_tokens);
    const silent = await client.completions.create({ ...request, logprobs: null, n: 2, best_of: 6 });
    expect(silent.choices.map(({ text, logprobs }) => [text, logprobs])).toEqual(
      best.map(({ text }) => [text, null]),
    );
  });
});
