// The flags of `quire bench serve`, named as in `vllm bench serve`.

import type { Option } from '../options.ts';

export const benchOptions: readonly Option[] = [
  { group: 'Server', name: 'base-url', kind: { type: 'text' }, fallback: 'http://127.0.0.1:8000', help: 'where the server listens' },
  { group: 'Server', name: 'endpoint', kind: { type: 'choice', values: ['/v1/completions', '/v1/chat/completions'] }, fallback: '/v1/completions', help: 'what is measured' },
  { group: 'Server', name: 'model', kind: { type: 'text' }, fallback: null, help: 'name in requests; default the first that /v1/models lists' },
  { group: 'Server', name: 'api-key', kind: { type: 'text' }, fallback: null, help: 'key sent as a bearer token' },

  { group: 'Load', name: 'dataset', kind: { type: 'text' }, fallback: 'random', help: 'random, or a file: .jsonl with a "prompt" per line, else a prompt per line' },
  { group: 'Load', name: 'random-input-len', kind: { type: 'integer', low: 1, high: 1_000_000 }, fallback: 128, help: 'prompt tokens of random requests (about, for chat)' },
  { group: 'Load', name: 'random-prefix-len', kind: { type: 'integer', low: 0, high: 1_000_000 }, fallback: 0, help: 'tokens before those, the same in all of them (with --num-warmups 0 none is in a prefix cache at first)' },
  { group: 'Load', name: 'random-output-len', kind: { type: 'integer', low: 1, high: 1_000_000 }, fallback: 64, help: 'output tokens of every request' },
  { group: 'Load', name: 'vocab-size', kind: { type: 'integer', low: 20, high: 10_000_000 }, fallback: 500, help: 'random token ids are drawn from 10 to this, for /v1/completions' },
  { group: 'Load', name: 'num-prompts', kind: { type: 'integer', low: 1, high: 10_000_000 }, fallback: 100, help: 'requests that count' },
  { group: 'Load', name: 'num-warmups', kind: { type: 'integer', low: 0, high: 100_000 }, fallback: 1, help: 'requests before them that do not' },
  { group: 'Load', name: 'max-concurrency', kind: { type: 'integer', low: 1, high: 100_000 }, fallback: 16, help: 'requests under way at most' },
  { group: 'Load', name: 'request-rate', kind: { type: 'number', low: 0, high: 1e6 }, fallback: 0, help: 'requests per second, Poisson arrivals; 0 sends as fast as concurrency allows' },
  { group: 'Load', name: 'seed', kind: { type: 'integer', low: 0, high: 2 ** 31 }, fallback: 0, help: 'seed of prompts and arrivals' },
  { group: 'Load', name: 'ignore-eos', kind: { type: 'flag' }, fallback: true, help: 'ask for full-length answers; --no-ignore-eos lets them end' },
  { group: 'Load', name: 'temperature', kind: { type: 'number', low: 0, high: 2 }, fallback: 0, help: 'sampling temperature' },
  { group: 'Load', name: 'timeout', kind: { type: 'number', low: 1, high: 86_400 }, fallback: 600, help: 'seconds after which a request has failed' },

  { group: 'Report', name: 'result-file', kind: { type: 'text' }, fallback: null, help: 'JSON file for the figures and every request’s times' },
]; // biome-ignore format: one option a line
