// Prometheus metrics with vLLM's names, types, labels and buckets, so that its dashboards and autoscalers
// work as they are (vllm/v1/metrics). Implements the engine's observer.

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type {
  EngineApi,
  EngineDescription,
  EngineObserver,
  RequestRecord,
  StepStats,
} from '../engine/engine.ts';

const tokensPerStepBuckets = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];
const ttftBuckets = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
  2560,
];
const interTokenBuckets = [
  0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
const requestBuckets = [
  0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
];

/** 1, 2, 5, 10, 20, 50 ... up to the largest not above `max`. */
export function oneTwoFive(max: number): number[] {
  const buckets: number[] = [];
  for (let power = 1; power <= max; power *= 10) {
    for (const factor of [1, 2, 5]) if (factor * power <= max) buckets.push(factor * power);
  }
  return buckets;
}

const labelNames = ['model_name', 'engine'] as const;
const finishReasons = ['stop', 'length', 'abort', 'error'] as const;

interface HistogramValue {
  metricName: string;
  labels: { le?: string | number };
  sharedLabels?: { le?: string | number };
  value: number;
}

/**
 * A histogram that is observed tens of thousands of times a second: counts by itself, and hands over when
 * scraped.
 */
class FastHistogram {
  readonly #buckets: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(
    registry: Registry,
    name: string,
    help: string,
    buckets: readonly number[],
    labels: Record<string, string>,
  ) {
    this.#buckets = buckets;
    this.#counts = new Float64Array(buckets.length + 1);
    const histogram = new Histogram({
      name,
      help,
      buckets: [...buckets],
      labelNames: [...labelNames],
      registers: [registry],
    });
    histogram.zero(labels);
    // The registry asks for the values here; what prom-client counted (nothing) is replaced by our counts.
    const series = histogram as unknown as { getForPromString(): Promise<{ values: Array<HistogramValue> }> };
    const get = series.getForPromString.bind(histogram);
    series.getForPromString = async () => this.#fill(name, await get());
  }

  #fill<T extends { values: HistogramValue[] }>(name: string, metric: T): T {
    const total = this.#counts.reduce((sum, count) => sum + count, 0);
    let cumulative = 0;
    for (const value of metric.values) {
      const bound = value.labels.le ?? value.sharedLabels?.le;
      if (value.metricName === `${name}_sum`) value.value = this.#sum;
      else if (value.metricName === `${name}_count` || bound === '+Inf') value.value = total;
      else {
        cumulative += this.#counts[this.#buckets.indexOf(Number(bound))];
        value.value = cumulative;
      }
    }
    return metric;
  }

  observe(value: number): void {
    let low = 0;
    let high = this.#buckets.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#buckets[middle] < value) low = middle + 1;
      else high = middle;
    }
    this.#counts[low]++;
    this.#sum += value;
  }
}

export class Metrics implements EngineObserver {
  readonly #registry = new Registry();
  readonly #labels: { model_name: string; engine: string };
  #numWaiting = () => 0;
  readonly #gauges: Record<'running' | 'waiting' | 'usage', Gauge>;
  readonly #counters: Record<string, Counter>;
  readonly #histograms: Record<string, FastHistogram>;
  readonly #success: Counter;
  readonly #bySource: Counter;
  readonly #byReason: Gauge;
  #drafts: Record<'drafts' | 'draftTokens' | 'accepted' | 'byPosition', Counter> | null = null;

