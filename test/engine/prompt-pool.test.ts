// Prompts are made beside the HTTP thread: a long one never holds it up, an endless one ends.

import { afterEach, describe, expect, it } from 'vitest';
import { PromptPool } from '../../engine/prompt-pool.ts';
import { findTokenizer } from '../../engine/tokenizer-file.ts';
import { hasStories, storiesFolder } from '../stories260k.ts';

const chat = {
  messages: [{ role: 'user', content: 'Hi' }],
  addGenerationPrompt: true,
  continueFinalMessage: false,
  addSpecialTokens: false,
};

describe.skipIf(!hasStories)('the prompt pool', () => {
  let pool: PromptPool | null = null;
  afterEach(async () => pool?.close());

  async function open(chatTemplate: string | null, timeoutMs?: number): Promise<PromptPool> {
    const tokenizer = findTokenizer(storiesFolder, null);
    pool = await PromptPool.start({ modelPath: storiesFolder, tokenizer, chatTemplate, timeoutMs });
    return pool;
  }

  it('leaves the thread free while it tokenizes 100,000 tokens', async () => {
    const prompts = await open(null);
    let longestPauseMs = 0;
    let last = performance.now();
    const timer = setInterval(() => {
      longestPauseMs = Math.max(longestPauseMs, performance.now() - last);
      last = performance.now();
    }, 1);
    const start = performance.now();
    const { tokenIds } = await prompts.encodeText('Once upon a time there was a cat. '.repeat(20_000), true);
    const totalMs = performance.now() - start;
    clearInterval(timer);
    expect(tokenIds.length).toBeGreaterThan(100_000);
    // The event loop turned all the while: no pause took the time of the whole work.
    expect(longestPauseMs).toBeLessThan(totalMs / 2);
  });

  it('gives up on a template that never ends, and renders the next', async () => {
    const endless =
      '{% if messages[0].content == "Hi" %}{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}{% endif %}ok';
    const prompts = await open(endless, 1500);
    await expect(prompts.encodeChat(chat)).rejects.toThrow(
      'the prompt took longer than 1500 ms to render and tokenize',
    );
    const other = { ...chat, messages: [{ role: 'user', content: 'Bye' }] };
    expect((await prompts.encodeChat(other)).text).toBe('ok');
  });

  it('says that there is no template, and hands on what a template raises', async () => {
    await expect((await open(null)).encodeChat(chat)).rejects.toThrow(
      /no chat template: give one with --chat-template/,
    );
    await pool?.close();
    const raising = await open('{{ raise_exception("only poems") }}');
    await expect(raising.encodeChat(chat)).rejects.toThrow(
      'the chat template refused the messages: only poems',
    );
  });
});
