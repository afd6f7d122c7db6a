// /v1/responses: items and events in OpenAI's forms and order, and conversations that go on.

import { afterEach, describe, expect, it } from 'vitest';
import { ResponsesClient } from './responses-client.ts';

const client = new ResponsesClient();
afterEach(() => client.close());
const start = (...texts: string[]) => client.open({ texts });
const create = (fields: object) => client.create(fields);

const call = (name: string, given: string) =>
  `<tool_call>\n{"name": "${name}", "arguments": ${given}}\n</tool_call>`;
const tool = { type: 'function', name: 'f', parameters: { type: 'object' }, strict: false };
const everything = `<think>\nHmm, so.\n</think>\n\nI will call. ${call('f', '{"a": 1}')}\n${call('f', '{"a": 2}')}`;

/** The same in every run: ids and times replaced in the order in which they come. */
function withoutIds(value: unknown): unknown {
  const names = new Map<string, string>();
  const text = JSON.stringify(value).replace(/\b(resp|msg|rs|fc|call)_[0-9a-f]{20,}/g, (id, kind) => {
    if (!names.has(id)) names.set(id, `${kind}#${names.size}`);
    return names.get(id) as string;
  });
  return JSON.parse(text.replace(/"(created|completed)_at":\d+/g, '"$1_at":0'));
}

describe('POST /v1/responses/input_tokens', () => {
  const count = (fields: object) => client.send('POST', '/input_tokens', fields);

  it('counts the prompt that the same body would make', async () => {
    await start('Hello.');
    const { id } = await create({ instructions: 'Be brief.' });
    const body = { previous_response_id: id, input: 'And?', instructions: 'Be long.', tools: [tool] };
    const answer = (await count(body)).json();
    expect(answer).toEqual({ object: 'response.input_tokens', input_tokens: 3 });
    const { usage } = await create(body);
    expect(usage.input_tokens).toBe(answer.input_tokens);
    const [counted, given] = client.app.prompts.slice(-2);
    expect(counted).toEqual(given);
    expect(counted.messages).toHaveLength(4);
    // Nothing has run but the two responses, and no other is stored.
    expect(client.app.engine.requests).toHaveLength(2);
  });

  it('needs no input beside instructions', async () => {
    await start('Hello.');
    expect((await count({ instructions: 'Be brief.' })).json().input_tokens).toBe(3);
  });

  it.each([
    [{}, 'input'],
    [{ input: 5 }, 'input'],
    [{ input: [{ type: 'input_image' }] }, 'input.0.type'],
    [{ input: 'Hi', previous_response_id: 'resp_none' }, 'previous_response_id'],
    [{ input: 'Hi', conversation: 'conv_1' }, 'conversation'],
    [{ input: 'Hi', model: 'gpt' }, 'model'],
    [{ input: 'Hi', tools: [{ type: 'web_search' }] }, 'tools.0.type'],
  ])('refuses %j', async (body, param) => {
    await start('Hello.');
    const answer = await count(body);
    expect([400, 404]).toContain(answer.statusCode);
    expect(answer.json().error.param).toBe(param);
  });
});

describe('POST /v1/responses', () => {
  it('answers with every field of a response', async () => {
    await start('Hello.');
    const answer = await create({ metadata: { a: 'b' }, temperature: 0.5 });
    expect(answer).toMatchObject({
      id: expect.stringMatching(/^resp_[0-9a-f]{48}$/),
      object: 'response',
      status: 'completed',
      error: null,
      incomplete_details: null,
      model: 'test',
      metadata: { a: 'b' },
      temperature: 0.5,
      tool_choice: 'auto',
      tools: [],
      text: { format: { type: 'text' } },
      usage: {
        input_tokens: 3,
        input_tokens_details: { cached_tokens: 0 },
        output_tokens: 6,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: 9,
      },
    });
    expect(answer.output).toEqual([
      {
        id: expect.stringMatching(/^msg_/),
        type: 'message',
        status: 'completed',
        role: 'assistant',
        content: [{ type: 'output_text', text: 'Hello.', annotations: [], logprobs: [] }],
      },
    ]);
  });

  it('has reasoning, text and calls as items in their order', async () => {
    await start(everything);
    const { output, usage } = await create({ tools: [tool] });
    expect(output.map(({ type }: { type: string }) => type)).toEqual([
      'reasoning',
      'message',
      'function_call',
      'function_call',
    ]);
    expect(output[0]).toMatchObject({ summary: [], content: [{ type: 'reasoning_text', text: 'Hmm, so.' }] });
    expect(output[1].content[0].text).toBe('I will call.');
    expect(output[2]).toMatchObject({ name: 'f', arguments: '{"a": 1}', status: 'completed' });
    expect(output[2].call_id).toMatch(/^call_/);
    expect(usage.output_tokens_details.reasoning_tokens).toBe('\nHmm, so.\n'.length);
  });

  it('puts reasoning where its summary is looked for, when one is asked for', async () => {
    await start(everything);
    const { output } = await create({ reasoning: { summary: 'auto' } });
    expect(output[0]).toMatchObject({ summary: [{ type: 'summary_text', text: 'Hmm, so.' }], content: [] });
  });

  it('says what was cut, and by what', async () => {
    await client.open({ texts: ['<tool_call>\n{"name": "f", "arguments": {"a'], finishReason: 'length' });
    const answer = await create({ tools: [tool] });
    expect(answer).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
    });
    expect(answer.output).toMatchObject([{ type: 'function_call', status: 'incomplete', arguments: '{"a' }]);
  });

  it('answers nothing with a message without text', async () => {
    await start('');
    expect((await create({})).output).toMatchObject([{ type: 'message', content: [{ text: '' }] }]);
  });

  it('has log-probabilities of the text alone', async () => {
    await start('<think>\nSo.\n</think>\n\nYes.');
    const { output } = await create({ include: ['message.output_text.logprobs'], top_logprobs: 1 });
    const { logprobs } = output[1].content[0];
    const tokens = logprobs.map(({ token }: { token: string }) => token).join('');
    expect(tokens.trim()).toBe('Yes.');
    expect(logprobs.at(-1)).toEqual({
      token: '.',
      logprob: -0.46,
      bytes: [46],
      top_logprobs: [{ token: '.', logprob: -0.46, bytes: [46] }],
    });
  });
});

