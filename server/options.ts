// Every flag of `quire serve`, once: its name, variable, type, range, default and help. --help, the
// environment, validation and docs/cli.md all come from this table. Names are vLLM's wherever it has one.

import { parseArgs } from 'node:util';
import { distance } from 'fastest-levenshtein';
import { reasoningParserNames, toolParserNames } from './answer/formats.ts';

/** A mistake on the command line or in the environment: one line for the person at the terminal. */
export class OptionError extends Error {}

type Kind =
  | { type: 'integer'; low: number; high: number }
  | { type: 'number'; low: number; high: number }
  | { type: 'bytes' }
  | { type: 'tokens' }
  | { type: 'text' }
  | { type: 'list' }
  | { type: 'flag' }
  | { type: 'choice'; values: readonly string[] };

export interface Option {
  /** Without the dashes. */
  name: string;
  kind: Kind;
  /** Null: decided at start, as the help says. */
  fallback: string | number | boolean | readonly string[] | null;
  help: string;
  /** Heading in --help. */
  group: string;
}

const integer = (low: number, high: number): Kind => ({ type: 'integer', low, high });
const seconds: Kind = { type: 'number', low: 0.01, high: 86_400 };
const choice = (...values: string[]): Kind => ({ type: 'choice', values });

export const serveOptions: readonly Option[] = [
  { group: 'Listening', name: 'host', kind: { type: 'text' }, fallback: '127.0.0.1', help: 'address to listen on; 0.0.0.0 is every interface' },
  { group: 'Listening', name: 'port', kind: integer(0, 65_535), fallback: 8000, help: 'port to listen on; 0 picks a free one' },
  { group: 'Listening', name: 'api-key', kind: { type: 'list' }, fallback: [], help: 'key that requests must bring, may be given several times; none lets everyone in' },
  { group: 'Listening', name: 'allowed-origins', kind: { type: 'list' }, fallback: [], help: 'origins that browsers may call from, * for any; none by default' },
  { group: 'Listening', name: 'allowed-hosts', kind: { type: 'list' }, fallback: [], help: 'Host headers to answer to beside localhost, while listening on loopback' },
  { group: 'Listening', name: 'enable-admin', kind: { type: 'flag' }, fallback: false, help: 'serve /abort, /pause, /resume, /sleep, /wake_up and /reset_prefix_cache to everyone who has an API key' },
  { group: 'Listening', name: 'shutdown-timeout', kind: { type: 'number', low: 0, high: 86_400 }, fallback: 30, help: 'seconds that running requests get after SIGTERM' },
  { group: 'Listening', name: 'heartbeat-timeout', kind: seconds, fallback: 60, help: 'seconds without a turn of the step loop after which /health says 503' },
  { group: 'Listening', name: 'sse-ping-interval', kind: seconds, fallback: 5, help: 'seconds of silence after which a stream gets a comment, and seconds between pings of a WebSocket' },

  { group: 'Model', name: 'served-model-name', kind: { type: 'list' }, fallback: [], help: 'name in requests and answers, may be given several times; default MODEL' },
  { group: 'Model', name: 'load-format', kind: choice('auto', 'dummy'), fallback: 'auto', help: 'auto reads safetensors; dummy makes random weights from config.json alone' },
  { group: 'Model', name: 'dtype', kind: choice('auto', 'float32', 'bfloat16', 'float16'), fallback: 'auto', help: 'form of the weights in memory; auto keeps the file’s' },
  { group: 'Model', name: 'quantization', kind: choice('auto', 'none', 'int8'), fallback: 'auto', help: 'int8 rounds every matrix to 8 bits while the model opens (CPU); auto only the output head of a model that is in integers, to 6 bits, none nothing' },
  { group: 'Model', name: 'packed-cache', kind: { type: 'text' }, fallback: null, help: 'file that the packed weights of a model in integers are kept in, so that the next start reads them instead of packing (CPU); auto is packed-weights.quire in the model’s folder; a draft model’s are in its own folder then, else in the file’s name with .draft behind it; default none' },
  { group: 'Model', name: 'max-model-len', kind: { type: 'tokens' }, fallback: null, help: 'prompt and output tokens of a request, e.g. 4096 or 32k; default the model’s own limit' },
  { group: 'Model', name: 'chat-template', kind: { type: 'text' }, fallback: null, help: 'file with a Jinja chat template instead of the model’s own' },
  { group: 'Model', name: 'tool-call-parser', kind: choice('auto', 'none', ...toolParserNames), fallback: 'auto', help: 'how answers write tool calls; auto goes by the chat template, none leaves them in the text' },
  { group: 'Model', name: 'reasoning-parser', kind: choice('auto', 'none', ...reasoningParserNames), fallback: 'auto', help: 'how answers mark reasoning; auto goes by the chat template, none leaves it in the text' },
  { group: 'Model', name: 'lora-modules', kind: { type: 'list' }, fallback: [], help: 'LoRA adapter as name=folder, may be given several times; requests choose one by their model' },
  { group: 'Model', name: 'max-loras', kind: integer(0, 1024), fallback: 4, help: 'adapters that may run in one step; others wait in memory' },
  { group: 'Model', name: 'max-cpu-loras', kind: integer(1, 100_000), fallback: 64, help: 'adapters in memory at most, running ones included' },
  { group: 'Model', name: 'max-lora-rank', kind: integer(1, 512), fallback: 64, help: 'rank of an adapter at most' },
  { group: 'Model', name: 'allow-runtime-lora', kind: { type: 'flag' }, fallback: false, help: 'let clients load adapters from folders of this machine, and unload them' },
  { group: 'Model', name: 'embedding-model', kind: { type: 'list' }, fallback: [], help: 'encoder beside the model as name=folder with an ONNX file, for embeddings, reranking, scores or classes; may be given several times' },
  { group: 'Model', name: 'seed', kind: integer(0, 2 ** 32 - 1), fallback: null, help: 'seed of dummy weights and of requests that bring none; default a fresh one' },

  { group: 'Engine', name: 'backend', kind: choice('auto', 'cpu', 'cuda', 'reference', 'emulated', 'null'), fallback: 'auto', help: 'auto is a GPU where one can be used, else cpu; reference is slow and plain, emulated runs the CUDA kernels on the CPU, both for tests; null answers without computing, to measure the rest' },
  { group: 'Engine', name: 'null-step-time', kind: { type: 'number', low: 0, high: 10_000 }, fallback: 0, help: 'milliseconds that a step of the null backend takes, so that it is paced like a model' },
  { group: 'Engine', name: 'cpu', kind: choice('auto', 'amx', 'avx512', 'avx2', 'portable'), fallback: 'auto', help: 'CPU kernels; auto takes the best this machine has' },
  { group: 'Engine', name: 'cpu-activations', kind: choice('int8', 'f32'), fallback: 'int8', help: 'int8 rounds what goes into a matmul with integer weights to 8 bits, which is several times faster; f32 rounds nothing' },
  { group: 'Engine', name: 'threads', kind: integer(1, 1024), fallback: null, help: 'threads that compute; default one per core that the process may use, or that its container is granted' },
  { group: 'Engine', name: 'cpu-affinity', kind: { type: 'text' }, fallback: null, help: 'cores that these threads are pinned to, one each, as in 0-3,8; as many threads as cores unless --threads says fewer; default none is pinned' },
  { group: 'Engine', name: 'block-size', kind: choice('8', '16', '32'), fallback: '16', help: 'tokens per KV block' },
  { group: 'Engine', name: 'kv-cache-memory', kind: { type: 'bytes' }, fallback: null, help: 'bytes for the KV cache, e.g. 4GiB; default at most 40% of free memory' },
  { group: 'Engine', name: 'gpu-memory-utilization', kind: { type: 'number', low: 0.01, high: 1 }, fallback: 0.9, help: 'share of a GPU’s memory that everything together may take' },
  { group: 'Engine', name: 'num-gpu-blocks-override', kind: integer(1, 2 ** 30), fallback: null, help: 'KV blocks, exactly; overrides --kv-cache-memory' },
  { group: 'Engine', name: 'kv-cache-dtype', kind: choice('auto', 'float32', 'float16', 'bfloat16', 'int8_per_token_head', 'fp8'), fallback: 'auto', help: 'form of keys and values; auto is float32 for float32 weights, else bfloat16; on a GPU what it computes in, or fp8 (e4m3); int8_per_token_head is for the CPU' },
  { group: 'Engine', name: 'batch-invariant', kind: { type: 'flag' }, fallback: false, help: 'on a GPU: tokens never depend on a request’s neighbours, at some cost in speed; on the CPU always so' },
  { group: 'Engine', name: 'max-num-seqs', kind: integer(1, 65_536), fallback: 256, help: 'requests in one step' },
  { group: 'Engine', name: 'max-num-batched-tokens', kind: integer(1, 1 << 20), fallback: 2048, help: 'tokens in one step' },
  { group: 'Engine', name: 'long-prefill-token-threshold', kind: integer(0, 1 << 20), fallback: 0, help: 'prompt tokens one request may take in a step; 0 is no limit of its own' },
  { group: 'Engine', name: 'enable-prefix-caching', kind: { type: 'flag' }, fallback: true, help: 'reuse KV blocks of equal prefixes; --no-enable-prefix-caching turns it off' },
  { group: 'Engine', name: 'speculative-config', kind: { type: 'text' }, fallback: null, help: 'guess tokens and verify several in one step, as JSON: {"method":"ngram","num_speculative_tokens":5,"prompt_lookup_max":4,"prompt_lookup_min":2} looks up in the text so far what followed its last 2 to 4 tokens, {"model":"Qwen/Qwen2.5-0.5B-Instruct","num_speculative_tokens":4} asks a smaller model with the same tokens; with "disable_by_batch_size":8 nothing is guessed while more than 8 requests run; default no guesses' },

  { group: 'Storage', name: 'store', kind: { type: 'text' }, fallback: null, help: 'SQLite file for what clients store; by default it is kept in memory and gone when the server ends' },
  { group: 'Storage', name: 'responses-limit', kind: { type: 'bytes' }, fallback: '256MiB', help: 'bytes of stored responses (/v1/responses); the oldest make room for the newest' },
  { group: 'Storage', name: 'max-store-size', kind: { type: 'bytes' }, fallback: '1GiB', help: 'bytes that the store may grow to, on disk or in memory; what does not fit is answered 507' },
  { group: 'Storage', name: 'max-file-size', kind: { type: 'bytes' }, fallback: '200MiB', help: 'bytes of one uploaded file' },

  { group: 'Limits', name: 'max-queued-requests', kind: integer(1, 1_000_000), fallback: 1024, help: 'requests that may wait; more are answered 429' },
  { group: 'Limits', name: 'max-connections', kind: integer(1, 1_000_000), fallback: 4096, help: 'connections at once, WebSockets included; more are closed unanswered, so it should be well above max-queued-requests and max-num-seqs together' },
  { group: 'Limits', name: 'max-websockets', kind: integer(1, 1_000_000), fallback: 512, help: 'WebSockets at once; where there are several API keys, one may have half of them. More are answered 503' },
  { group: 'Limits', name: 'max-logprobs', kind: integer(0, 64), fallback: 20, help: 'alternatives per token a request may ask for' },
  { group: 'Limits', name: 'grammar-timeout', kind: seconds, fallback: 10, help: 'seconds that compiling a JSON schema, regex or grammar may take; what takes longer is refused' },
  { group: 'Limits', name: 'body-limit', kind: { type: 'bytes' }, fallback: '32MiB', help: 'bytes of a request’s body' },

  { group: 'Logs', name: 'log-level', kind: choice('debug', 'info', 'warn', 'error', 'silent'), fallback: 'info', help: 'least level that is logged' },
  { group: 'Logs', name: 'log-format', kind: choice('auto', 'json', 'pretty'), fallback: 'auto', help: 'auto is pretty on a terminal and JSON elsewhere' },
  { group: 'Logs', name: 'disable-log-requests', kind: { type: 'flag' }, fallback: false, help: 'no line per finished request' },
]; // biome-ignore format: one option a line

