// Mixture of experts: tokens to their experts and back. Bound: the experts' matmuls, which are those of
// matmul.h, one after the other, each over the rows that came to it.
#pragma once

#include <cmath>

#include "cpu/matmul.h"
#include "cpu/simd.h"
#include "ops.h"
#include "thread_pool.h"

namespace quire::QUIRE_VARIANT {

// Chooses top_k of one token's experts, best first.
inline void choose_experts(const MoeRouteArgs& a, int64_t t) {
  const float* logits = a.logits + t * a.num_experts;
  int32_t* ids = a.expert_ids + t * a.top_k;
  float* weights = a.weights + t * a.top_k;
  int count = 0;
  for (int e = 0; e < a.num_experts; e++) {
    int at = count;
    while (at > 0 && logits[e] > logits[ids[at - 1]]) at--;
    if (at == a.top_k) continue;
    if (count < a.top_k) count++;
    for (int i = count - 1; i > at; i--) ids[i] = ids[i - 1];
    ids[at] = e;
  }
  const float max = logits[ids[0]];
  float sum = 0;
  for (int j = 0; j < a.top_k; j++) sum += weights[j] = std::exp(logits[ids[j]] - max);
  if (!a.renormalises) {
    sum = 0;
    for (int e = 0; e < a.num_experts; e++) sum += std::exp(logits[e] - max);
  }
  for (int j = 0; j < a.top_k; j++) weights[j] /= sum;
}

inline void moe_route(const MoeRouteArgs& a, ThreadPool& pool) {
  constexpr int kTokens = 16;
  pool.parallel_for((a.num_tokens + kTokens - 1) / kTokens, [&](int64_t piece, int) {
    const int64_t end = (piece + 1) * kTokens < a.num_tokens ? (piece + 1) * kTokens : a.num_tokens;
    for (int64_t t = piece * kTokens; t < end; t++) choose_experts(a, t);
  });
  const int64_t num_rows = int64_t{a.num_tokens} * a.top_k;
  for (int e = 0; e <= a.num_experts; e++) a.expert_start[e] = 0;
  for (int64_t i = 0; i < num_rows; i++) a.expert_start[a.expert_ids[i] + 1]++;
  for (int e = 0; e < a.num_experts; e++) a.expert_start[e + 1] += a.expert_start[e];
  int32_t next[kMaxExperts];
  for (int e = 0; e < a.num_experts; e++) next[e] = a.expert_start[e];
  for (int64_t i = 0; i < num_rows; i++) {
    const int32_t row = next[a.expert_ids[i]]++;
    a.places[i] = row;
    a.source_rows[row] = static_cast<int32_t>(i / a.top_k);
  }
}

template <MatmulOp kMatmul>
inline void grouped_matmul(const GroupedMatmulArgs& a, ThreadPool& pool) {
  for (int e = 0; e < a.num_experts; e++) {
    const Tensor& w = a.weights[e];
    const int64_t first = a.expert_start[e];
    const int rows = a.expert_start[e + 1] - a.expert_start[e];
    if (rows == 0) continue;
    kMatmul({f32(a.out) + first * a.out_stride, f32(a.x) + first * w.cols, &w, nullptr, rows, w.cols,
             a.out_stride},
            pool);
  }
}

inline void moe_combine(const MoeCombineArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.num_tokens, [&](int64_t t, int) {
    float* out = f32(a.out) + t * a.size;
    for_each_vector(a.size, [&](int i, int n) {
      Vec sum = zero();
      for (int64_t j = t * a.top_k; j < (t + 1) * a.top_k; j++) {
        const float* y = f32(a.y) + int64_t{a.places[j]} * a.size + i;
        sum = fma(broadcast(a.weights[j]), load_up_to<F32>(y, n), sum);
      }
      store_up_to(out + i, sum, n);
    });
  });
}

}  // namespace quire::QUIRE_VARIANT