describe('a stream', () => {
  it('has the events of OpenAI in their order', async () => {
    await client.open({ texts: [everything], sizes: () => 1000 });
    const events = await client.streamed({ tools: [tool] });
    expect(events.map(({ type }) => type.replace('response.', ''))).toEqual([
      'created', 'in_progress',
      'output_item.added', 'content_part.added', 'reasoning_text.delta', 'reasoning_text.done',
      'content_part.done', 'output_item.done',
      'output_item.added', 'content_part.added', 'output_text.delta', 'output_text.done',
      'content_part.done', 'output_item.done',
      'output_item.added', 'function_call_arguments.delta', 'function_call_arguments.done', 'output_item.done',
      'output_item.added', 'function_call_arguments.delta', 'function_call_arguments.done', 'output_item.done',
      'completed',
    ]); // biome-ignore format: a line an item
    expect(events.map(({ sequence_number: number }) => number)).toEqual(events.map((_, i) => i));
    expect(events.map(({ output_index: index }) => index ?? null)).toEqual([
      null, null, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, null,
    ]); // biome-ignore format: one list
  });

  it('has the summary events when a summary is asked for', async () => {
    await client.open({ texts: ['<think>So.</think>Yes'], sizes: () => 1000 });
    const events = await client.streamed({ reasoning: { summary: 'auto' } });
    expect(events.slice(2, 8).map(({ type }) => type)).toEqual([
      'response.output_item.added',
      'response.reasoning_summary_part.added',
      'response.reasoning_summary_text.delta',
      'response.reasoning_summary_text.done',
      'response.reasoning_summary_part.done',
      'response.output_item.done',
    ]);
  });

  it.each([1, 2, 3, 5, 7, 1000])(
    'says what a whole response says, in deltas of %i characters',
    async (size) => {
      const fields = { tools: [tool], include: ['message.output_text.logprobs'], top_logprobs: 1 };
      await start(everything);
      const whole = await create(fields);
      await client.close();
      await client.open({ texts: [everything], sizes: (i) => 1 + ((i * 7) % size) });
      const events = await client.streamed(fields);
      const last = events.at(-1) as unknown as { type: string; response: object };
      expect(last.type).toBe('response.completed');
      expect(withoutIds(last.response)).toEqual(withoutIds(whole));
      // What the deltas add up to is what the items say.
      for (const { item, output_index: index } of events.filter(({ type }) => type.endsWith('item.done'))) {
        const deltas = events.filter(
          (event) => event.output_index === index && event.type.endsWith('.delta'),
        );
        const joined = deltas.map((event) => event.delta).join('');
        const { arguments: given, content } = item as {
          arguments?: string;
          content?: Array<{ text: string }>;
        };
        expect(joined).toBe(given ?? content?.[0].text);
        expect(deltas.flatMap((event) => event.logprobs ?? [])).toEqual(
          (content?.[0] as { logprobs?: object[] })?.logprobs ?? [],
        );
      }
    },
  );

  it('ends with failed when the engine does, and the whole answer with 500', async () => {
    await client.open({ texts: ['Hel'], finishReason: 'error' });
    const events = await client.streamed({});
    expect(events.at(-1)).toMatchObject({
      type: 'response.failed',
      response: { status: 'failed', error: { code: 'server_error', message: 'internal error' } },
    });
    expect((await client.send('POST', '', { input: 'Hi' })).statusCode).toBe(500);
  });
});

