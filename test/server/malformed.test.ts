// Bad requests, one a row: each gets its documented 4xx naming the field, and the server goes on serving.

import { Engine } from 'quire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type App, buildApp } from '../../dist/server/app.js';
import { hasStories, storiesFolder } from '../stories260k.ts';
import { testAppOptions } from './app-options.ts';

const chat = (extra: object) => ({ messages: [{ role: 'user', content: 'Hi' }], max_tokens: 2, ...extra });
const text = (extra: object) => ({ prompt: 'Hi', max_tokens: 2, ...extra });
const tool = { type: 'function', function: { name: 'f', parameters: {} } };
const allowG = { type: 'allowed_tools', allowed_tools: { tools: [{ function: { name: 'g' } }] } };
const manyKeys = Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, '']));
const deepText = `${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`;
const nested = (depth: number) => JSON.parse(`${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`);
const deepTool = { ...tool, function: { ...tool.function, parameters: nested(300) } };
const longIds = Array.from({ length: 600 }, () => 5);

type Row = [name: string, path: string, body: unknown, status: number, code: string, param: string | null];
const c = '/v1/chat/completions';
const t = '/v1/completions';

const rows: Row[] = [
  ['messages missing', c, { max_tokens: 2 }, 400, 'invalid_value', 'messages'],
  ['messages a string', c, { messages: 'Hi' }, 400, 'invalid_value', 'messages'],
  ['messages empty', c, { messages: [] }, 400, 'invalid_value', 'messages'],
  ['messages null', c, { messages: null }, 400, 'invalid_value', 'messages'],
  ['message without role', c, { messages: [{ content: 'Hi' }] }, 400, 'invalid_value', 'messages.0.role'],
  ['unknown role', c, { messages: [{ role: 'robot', content: 'Hi' }] }, 400, 'invalid_value', 'messages.0.role'],
  ['content a number', c, { messages: [{ role: 'user', content: 5 }] }, 400, 'invalid_value', 'messages.0.content'],
  ['user content null', c, { messages: [{ role: 'user', content: null }] }, 400, 'invalid_value', 'messages.0.content'],
  ['tool content null', c, { messages: [{ role: 'tool', content: null, tool_call_id: 'a' }] }, 400, 'invalid_value', 'messages.0.content'],
  ['a refusal part without text', c, { messages: [{ role: 'assistant', content: [{ type: 'refusal' }] }] }, 400, 'unsupported_value', 'messages.0.content.0'],
  ['a call without arguments', c, { messages: [{ role: 'assistant', tool_calls: [{ id: 'a', function: { name: 'f' } }] }] }, 400, 'invalid_value', 'messages.0.tool_calls.0.function.arguments'],
  ['a legacy call of a list', c, { messages: [{ role: 'assistant', function_call: { name: 'f', arguments: '[]' } }] }, 400, 'invalid_value', 'messages.0.function_call.arguments'],
  ['reasoning a number', c, { messages: [{ role: 'assistant', content: 'x', reasoning: 5 }] }, 400, 'invalid_value', 'messages.0.reasoning'],
  ['an image part', c, { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] }, 400, 'unsupported_value', 'messages.0.content.0'],
  ['a text part without text', c, { messages: [{ role: 'user', content: [{ type: 'text' }] }] }, 400, 'unsupported_value', 'messages.0.content.0'],
  ['temperature too high', c, chat({ temperature: 2.1 }), 400, 'invalid_value', 'temperature'],
  ['temperature negative', c, chat({ temperature: -0.1 }), 400, 'invalid_value', 'temperature'],
  ['temperature a string', c, chat({ temperature: '1' }), 400, 'invalid_value', 'temperature'],
  ['top_p zero', c, chat({ top_p: 0 }), 400, 'invalid_value', 'top_p'],
  ['top_p above one', c, chat({ top_p: 1.1 }), 400, 'invalid_value', 'top_p'],
  ['top_k below -1', c, chat({ top_k: -2 }), 400, 'invalid_value', 'top_k'],
  ['top_k a fraction', c, chat({ top_k: 1.5 }), 400, 'invalid_value', 'top_k'],
  ['min_p above one', c, chat({ min_p: 2 }), 400, 'invalid_value', 'min_p'],
  ['n zero', c, chat({ n: 0 }), 400, 'invalid_value', 'n'],
  ['n huge', c, chat({ n: 1_000_000 }), 400, 'invalid_value', 'n'],
  ['n a fraction', c, chat({ n: 1.5 }), 400, 'invalid_value', 'n'],
  ['max_tokens negative', c, chat({ max_tokens: -1 }), 400, 'invalid_value', 'max_tokens'],
  ['max_tokens zero', c, chat({ max_tokens: 0 }), 400, 'invalid_value', 'max_tokens'],
  ['max_tokens a string', c, chat({ max_tokens: '5' }), 400, 'invalid_value', 'max_tokens'],
  ['max_completion_tokens zero', c, chat({ max_completion_tokens: 0 }), 400, 'invalid_value', 'max_completion_tokens'],
  ['min_tokens above max_tokens', c, chat({ min_tokens: 3 }), 400, 'invalid_value', 'min_tokens'],
  ['seed too large', c, chat({ seed: 2 ** 70 }), 400, 'invalid_value', 'seed'],
  ['seed a fraction', c, chat({ seed: 1.5 }), 400, 'invalid_value', 'seed'],
  ['stop a number', c, chat({ stop: 5 }), 400, 'invalid_value', 'stop'],
  ['stop empty', c, chat({ stop: '' }), 400, 'invalid_value', 'stop'],
  ['too many stops', c, chat({ stop: Array.from({ length: 17 }, () => 'x') }), 400, 'invalid_value', 'stop'],
  ['stop_token_ids outside', c, chat({ stop_token_ids: [512] }), 400, 'invalid_value', 'stop_token_ids'],
  ['stop_token_ids negative', c, chat({ stop_token_ids: [-1] }), 400, 'invalid_value', 'stop_token_ids.0'],
  ['presence_penalty', c, chat({ presence_penalty: 3 }), 400, 'invalid_value', 'presence_penalty'],
  ['frequency_penalty', c, chat({ frequency_penalty: -3 }), 400, 'invalid_value', 'frequency_penalty'],
  ['repetition_penalty zero', c, chat({ repetition_penalty: 0 }), 400, 'invalid_value', 'repetition_penalty'],
  ['logit_bias of a word', c, chat({ logit_bias: { hello: 1 } }), 400, 'invalid_value', 'logit_bias'],
  ['logit_bias outside', c, chat({ logit_bias: { 512: 1 } }), 400, 'invalid_value', 'logit_bias'],
  ['logit_bias too strong', c, chat({ logit_bias: { 5: 101 } }), 400, 'invalid_value', 'logit_bias.5'],
  ['logprobs a number', c, chat({ logprobs: 5 }), 400, 'invalid_value', 'logprobs'],
  ['top_logprobs alone', c, chat({ top_logprobs: 2 }), 400, 'invalid_value', 'top_logprobs'],
  ['top_logprobs above the limit', c, chat({ logprobs: true, top_logprobs: 21 }), 400, 'invalid_value', 'top_logprobs'],
  ['stream a string', c, chat({ stream: 'yes' }), 400, 'invalid_value', 'stream'],
  ['stream_options a flag', c, chat({ stream: true, stream_options: true }), 400, 'invalid_value', 'stream_options'],
  ['priority a word', c, chat({ priority: 'high' }), 400, 'invalid_value', 'priority'],
  ['cache_salt empty', c, chat({ cache_salt: '' }), 400, 'invalid_value', 'cache_salt'],
  ['a tool without a name', c, chat({ tools: [{ type: 'function', function: {} }] }), 400, 'invalid_value', 'tools.0.function.name'],
  ['a tool of another type', c, chat({ tools: [{ ...tool, type: 'retrieval' }] }), 400, 'invalid_value', 'tools.0.type'],
  ['tool_choice required without tools', c, chat({ tool_choice: 'required' }), 400, 'invalid_value', 'tool_choice'],
  ['allowed_tools of another name', c, chat({ tools: [tool], tool_choice: allowG }), 400, 'invalid_value', 'tool_choice.allowed_tools.tools.0.function.name'],
  ['documents nested too deep', c, chat({ documents: [nested(300)] }), 400, 'invalid_value', null],
  ['tools nested too deep', c, chat({ tools: [deepTool] }), 400, 'invalid_value', null],
  ['metadata nested too deep', c, chat({ metadata: nested(300) }), 400, 'invalid_value', null],
  ['arguments nested too deep', c, { messages: [{ role: 'assistant', function_call: { name: 'f', arguments: deepText } }] }, 400, 'invalid_value', 'messages.0.function_call.arguments'],
  ['functions beside tools', c, chat({ tools: [tool], functions: [tool.function] }), 400, 'invalid_value', 'functions'],
  ['functions without a name', c, chat({ functions: [{}] }), 400, 'invalid_value', 'functions.0.name'],
  ['a named function_call', c, chat({ functions: [tool.function], function_call: { name: 'f' } }), 400, 'unsupported_value', 'tool_choice'],
  ['function_call a word', c, chat({ functions: [tool.function], function_call: 'always' }), 400, 'invalid_value', 'function_call'],
  ['metadata too many', c, chat({ metadata: manyKeys }), 400, 'invalid_value', 'metadata'],
  ['metadata of a long name', c, chat({ metadata: { ['k'.repeat(65)]: '' } }), 400, 'invalid_value', 'metadata'],
  ['metadata of an odd name', c, chat({ metadata: { 'a/b~%zz': 1 } }), 400, 'invalid_value', 'metadata.a/b~%zz'],
  ['logit_bias of an odd name', c, chat({ logit_bias: { '%': 200 } }), 400, 'invalid_value', 'logit_bias.%'],
  ['metadata a number', c, chat({ metadata: { a: 1 } }), 400, 'invalid_value', 'metadata.a'],
  ['service_tier unknown', c, chat({ service_tier: 'gold' }), 400, 'invalid_value', 'service_tier'],
  ['prediction of another type', c, chat({ prediction: { type: 'tokens', content: 'x' } }), 400, 'invalid_value', 'prediction.type'],
  ['store a word', c, chat({ store: 'yes' }), 400, 'invalid_value', 'store'],
  ['reasoning_effort unknown', c, chat({ reasoning_effort: 'huge' }), 400, 'invalid_value', 'reasoning_effort'],
  ['thinking_token_budget below -1', c, chat({ thinking_token_budget: -2 }), 400, 'invalid_value', 'thinking_token_budget'],
  ['thinking_token_budget without reasoning', c, chat({ thinking_token_budget: 5 }), 400, 'unsupported_value', 'thinking_token_budget'],
  ['web_search_options', c, chat({ web_search_options: {} }), 400, 'unsupported_value', 'web_search_options'],
  ['bad_words a word', c, chat({ bad_words: 'x' }), 400, 'invalid_value', 'bad_words'],
  ['bad_words empty', c, chat({ bad_words: [''] }), 400, 'invalid_value', 'bad_words.0'],
  ['too many bad_words', c, chat({ bad_words: Array.from({ length: 129 }, () => 'x') }), 400, 'invalid_value', 'bad_words'],
  ['allowed_token_ids empty', c, chat({ allowed_token_ids: [] }), 400, 'invalid_value', 'allowed_token_ids'],
  ['allowed_token_ids outside', c, chat({ allowed_token_ids: [1, 512] }), 400, 'invalid_value', 'allowed_token_ids'],
  ['truncate_prompt_tokens zero', c, chat({ truncate_prompt_tokens: 0 }), 400, 'invalid_value', 'truncate_prompt_tokens'],
  ['truncate_prompt_tokens below -1', t, text({ truncate_prompt_tokens: -2 }), 400, 'invalid_value', 'truncate_prompt_tokens'],
  ['truncation_side', t, text({ truncation_side: 'middle' }), 400, 'invalid_value', 'truncation_side'],
  ['response_format of another type', c, chat({ response_format: { type: 'xml' } }), 400, 'unsupported_value', 'response_format.type'],
  ['structured_outputs empty', c, chat({ structured_outputs: {} }), 400, 'invalid_value', 'structured_outputs'],
  ['allowed tokens beside a grammar', c, chat({ response_format: { type: 'json_object' }, allowed_token_ids: [1] }), 400, 'unsupported_value', 'allowed_token_ids'],
  ['structured_outputs', c, chat({ structured_outputs: { regex: '(' } }), 400, 'invalid_value', 'structured_outputs.regex'],
  ['audio', c, chat({ modalities: ['audio'] }), 400, 'unsupported_value', 'modalities'],
  ['continue and generate', c, chat({ continue_final_message: true, add_generation_prompt: true }), 400, 'invalid_value', 'continue_final_message'],
  ['unknown model', c, chat({ model: 'gpt-9' }), 404, 'model_not_found', 'model'],
  ['model a number', c, chat({ model: 9 }), 400, 'invalid_value', 'model'],
  ['body a list', c, [], 400, 'invalid_value', null],
  ['prompt missing', t, { max_tokens: 2 }, 400, 'invalid_value', 'prompt'],
  ['prompt null', t, { prompt: null }, 400, 'invalid_value', 'prompt'],
  ['prompt empty list', t, { prompt: [] }, 400, 'invalid_value', 'prompt'],
  ['prompt of mixed items', t, { prompt: ['Hi', 5] }, 400, 'invalid_value', 'prompt'],
  ['prompt token id outside', t, { prompt: [1, 512] }, 400, 'invalid_value', 'prompt'],
  ['prompt token id negative', t, { prompt: [1, -5] }, 400, 'invalid_value', 'prompt'],
  ['prompt too long', t, { prompt: longIds }, 400, 'context_length_exceeded', 'prompt'],
  ['one of two prompts too long', t, { prompt: [[1, 2], longIds] }, 400, 'context_length_exceeded', 'prompt'],
  ['suffix', t, text({ suffix: 'end' }), 400, 'unsupported_value', 'suffix'],
  ['best_of below n', t, text({ best_of: 2, n: 3 }), 400, 'invalid_value', 'best_of'],
  ['best_of too large', t, text({ best_of: 129 }), 400, 'invalid_value', 'best_of'],
  ['best_of in a stream', t, text({ best_of: 3, stream: true }), 400, 'invalid_value', 'best_of'],
  ['best_of in a chat', c, chat({ best_of: 3 }), 400, 'unsupported_value', 'best_of'],
  ['beams without end', t, text({ use_beam_search: true, n: 128 }), 400, 'invalid_value', 'n'],
  ['beams and a stop string', t, text({ use_beam_search: true, stop: 'a' }), 400, 'unsupported_value', 'stop'],
  ['beams and best_of', t, text({ use_beam_search: true, best_of: 1 }), 400, 'unsupported_value', 'best_of'],
  ['beams and echo', t, text({ use_beam_search: true, echo: true }), 400, 'unsupported_value', 'echo'],
  ['beams and bias', c, chat({ use_beam_search: true, logit_bias: { 5: 1 } }), 400, 'unsupported_value', 'logit_bias'],
  ['beams and a grammar', c, chat({ use_beam_search: true, response_format: { type: 'json_object' } }), 400, 'unsupported_value', 'use_beam_search'],
  ['beam search a number', c, chat({ use_beam_search: 1 }), 400, 'invalid_value', 'use_beam_search'],
  ['length_penalty', c, chat({ length_penalty: 11 }), 400, 'invalid_value', 'length_penalty'],
  ['logprobs a flag', t, text({ logprobs: true }), 400, 'invalid_value', 'logprobs'],
  ['logprobs above the limit', t, text({ logprobs: 21 }), 400, 'invalid_value', 'logprobs'],
  ['max_tokens zero without echo', t, text({ max_tokens: 0 }), 400, 'invalid_value', 'max_tokens'],
  ['echo a string', t, text({ echo: 'yes' }), 400, 'invalid_value', 'echo'],
  ['tokenize both', '/tokenize', { prompt: 'Hi', messages: [{ role: 'user', content: 'Hi' }] }, 400, 'invalid_value', 'prompt'],
  ['tokenize neither', '/tokenize', {}, 400, 'invalid_value', 'prompt'],
  ['detokenize outside', '/detokenize', { tokens: [5, 512] }, 400, 'invalid_value', 'tokens.1'],
  ['detokenize text', '/detokenize', { tokens: 'Hi' }, 400, 'invalid_value', 'tokens'],
  ['unknown route', '/v1/complete', {}, 404, 'unknown_route', null],
]; // biome-ignore format: one request a row