  constructor(modelName: string, maxModelLen: number) {
    this.#labels = { model_name: modelName, engine: '0' };
    collectDefaultMetrics({ register: this.#registry });
    const gauge = (name: string, help: string, extra: string[] = []) =>
      new Gauge({
        name: `vllm:${name}`,
        help,
        labelNames: [...labelNames, ...extra],
        registers: [this.#registry],
      });
    const counter = (name: string, help: string, extra: string[] = []) =>
      new Counter({
        name: `vllm:${name}_total`,
        help,
        labelNames: [...labelNames, ...extra],
        registers: [this.#registry],
      });
    const histogram = (name: string, help: string, buckets: readonly number[]) =>
      new FastHistogram(this.#registry, `vllm:${name}`, help, buckets, this.#labels);

    this.#gauges = {
      running: gauge('num_requests_running', 'Requests in the running batch.'),
      waiting: gauge('num_requests_waiting', 'Requests that wait to be processed.'),
      usage: gauge('kv_cache_usage_perc', 'Share of KV blocks in use, 1 is all.'),
    };
    this.#byReason = gauge('num_requests_waiting_by_reason', 'Requests that wait, by reason.', ['reason']);
    this.#counters = {
      queries: counter('prefix_cache_queries', 'Tokens looked up in the prefix cache.'),
      hits: counter('prefix_cache_hits', 'Tokens found in the prefix cache.'),
      preemptions: counter('num_preemptions', 'Preempted requests.'),
      prompt: counter('prompt_tokens', 'Prompt tokens processed.'),
      cached: counter('prompt_tokens_cached', 'Prompt tokens taken from the prefix cache.'),
      generation: counter('generation_tokens', 'Generated tokens.'),
    };
    this.#bySource = counter('prompt_tokens_by_source', 'Prompt tokens by where they came from.', ['source']);
    this.#success = counter('request_success', 'Finished requests by reason.', ['finished_reason']);
    const lengths = oneTwoFive(maxModelLen);
    this.#histograms = {
      prompt: histogram('request_prompt_tokens', 'Prompt tokens per request.', lengths),
      generation: histogram('request_generation_tokens', 'Generated tokens per request.', lengths),
      maxGeneration: histogram(
        'request_max_num_generation_tokens',
        'Most tokens generated by a choice of the request.',
        lengths,
      ),
      maxTokens: histogram('request_params_max_tokens', 'max_tokens of requests.', lengths),
      computed: histogram(
        'request_prefill_kv_computed_tokens',
        'Prompt tokens computed, cached ones left out.',
        lengths,
      ),
      step: histogram('iteration_tokens_total', 'Tokens per step.', tokensPerStepBuckets),
      n: histogram('request_params_n', 'n of requests.', [1, 2, 5, 10, 20]),
      ttft: histogram('time_to_first_token_seconds', 'Time to first token.', ttftBuckets),
      interToken: histogram('inter_token_latency_seconds', 'Time between tokens.', interTokenBuckets),
      perToken: histogram(
        'request_time_per_output_token_seconds',
        'Mean time per output token of a request.',
        interTokenBuckets,
      ),
      e2e: histogram('e2e_request_latency_seconds', 'Time from arrival to end.', requestBuckets),
      queue: histogram('request_queue_time_seconds', 'Time in the queue.', requestBuckets),
      inference: histogram(
        'request_inference_time_seconds',
        'Time from first step to last token.',
        requestBuckets,
      ),
      prefill: histogram(
        'request_prefill_time_seconds',
        'Time from first step to first token.',
        requestBuckets,
      ),
      decode: histogram('request_decode_time_seconds', 'Time from first to last token.', requestBuckets),
    };
    this.#zero();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  render(): Promise<string> {
    const numWaiting = this.#numWaiting();
    this.#gauges.waiting.set(this.#labels, numWaiting);
    this.#byReason.set({ ...this.#labels, reason: 'capacity' }, numWaiting);
    return this.#registry.metrics();
  }

  /** What is constant once the model is open. */
  setEngine({ blockSize, numBlocks, maxNumSeqs }: EngineDescription, prefixCaching: boolean): void {
    const config = {
      block_size: String(blockSize),
      num_gpu_blocks: String(numBlocks),
      enable_prefix_caching: String(prefixCaching),
      max_num_seqs: String(maxNumSeqs),
    };
    new Gauge({
      name: 'vllm:cache_config_info',
      help: 'Configuration of the KV cache, as labels.',
      labelNames: [...labelNames, ...Object.keys(config)],
      registers: [this.#registry],
    }).set({ ...this.#labels, ...config }, 1);
  }

  /** Drafts have so many tokens at most. */
  setSpeculation(maxTokens: number): void {
    const counter = (name: string, help: string, extra: string[] = []) =>
      new Counter({
        name: `vllm:spec_decode_${name}_total`,
        help,
        labelNames: [...labelNames, ...extra],
        registers: [this.#registry],
      });
    const { byPosition, ...whole } = {
      drafts: counter('num_drafts', 'Drafts that were verified.'),
      draftTokens: counter('num_draft_tokens', 'Drafted tokens.'),
      accepted: counter('num_accepted_tokens', 'Drafted tokens that were accepted.'),
      byPosition: counter(
        'num_accepted_tokens_per_pos',
        'Drafted tokens that were accepted, by their place in the draft.',
        ['position'],
      ),
    };
    for (const one of Object.values(whole)) one.inc(this.#labels, 0);
    for (let i = 0; i < maxTokens; i++) byPosition.inc({ ...this.#labels, position: String(i) }, 0);
    this.#drafts = { ...whole, byPosition };
  }

  /** numWaiting is asked at every scrape: who comes during a long step, or in a pause, waits already. */
  setQueue(numWaiting: () => number): void {
    this.#numWaiting = numWaiting;
  }

  /** isSleeping is asked at every scrape. Asleep, vLLM has its weights offloaded; here they stay. */
  setSleepState(isSleeping: () => boolean): void {
    const shared = this.#labels;
    new Gauge({
      name: 'vllm:engine_sleep_state',
      help: 'Whether the engine is awake, or asleep without its KV cache; 1 is so.',
      labelNames: [...labelNames, 'sleep_state'],
      registers: [this.#registry],
      collect() {
        const asleep = isSleeping();
        this.set({ ...shared, sleep_state: 'awake' }, asleep ? 0 : 1);
        this.set({ ...shared, sleep_state: 'weights_offloaded' }, asleep ? 1 : 0);
        this.set({ ...shared, sleep_state: 'discard_all' }, 0);
      },
    });
  }

  /** adaptersInUse is asked at every scrape. */
  setAdapters(maxLoras: number, adaptersInUse: EngineApi['adaptersInUse']): void {
    const labels = ['max_lora', 'running_lora_adapters', 'waiting_lora_adapters'] as const;
    new Gauge({
      name: 'vllm:lora_requests_info',
      help: 'Adapters that requests run with and wait for, as labels; the value is the time of the scrape.',
      labelNames: labels,
      registers: [this.#registry],
      collect() {
        const { running, waiting } = adaptersInUse();
        this.reset();
        this.set(
          {
            max_lora: String(maxLoras),
            running_lora_adapters: running.join(','),
            waiting_lora_adapters: waiting.join(','),
          },
          Date.now() / 1000,
        );
      },
    });
  }

  onStep(stats: StepStats): void {
    const labels = this.#labels;
    this.#gauges.running.set(labels, stats.numRunning);
    this.#gauges.usage.set(labels, stats.kvCacheUsage);
    const add = (name: string, count: number) => count > 0 && this.#counters[name].inc(labels, count);
    add('queries', stats.prefixCacheQueries);
    add('hits', stats.prefixCacheHits);
    add('preemptions', stats.numPreemptions);
    add('prompt', stats.numPromptTokens);
    add('cached', stats.numCachedPromptTokens);
    add('generation', stats.numGenerationTokens);
    this.#onDrafts(stats);
    if (stats.numPromptTokens > 0) {
      const local = stats.numPromptTokens - stats.numCachedPromptTokens;
      this.#bySource.inc({ ...labels, source: 'local_compute' }, local);
      this.#bySource.inc({ ...labels, source: 'local_cache_hit' }, stats.numCachedPromptTokens);
    }
    const tokens = stats.numPromptTokens + stats.numGenerationTokens;
    if (tokens > 0) this.#histograms.step.observe(tokens);
  }

  #onDrafts({ numDrafts, numDraftTokens, numAcceptedByPosition }: StepStats): void {
    if (this.#drafts === null || numDrafts === 0) return;
    const labels = this.#labels;
    this.#drafts.drafts.inc(labels, numDrafts);
    this.#drafts.draftTokens.inc(labels, numDraftTokens);
    for (const [i, count] of numAcceptedByPosition.entries()) {
      this.#drafts.accepted.inc(labels, count);
      this.#drafts.byPosition.inc({ ...labels, position: String(i) }, count);
    }
  }

  onFirstToken(ttftMs: number): void {
    this.#histograms.ttft.observe(ttftMs / 1000);
  }

  onInterToken(itlMs: number): void {
    this.#histograms.interToken.observe(itlMs / 1000);
  }

  onFinished(record: RequestRecord): void {
    const h = this.#histograms;
    this.#success.inc({ ...this.#labels, finished_reason: record.finishReason });
    h.e2e.observe((record.finishedMs - record.arrivalMs) / 1000);
    h.prompt.observe(record.numPromptTokens);
    h.computed.observe(record.numPromptTokens - record.numCachedTokens);
    h.generation.observe(record.numOutputTokens);
    h.maxGeneration.observe(record.numOutputTokens);
    h.maxTokens.observe(record.maxTokens);
    h.n.observe(record.n);
    const { scheduledMs, firstTokenMs, lastTokenMs } = record;
    if (scheduledMs === null || firstTokenMs === null || lastTokenMs === null) return;
    h.queue.observe((scheduledMs - record.arrivalMs) / 1000);
    h.prefill.observe((firstTokenMs - scheduledMs) / 1000);
    h.decode.observe((lastTokenMs - firstTokenMs) / 1000);
    h.inference.observe((lastTokenMs - scheduledMs) / 1000);
    if (record.numOutputTokens > 1)
      h.perToken.observe((lastTokenMs - firstTokenMs) / 1000 / (record.numOutputTokens - 1));
  }

  /** Every series exists from the start, so that rates work from the first request. */
  #zero(): void {
    const labels = this.#labels;
    for (const gauge of Object.values(this.#gauges)) gauge.set(labels, 0);
    for (const counter of Object.values(this.#counters)) counter.inc(labels, 0);
    for (const finished_reason of finishReasons) this.#success.inc({ ...labels, finished_reason }, 0);
    for (const source of ['local_compute', 'local_cache_hit', 'external_kv_transfer'])
      this.#bySource.inc({ ...labels, source }, 0);
    for (const reason of ['capacity', 'deferred']) this.#byReason.set({ ...labels, reason }, 0);
  }
}