describe('a conversation', () => {
  it('goes on from an earlier response, without its instructions', async () => {
    await start(everything, 'Done.', 'And more.');
    const first = await create({ tools: [tool], instructions: 'Be brief.' });
    const results = first.output
      .filter(({ type }: { type: string }) => type === 'function_call')
      .map(({ call_id }: { call_id: string }) => ({ type: 'function_call_output', call_id, output: 'ok' }));
    const second = await create({ input: results, previous_response_id: first.id, tools: [tool] });
    const third = await create({
      input: 'Go on',
      previous_response_id: second.id,
      instructions: 'Now loudly.',
    });
    expect(third.previous_response_id).toBe(second.id);
    expect(client.app.prompts[0].messages).toMatchObject([
      { role: 'system', content: 'Be brief.' },
      { role: 'user' },
    ]);
    expect(client.app.prompts[2].messages).toMatchObject([
      { role: 'system', content: 'Now loudly.' },
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'I will call.', reasoning: 'Hmm, so.', tool_calls: [{}, {}] },
      { role: 'tool', content: 'ok', name: 'f' },
      { role: 'tool', content: 'ok', name: 'f' },
      { role: 'assistant', content: 'Done.' },
      { role: 'user', content: 'Go on' },
    ]);
  });

  it('can be sent back as items, and by reference', async () => {
    await start('One.', 'Two.', 'Three.');
    const first = await create({});
    const message = { role: 'user', content: [{ type: 'input_text', text: 'More' }] };
    await create({ input: [...first.output, message], store: false });
    await create({ input: [{ type: 'item_reference', id: first.output[0].id }, message] });
    const expected = [
      { role: 'assistant', content: 'One.' },
      { role: 'user', content: 'More' },
    ];
    expect(client.app.prompts[1].messages).toMatchObject(expected);
    expect(client.app.prompts[2].messages).toMatchObject(expected);
  });

  it('outlives the responses it came from', async () => {
    await start('One.', 'Two.', 'Three.');
    const first = await create({});
    const second = await create({ input: 'More', previous_response_id: first.id });
    expect((await client.send('DELETE', `/${first.id}`)).json()).toEqual({
      id: first.id,
      object: 'response',
      deleted: true,
    });
    expect((await client.send('GET', `/${first.id}`)).statusCode).toBe(404);
    const third = await create({ input: 'More', previous_response_id: second.id });
    expect(third.status).toBe('completed');
    expect(client.app.prompts[2].messages).toHaveLength(5);
    const again = await client.send('POST', '', { input: 'x', previous_response_id: first.id });
    expect(again.statusCode).toBe(400);
    expect(again.json().error.code).toBe('previous_response_not_found');
  });

  it('leaves a call that was cut off out of the next prompt', async () => {
    await client.open({ texts: ['<tool_call>\n{"name": "f", "arguments": {"a'], finishReason: 'length' });
    const first = await create({ tools: [tool] });
    await create({ input: 'Go on', previous_response_id: first.id });
    expect(client.app.prompts[1].messages).toMatchObject([{ role: 'user' }, { role: 'user' }]);
  });

  it('drops its oldest turns with truncation auto, and is refused without', async () => {
    await start('Yes.');
    const encode = client.app.engine.encodeChat as unknown as (prompt: object) => Promise<object>;
    client.app.engine.encodeChat = (async (prompt: { messages: object[] }) => {
      const made = await encode(prompt);
      return { ...made, tokenIds: new Int32Array(300 * prompt.messages.length) };
    }) as never;
    const { RequestError } = await import('../../dist/engine/engine.js');
    const generate = client.app.engine.generate.bind(client.app.engine);
    client.app.engine.generate = (request) => {
      if (request.promptTokenIds.length < 1000) return generate(request);
      throw new RequestError('too long', 'prompt', 'context_length_exceeded');
    };
    const input = Array.from({ length: 9 }, (_, i) => ({
      role: i % 2 ? 'assistant' : 'user',
      content: `${i}`,
    }));
    const refused = await client.send('POST', '', { input });
    expect(refused.statusCode).toBe(400);
    expect(refused.json().error).toMatchObject({ code: 'context_length_exceeded', param: 'input' });
    const developer = { role: 'developer', content: 'Rules.' };
    const kept = await create({ input: [developer, ...input], truncation: 'auto' });
    expect(kept.status).toBe('completed');
    expect(client.app.prompts.at(-1)?.messages).toMatchObject([{ content: 'Rules.' }, { content: '8' }]);
  });
});