describe.skipIf(!hasStories)('malformed requests', () => {
  let engine: Engine;
  let app: App;
  beforeAll(async () => {
    engine = await Engine.open({
      model: storiesFolder,
      chatTemplate: '{% for m in messages %}{{ m.content }}{% endfor %}',
    });
    app = await buildApp(engine, { ...testAppOptions, bodyLimitBytes: 100_000 });
  });
  afterAll(async () => {
    await app.fastify.close();
    await engine.close();
  });

  async function stillServes(): Promise<void> {
    const answer = await app.fastify.inject({
      method: 'POST',
      url: t,
      payload: { prompt: 'Hi', max_tokens: 1 },
    });
    expect(answer.statusCode).toBe(200);
  }

  it('has at least 60 rows', () => expect(rows.length).toBeGreaterThanOrEqual(60));

  it.each(rows)('%s', async (_name, url, payload, status, code, param) => {
    const answer = await app.fastify.inject({ method: 'POST', url, payload: payload as object });
    expect(answer.json()).toMatchObject({
      error: { code, param, type: expect.any(String), message: expect.any(String) },
    });
    expect(answer.statusCode).toBe(status);
    if (param !== null)
      expect(answer.json().error.message).toContain(
        param.split('.')[0] === 'messages' ? 'messages' : param.split('.')[0].slice(0, 6),
      );
    await stillServes();
  });

  it('names both numbers when the prompt is too long', async () => {
    const answer = await app.fastify.inject({ method: 'POST', url: t, payload: { prompt: longIds } });
    expect(answer.json().error.message).toMatch(/600 tokens.*512/);
  });

  const raw: Array<[name: string, body: string, type: string | undefined, status: number, code: string]> = [
    ['malformed JSON', '{"prompt": ', 'application/json', 400, 'malformed_json'],
    ['an empty body', '', 'application/json', 400, 'malformed_json'],
    [
      'prototype poisoning',
      '{"prompt": "Hi", "__proto__": {"x": 1}}',
      'application/json',
      400,
      'malformed_json',
    ],
    ['a form', 'prompt=Hi', 'application/x-www-form-urlencoded', 415, 'unsupported_media_type'],
    ['plain text', 'Hi', 'text/plain', 415, 'unsupported_media_type'],
    [
      'an oversized body',
      JSON.stringify({ prompt: 'x'.repeat(200_000) }),
      'application/json',
      413,
      'body_too_large',
    ],
  ];
  it.each(raw)('%s', async (_name, payload, type, status, code) => {
    const answer = await app.fastify.inject({
      method: 'POST',
      url: t,
      payload,
      headers: type ? { 'content-type': type } : {},
    });
    expect(answer.json().error.code).toBe(code);
    expect(answer.statusCode).toBe(status);
    await stillServes();
  });

  it('a wrong method names the right one', async () => {
    const answer = await app.fastify.inject({ method: 'GET', url: t });
    expect(answer.statusCode).toBe(405);
    expect(answer.json().error).toMatchObject({ code: 'method_not_allowed' });
    expect(answer.json().error.message).toContain('POST');
  });
});
