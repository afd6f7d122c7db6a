// `quire bench serve`: sends streaming requests to an OpenAI-compatible server and reports what it achieves.

import { writeFileSync } from 'node:fs';
import cliProgress from 'cli-progress';
import { Agent, request } from 'undici';
import { helpOf, OptionError, type OptionValues, readOptions } from '../options.ts';
import { benchOptions } from './options.ts';
import { type BenchPrompt, makePrompts, readPrompts, seededRandom } from './prompts.ts';
import { formatReport, makeReport, type RequestTimes } from './report.ts';

interface Target {
  url: string;
  isChat: boolean;
  model: string;
  headers: Record<string, string>;
  maxTokens: number;
  ignoreEos: boolean;
  temperature: number;
  timeoutMs: number;
  agent: Agent;
}

async function firstModel(baseUrl: string, headers: Record<string, string>): Promise<string> {
  const answer = await request(`${baseUrl}/v1/models`, { headers }).catch((error: Error) => {
    throw new OptionError(`no server answers at ${baseUrl}: ${error.message}`);
  });
  const body = (await answer.body.json()) as { data?: Array<{ id: string }> };
  const id = body.data?.[0]?.id;
  if (id === undefined) throw new OptionError(`${baseUrl}/v1/models lists no model: name one with --model`);
  return id;
}

function bodyOf(target: Target, prompt: BenchPrompt): string {
  return JSON.stringify({
    model: target.model,
    ...(target.isChat ? { messages: [{ role: 'user', content: prompt }] } : { prompt }),
    max_tokens: target.maxTokens,
    temperature: target.temperature,
    ignore_eos: target.ignoreEos,
    stream: true,
    stream_options: { include_usage: true },
  });
}

interface Chunk {
  choices?: Array<{ text?: string; delta?: { content?: string | null } }>;
  usage?: { prompt_tokens: number; completion_tokens: number } | null;
  error?: { message: string };
}

/** Notes the time of every event with text, and the usage that the server reports at the end. */
function readEvent(event: string, times: RequestTimes): void {
  if (!event.startsWith('data: ') || event === 'data: [DONE]') return;
  const { choices, usage, error } = JSON.parse(event.slice('data: '.length)) as Chunk;
  if (error !== undefined) throw new Error(error.message);
  const text = choices?.[0]?.text ?? choices?.[0]?.delta?.content ?? '';
  if (text !== '') times.chunkMs.push(performance.now());
  if (usage != null) {
    times.promptTokens = usage.prompt_tokens;
    times.outputTokens = usage.completion_tokens;
  }
}

export async function sendRequest(target: Target, prompt: BenchPrompt): Promise<RequestTimes> {
  const now = performance.now();
  const times: RequestTimes = {
    startMs: now,
    chunkMs: [],
    endMs: now,
    promptTokens: 0,
    outputTokens: 0,
    error: null,
  };
  try {
    const { statusCode, body } = await request(target.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...target.headers },
      body: bodyOf(target, prompt),
      dispatcher: target.agent,
      headersTimeout: target.timeoutMs,
      bodyTimeout: target.timeoutMs,
    });
    if (statusCode !== 200) throw new Error(`status ${statusCode}: ${(await body.text()).slice(0, 200)}`);
    let rest = '';
    body.setEncoding('utf8');
    for await (const part of body) {
      const events = (rest + part).split('\n\n');
      rest = events.pop() ?? '';
      for (const event of events) readEvent(event, times);
    }
    // A server that reports no usage: one token per chunk is the best guess.
    if (times.outputTokens === 0) times.outputTokens = times.chunkMs.length;
  } catch (error) {
    times.error = (error as Error).message;
  }
  times.endMs = performance.now();
  return times;
}

async function sendAll(
  target: Target,
  prompts: readonly BenchPrompt[],
  concurrency: number,
  rate: number,
  random: () => number,
  onDone: () => void,
): Promise<RequestTimes[]> {
  const results: RequestTimes[] = [];
  const startMs = performance.now();
  let next = 0;
  let dueMs = 0;
  const worker = async () => {
    while (next < prompts.length) {
      const prompt = prompts[next++];
      if (rate > 0) {
        // Exponential gaps make Poisson arrivals.
        dueMs += (-Math.log(1 - random()) / rate) * 1000;
        const waitMs = startMs + dueMs - performance.now();
        if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      }
      results.push(await sendRequest(target, prompt));
      onDone();
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, prompts.length) }, worker));
  return results;
}

async function makeTarget(values: OptionValues, concurrency: number): Promise<Target> {
  const baseUrl = (values['base-url'] as string).replace(/\/+$/, '');
  const headers: Record<string, string> =
    values['api-key'] === null ? {} : { authorization: `Bearer ${values['api-key']}` };
  return {
    url: baseUrl + values.endpoint,
    isChat: values.endpoint === '/v1/chat/completions',
    model: (values.model as string | null) ?? (await firstModel(baseUrl, headers)),
    headers,
    maxTokens: values['random-output-len'] as number,
    ignoreEos: values['ignore-eos'] as boolean,
    temperature: values.temperature as number,
    timeoutMs: (values.timeout as number) * 1000,
    agent: new Agent({ connections: concurrency, pipelining: 1 }),
  };
}

export const benchHelp = () =>
  helpOf(
    'quire bench serve [flags]',
    'Sends requests to an OpenAI-compatible server and reports what it achieves.',
    benchOptions,
    false,
  );

/** Resolves with the exit code: 1 when every request failed. */
export async function runBench(args: readonly string[]): Promise<number> {
  // The server's variables say nothing to the load generator.
  const { values } = readOptions(args, {}, benchOptions);
  const concurrency = values['max-concurrency'] as number;
  const random = seededRandom(values.seed as number);
  const count = values['num-prompts'] as number;
  const warmups = values['num-warmups'] as number;
  const target = await makeTarget(values, concurrency);
  const dataset = values.dataset as string;
  const prompts =
    dataset === 'random'
      ? makePrompts(
          {
            count: count + warmups,
            prefixLength: values['random-prefix-len'] as number,
            length: values['random-input-len'] as number,
            asText: target.isChat,
            vocabSize: values['vocab-size'] as number,
          },
          random,
        )
      : readPrompts(dataset, count + warmups);
  for (const result of await sendAll(target, prompts.slice(0, warmups), concurrency, 0, random, () => {})) {
    if (result.error !== null)
      throw new OptionError(`a warm-up request to ${target.url} failed: ${result.error}`);
  }
  const bar = new cliProgress.SingleBar(
    { noTTYOutput: false, etaBuffer: 50 },
    cliProgress.Presets.shades_classic,
  );
  bar.start(count, 0);
  const rate = values['request-rate'] as number;
  const results = await sendAll(target, prompts.slice(warmups), concurrency, rate, random, () =>
    bar.increment(),
  );
  bar.stop();
  const report = makeReport(results);
  process.stdout.write(formatReport(report));
  const file = values['result-file'] as string | null;
  if (file !== null) writeFileSync(file, `${JSON.stringify({ ...report, requests: results })}\n`);
  return report.completed === 0 ? 1 : 0;
}
