// From the times of each request to the figures of a run. Pure arithmetic.

export interface RequestTimes {
  /** Milliseconds on one clock. */
  startMs: number;
  /** When each chunk with text came. */
  chunkMs: number[];
  endMs: number;
  promptTokens: number;
  outputTokens: number;
  /** Null when it succeeded. */
  error: string | null;
}

export interface Distribution {
  mean: number;
  median: number;
  p99: number;
}

export interface Report {
  completed: number;
  failed: number;
  durationS: number;
  requestsPerS: number;
  outputTokensPerS: number;
  totalTokensPerS: number;
  /** Events with text; fewer than tokens where the server puts several into one. */
  chunksPerS: number;
  promptTokens: number;
  outputTokens: number;
  /** Time to first token, time per output token after it, time between chunks, time to the end. */
  ttftMs: Distribution;
  tpotMs: Distribution;
  itlMs: Distribution;
  e2eMs: Distribution;
  /** Message -> how often. */
  errors: Record<string, number>;
}

/** Nearest-rank percentiles; NaN of nothing. */
export function distribution(values: readonly number[]): Distribution {
  const sorted = [...values].sort((a, b) => a - b);
  const rank = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
  const mean = sorted.reduce((sum, value) => sum + value, 0) / sorted.length;
  return { mean, median: rank(0.5), p99: rank(0.99) };
}

export function makeReport(requests: readonly RequestTimes[]): Report {
  const good = requests.filter(({ error }) => error === null);
  const errors: Record<string, number> = {};
  for (const { error } of requests) if (error !== null) errors[error] = (errors[error] ?? 0) + 1;
  const startMs = Math.min(...requests.map((request) => request.startMs));
  const endMs = Math.max(...requests.map((request) => request.endMs));
  const durationS = (endMs - startMs) / 1000;
  const sum = (of: (request: RequestTimes) => number) =>
    good.reduce((total, request) => total + of(request), 0);
  const promptTokens = sum((request) => request.promptTokens);
  const outputTokens = sum((request) => request.outputTokens);
  const withText = good.filter(({ chunkMs }) => chunkMs.length > 0);
  const spans = withText.filter((request) => request.outputTokens > 1);
  return {
    completed: good.length,
    failed: requests.length - good.length,
    durationS,
    requestsPerS: good.length / durationS,
    outputTokensPerS: outputTokens / durationS,
    totalTokensPerS: (promptTokens + outputTokens) / durationS,
    chunksPerS: sum(({ chunkMs }) => chunkMs.length) / durationS,
    promptTokens,
    outputTokens,
    ttftMs: distribution(withText.map((request) => request.chunkMs[0] - request.startMs)),
    tpotMs: distribution(
      spans.map(
        ({ chunkMs, outputTokens: tokens }) => (chunkMs[chunkMs.length - 1] - chunkMs[0]) / (tokens - 1),
      ),
    ),
    itlMs: distribution(withText.flatMap(({ chunkMs }) => chunkMs.slice(1).map((at, i) => at - chunkMs[i]))),
    e2eMs: distribution(good.map((request) => request.endMs - request.startMs)),
    errors,
  };
}

export function formatReport(report: Report): string {
  const row = (name: string, value: number, unit: string) =>
    `${name.padEnd(30)}${value.toFixed(2).padStart(12)} ${unit}`;
  const times = (name: string, { mean, median, p99 }: Distribution) =>
    `${name.padEnd(30)}${[mean, median, p99].map((value) => value.toFixed(2).padStart(12)).join('')} ms`;
  return [
    row('requests completed', report.completed, ''),
    row('requests failed', report.failed, ''),
    row('duration', report.durationS, 's'),
    row('request throughput', report.requestsPerS, 'requests/s'),
    row('output token throughput', report.outputTokensPerS, 'tokens/s'),
    row('total token throughput', report.totalTokensPerS, 'tokens/s'),
    row('streamed chunks', report.chunksPerS, 'chunks/s'),
    `${''.padEnd(30)}${['mean', 'median', 'p99'].map((name) => name.padStart(12)).join('')}`,
    times('time to first token, TTFT', report.ttftMs),
    times('per output token, TPOT', report.tpotMs),
    times('between chunks, ITL', report.itlMs),
    times('end to end, E2E', report.e2eMs),
    ...Object.entries(report.errors).map(([message, count]) => `failed ${count} times: ${message}`),
    '',
  ].join('\n');
}
