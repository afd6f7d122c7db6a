// vLLM's own arithmetic for its metrics, on a real engine: R serial requests of P prompt and T output tokens.

import { defaultSamplingParams, Engine } from 'quire';
import { describe, expect, it } from 'vitest';
import { Metrics, oneTwoFive } from '../../server/metrics.ts';
import { hasStories, storiesFolder } from '../stories260k.ts';

const R = 7;
const P = 20;
const T = 12;

async function samples(metrics: Metrics): Promise<Map<string, number>> {
  const lines = (await metrics.render()).split('\n').filter((line) => line.startsWith('vllm:'));
  return new Map(
    lines.map((line) => {
      const [, name, labels, value] = /^([\w:]+)\{(.*)\} (\S+)$/.exec(line) ?? [];
      const extra = labels.replace(/model_name="m",engine="0",?|,?model_name="m",engine="0"/, '');
      return [extra === '' ? name : `${name}{${extra}}`, Number(value)];
    }),
  );
}

describe.skipIf(!hasStories)('metrics', () => {
  it('count exactly what vLLM counts', async () => {
    const metrics = new Metrics('m', 512);
    const observer = {
      onStep: metrics.onStep.bind(metrics),
      onFirstToken: metrics.onFirstToken.bind(metrics),
      onInterToken: metrics.onInterToken.bind(metrics),
      onFinished: metrics.onFinished.bind(metrics),
    };
    const engine = await Engine.open({ model: storiesFolder, observer });
    const promptTokenIds = Int32Array.from({ length: P }, (_, i) => (i === 0 ? 1 : 260 + i));
    const sampling = { ...defaultSamplingParams, temperature: 0, maxTokens: T, ignoreEos: true };
    for (let r = 0; r < R; r++) {
      for await (const delta of engine.generate({ requestId: `${r}`, promptTokenIds, sampling })) void delta;
    }
    await engine.close();
    const found = await samples(metrics);
    const expected: Record<string, number> = {
      'vllm:time_to_first_token_seconds_count': R,
      'vllm:inter_token_latency_seconds_count': R * (T - 1),
      'vllm:e2e_request_latency_seconds_count': R,
      'vllm:request_queue_time_seconds_count': R,
      'vllm:request_inference_time_seconds_count': R,
      'vllm:request_prefill_time_seconds_count': R,
      'vllm:request_decode_time_seconds_count': R,
      'vllm:request_prompt_tokens_sum': R * P,
      'vllm:request_prompt_tokens_count': R,
      'vllm:request_generation_tokens_sum': R * T,
      'vllm:request_params_max_tokens_sum': R * T,
      'vllm:request_params_n_sum': R,
      'vllm:iteration_tokens_total_sum': R * (P + T),
      'vllm:iteration_tokens_total_count': R * T,
      'vllm:prompt_tokens_total': R * P,
      'vllm:generation_tokens_total': R * T,
      'vllm:request_success_total{finished_reason="length"}': R,
      'vllm:request_success_total{finished_reason="stop"}': 0,
      // Every request but the first finds one full block of 16.
      'vllm:prefix_cache_queries_total': R * P,
      'vllm:prefix_cache_hits_total': (R - 1) * 16,
      'vllm:request_prefill_kv_computed_tokens_sum': R * P - (R - 1) * 16,
      'vllm:num_preemptions_total': 0,
      'vllm:num_requests_running': 0,
      'vllm:num_requests_waiting': 0,
      'vllm:kv_cache_usage_perc': 0,
    };
    for (const [name, value] of Object.entries(expected)) expect(found.get(name), name).toBe(value);
    // Buckets are cumulative and end in the count: 12 tokens of each step but the first lie in the first
    // bucket.
    expect(found.get('vllm:iteration_tokens_total_bucket{le="1"}')).toBe(R * (T - 1));
    expect(found.get('vllm:iteration_tokens_total_bucket{le="+Inf"}')).toBe(R * T);
  });

  it('have 1-2-5 buckets up to the context length', () => {
    expect(oneTwoFive(512)).toEqual([1, 2, 5, 10, 20, 50, 100, 200, 500]);
  });
});