export type OptionValues = Record<string, string | number | boolean | string[] | null>;

export const variableOf = (name: string) => `QUIRE_${name.replaceAll('-', '_').toUpperCase()}`;

/** What a value of this kind may be, in words. */
export function allowedOf(kind: Kind): string {
  switch (kind.type) {
    case 'integer':
      return `a whole number from ${kind.low} to ${kind.high}`;
    case 'number':
      return `a number from ${kind.low} to ${kind.high}`;
    case 'bytes':
      return 'bytes, as in 500000000, 512MiB or 4GiB';
    case 'tokens':
      return 'a number of tokens, as in 4096 or 32k';
    case 'choice':
      return kind.values.join(', ');
    case 'flag':
      return 'true or false';
    default:
      return 'text';
  }
}

const byteUnits: Record<string, number> = {
  '': 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
  ti: 2 ** 40,
};

function parseValue(kind: Kind, text: string): string | number | boolean | null {
  switch (kind.type) {
    case 'integer':
    case 'number': {
      const value = /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
      const isKind = kind.type === 'number' || Number.isInteger(value);
      return isKind && value >= kind.low && value <= kind.high ? value : null;
    }
    case 'bytes': {
      const match = /^(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?$/i.exec(text);
      const value =
        match === null ? 0 : Math.floor(Number(match[1]) * byteUnits[(match[2] ?? '').toLowerCase()]);
      return value > 0 && Number.isSafeInteger(value) ? value : null;
    }
    case 'tokens': {
      // vLLM's way: a small k is thousands, a capital K is 1024s.
      const match = /^(\d+(?:\.\d+)?)([kKmM])?$/.exec(text);
      const unit = { k: 1000, K: 1024, m: 1e6, M: 2 ** 20 }[match?.[2] ?? ''] ?? 1;
      const value = match === null ? 0 : Math.floor(Number(match[1]) * unit);
      return value > 0 && value < 2 ** 30 ? value : null;
    }
    case 'choice':
      return kind.values.includes(text) ? text : null;
    case 'flag':
      return { true: true, '1': true, false: false, '0': false }[text] ?? null;
    default:
      return text === '' ? null : text;
  }
}

function parse(option: Option, where: string, text: string): string | number | boolean {
  const value = parseValue(option.kind, text);
  if (value !== null) return value;
  throw new OptionError(`${where}: found ${JSON.stringify(text)}, allowed: ${allowedOf(option.kind)}`);
}

function nearest(name: string, names: readonly string[]): string {
  return names.reduce((best, candidate) =>
    distance(name, candidate) < distance(name, best) ? candidate : best,
  );
}

interface Given {
  values: Map<string, string[]>;
  positionals: string[];
}

/** Node's own parser splits the arguments; what they mean is decided here: errors name the nearest flag. */
function readArguments(args: readonly string[], options: readonly Option[]): Given {
  const { tokens, positionals } = parseArgs({
    args: [...args],
    options: Object.fromEntries(
      options.map(({ name, kind }) => [
        name,
        { type: kind.type === 'flag' ? ('boolean' as const) : ('string' as const), multiple: true },
      ]),
    ),
    strict: false,
    allowPositionals: true,
    allowNegative: true,
    tokens: true,
  });
  const values = new Map<string, string[]>();
  for (const token of tokens) {
    if (token.kind !== 'option') continue;
    const option = options.find(({ name }) => name === token.name);
    const isNegated = token.rawName === `--no-${token.name}`;
    if (
      option === undefined ||
      !token.rawName.startsWith('--') ||
      (isNegated && option.kind.type !== 'flag')
    ) {
      throw unknownFlag(token.rawName, options);
    }
    const value = option.kind.type === 'flag' ? (token.value ?? String(!isNegated)) : token.value;
    if (value === undefined)
      throw new OptionError(`--${option.name} needs a value: ${allowedOf(option.kind)}`);
    values.set(option.name, [...(values.get(option.name) ?? []), value]);
  }
  return { values, positionals };
}

function unknownFlag(rawName: string, options: readonly Option[]): OptionError {
  const names = options.map(({ name }) => name);
  const known = nearest(rawName.replace(/^-+/, ''), names);
  return new OptionError(`unknown flag ${rawName}, did you mean --${known}? (--help lists all)`);
}

function checkVariables(env: NodeJS.ProcessEnv, options: readonly Option[]): void {
  const known = [...options.map(({ name }) => variableOf(name)), 'QUIRE_MODEL'];
  // Variables of the tests and the build are not the command line's.
  const others = new Set(['QUIRE_TEST_SEED', 'QUIRE_CUDA']);
  for (const name of Object.keys(env)) {
    if (!name.startsWith('QUIRE_') || known.includes(name) || others.has(name)) continue;
    throw new OptionError(`unknown variable ${name}, did you mean ${nearest(name, known)}?`);
  }
}

/** Command line before environment before default. Throws OptionError. `model` is null when none is named. */
export function readOptions(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  options: readonly Option[] = serveOptions,
): { model: string | null; values: OptionValues } {
  const given = readArguments(args, options);
  if (given.positionals.length > 1) {
    throw new OptionError(
      `found ${given.positionals.length} models (${given.positionals.join(', ')}), one can be served`,
    );
  }
  checkVariables(env, options);
  const values: OptionValues = {};
  for (const option of options) {
    const fromFlag = given.values.get(option.name);
    const variable = env[variableOf(option.name)];
    const isList = option.kind.type === 'list';
    const texts =
      fromFlag ??
      (variable === undefined || variable === '' ? null : isList ? variable.split(',') : [variable]);
    const where = fromFlag === undefined ? variableOf(option.name) : `--${option.name}`;
    if (texts === null) {
      const { fallback } = option;
      values[option.name] =
        typeof fallback === 'string' ? parse(option, where, fallback) : (fallback as OptionValues[string]);
    } else if (isList) values[option.name] = texts.map((text) => parse(option, where, text) as string);
    else values[option.name] = parse(option, where, texts[texts.length - 1]);
  }
  return { model: given.positionals[0] ?? (env.QUIRE_MODEL || null), values };
}

/** `--help` of one command. `hasVariables`: its flags can be set in the environment too. */
export function helpOf(
  usage: string,
  about: string,
  options: readonly Option[],
  hasVariables: boolean,
): string {
  const lines = [`Usage: ${usage}`, '', about];
  const width = 34;
  for (const group of [...new Set(options.map((option) => option.group))]) {
    lines.push('', `${group}:`);
    for (const option of options.filter((candidate) => candidate.group === group)) {
      const { kind, fallback } = option;
      const value =
        kind.type === 'flag'
          ? ''
          : kind.type === 'choice'
            ? ` ${kind.values.join('|')}`
            : ` ${kind.type.toUpperCase()}`;
      const byDefault =
        fallback === null || (Array.isArray(fallback) && fallback.length === 0)
          ? ''
          : ` (default ${fallback})`;
      const flag = `  --${option.name}${value}`;
      const gap = flag.length < width ? ' '.repeat(width - flag.length) : `\n${' '.repeat(width)}`;
      lines.push(`${flag}${gap}${option.help}${byDefault}`);
    }
  }
  if (hasVariables) {
    lines.push(
      '',
      'Every flag can be set as a variable too: --max-num-seqs is QUIRE_MAX_NUM_SEQS. Lists are separated by commas.',
    );
  }
  lines.push('');
  return lines.join('\n');
}
