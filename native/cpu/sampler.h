// Log-probabilities, penalties and one draw per logits row. Contract and order in ops.h.
//
// No sort of the whole vocabulary: the k likeliest come from one pass with a small ordered list, top_k's
// threshold from a selection, and top_p sorts only as many of the likeliest as it takes to reach its mass.
// Bound: a few passes over [vocab_size] floats.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu/simd.h"
#include "cpu/softmax_state.h"
#include "ops.h"
#include "philox.h"
#include "thread_pool.h"

namespace quire::QUIRE_VARIANT {

// Most alternatives a row may report; max_logprobs is checked against it when the model opens.
constexpr int kMaxTop = 64;

struct SampleRow {
  const SampleArgs& args;
  int row;            // of the batch
  float* raw;         // [V]
  float* weights;     // [V] scratch: processed logits, later unnormalised probabilities
  float* candidates;  // [V] scratch of selections
};

// The largest value; -inf when there is none.
inline float largest(const float* values, int size) {
  Vec best = broadcast(kNegativeInfinity);
  for_each_vector(size, [&](int i, int n) {
    if (n == kWidth) best = max(load<F32>(values + i), best);
  });
  float most = max_lane(best);
  for (int i = size / kWidth * kWidth; i < size; i++) most = values[i] > most ? values[i] : most;
  return most;
}

// NaN becomes -inf; returns the largest value.
inline float clean(float* logits, int size) {
  const Vec lowest = broadcast(kNegativeInfinity);
  // Of a NaN and a number, max gives its second operand.
  for_each_vector(
      size, [&](int i, int n) { store_up_to(logits + i, max(load_up_to<F32>(logits + i, n), lowest), n); });
  return largest(logits, size);
}

// The first of the largest. Looks for it in the first block that has it.
inline int argmax(const float* values, int size) {
  constexpr int kBlock = 1024;
  int block = 0;
  float most = kNegativeInfinity;
  for (int start = 0; start < size; start += kBlock) {
    const float best = largest(values + start, size - start < kBlock ? size - start : kBlock);
    if (best > most) {
      most = best;
      block = start;
    }
  }
  int i = block;
  while (i < size - 1 && !(values[i] == most)) i++;
  return most == kNegativeInfinity ? 0 : i;
}

// out = exp((x - max) * inverse_temperature); returns the sum, added in order of id.
inline double exponentials(float* out, const float* x, int size, float max, float inverse_temperature) {
  const Vec shift = broadcast(max);
  const Vec factor = broadcast(inverse_temperature);
  double total = 0;
  for_each_vector(size, [&](int i, int n) {
    const Vec e = exp(mul(sub(load_up_to<F32>(x + i, n), shift), factor));
    store_up_to(out + i, e, n);
    // Lanes past n hold exp of (0 - max): only the first n count.
    float lanes[kWidth];
    store(lanes, e);
    for (int lane = 0; lane < n; lane++) total += lanes[lane];
  });
  return total;
}

// The numTop likeliest, best first, ties to the lower id.
inline void likeliest(const float* raw, int size, int num_top, int32_t* ids) {
  int count = 0;
  for (int i = 0; i < size; i++) {
    if (count == num_top && !(raw[i] > raw[ids[count - 1]])) continue;
    int at = count < num_top ? count++ : count - 1;
    for (; at > 0 && raw[i] > raw[ids[at - 1]]; at--) ids[at] = ids[at - 1];
    ids[at] = i;
  }
}

inline void report(const SampleRow& r, int token, float max) {
  const Batch& b = *r.args.batch;
  const int size = r.args.vocab_size;
  b.sampled_token_ids[r.row] = token;
  const int num_top = b.num_logprobs[r.row];
  if (num_top < 0) return;
  // weights is free again: the draw is done.
  const double log_sum = max + std::log(exponentials(r.weights, r.raw, size, max, 1.0f));
  int rank = 1;
  for (int i = 0; i < size; i++) rank += r.raw[i] > r.raw[token] ? 1 : 0;
  b.sampled_logprobs[r.row] = static_cast<float>(r.raw[token] - log_sum);
  b.sampled_ranks[r.row] = rank;
  if (num_top == 0) return;
  int32_t* ids = b.top_token_ids + int64_t{r.row} * r.args.sizes.max_logprobs;
  float* logprobs = b.top_logprobs + int64_t{r.row} * r.args.sizes.max_logprobs;
  likeliest(r.raw, size, num_top, ids);
  for (int k = 0; k < num_top; k++) logprobs[k] = static_cast<float>(r.raw[ids[k]] - log_sum);
}

// Tokens that the row's grammar does not allow get -inf; 32 of them a word, whole words at a time.
inline void forbid(const SampleRow& r) {
  const Batch& b = *r.args.batch;
  if (b.grammar_rows[r.row] < 0) return;
  const int size = r.args.vocab_size;
  const uint32_t* words = b.grammar_bitmask + b.grammar_rows[r.row] * bitmask_words(size);
  for (int first = 0; first < size; first += 32) {
    const uint32_t word = words[first / 32];
    if (word == ~0u) continue;
    const int last = first + 32 < size ? first + 32 : size;
    for (int i = first; i < last; i++) {
      if ((word >> (i - first) & 1) == 0) r.weights[i] = kNegativeInfinity;
    }
  }
}

// weights = logits after grammar, penalties and bias.
inline void process(const SampleRow& r) {
  const Batch& b = *r.args.batch;
  const int row = r.row;
  float* logits = r.weights;
  std::memcpy(logits, r.raw, sizeof(float) * r.args.vocab_size);
  forbid(r);
  const float repetition = b.repetition_penalty[row];
  for (int e = b.token_count_start[row]; e < b.token_count_start[row + 1]; e++) {
    float& logit = logits[b.token_count_ids[e]];
    logit = logit > 0 ? logit / repetition : logit * repetition;
    logit -= b.frequency_penalty[row] * static_cast<float>(b.token_counts[e]);
    if (b.token_counts[e] > 0) logit -= b.presence_penalty[row];
  }
  for (int e = b.logit_bias_start[row]; e < b.logit_bias_start[row + 1]; e++) {
    logits[b.logit_bias_ids[e]] += b.logit_bias_values[e];
  }
}

// The k-th largest of the weights.
inline float kth_largest(const SampleRow& r, int k) {
  float* c = r.candidates;
  std::memcpy(c, r.weights, sizeof(float) * r.args.vocab_size);
  std::nth_element(c, c + k - 1, c + r.args.vocab_size, [](float x, float y) { return x > y; });
  return c[k - 1];
}

// Zeroes what top_p leaves out: the smallest set of likeliest tokens whose mass reaches top_p stays.
inline void keep_nucleus(const SampleRow& r, double total, float top_p) {
  const int size = r.args.vocab_size;
  const double enough = top_p * total;
  int32_t* ids = reinterpret_cast<int32_t*>(r.candidates);
  int count = 0;
  for (int i = 0; i < size; i++) {
    if (r.weights[i] > 0) ids[count++] = i;
  }
  const auto likelier = [&](int32_t x, int32_t y) {
    return r.weights[x] > r.weights[y] || (r.weights[x] == r.weights[y] && x < y);
  };
  double mass = 0;
  int kept = 0;
  int sorted = 0;
  for (int batch = 256; mass < enough && kept < count; batch *= 4) {
    const int until = batch < count ? batch : count;
    std::partial_sort(ids + sorted, ids + until, ids + count, likelier);
    sorted = until;
    while (kept < sorted && (mass < enough || kept == 0)) mass += r.weights[ids[kept++]];
  }
  for (int i = kept < 1 ? 1 : kept; i < count; i++) r.weights[ids[i]] = 0;
}

inline int draw(const SampleRow& r, float max) {
  const Batch& b = *r.args.batch;
  const int row = r.row;
  const int size = r.args.vocab_size;
  double total = exponentials(r.weights, r.weights, size, max, 1.0f / b.temperature[row]);
  float threshold = b.min_p[row];
  if (b.top_k[row] > 0 && b.top_k[row] < size) threshold = std::max(threshold, kth_largest(r, b.top_k[row]));
  if (threshold > 0) {
    total = 0;
    for (int i = 0; i < size; i++) {
      if (r.weights[i] < threshold) r.weights[i] = 0;
      total += r.weights[i];
    }
  }
  if (b.top_p[row] < 1) {
    keep_nucleus(r, total, b.top_p[row]);
    total = 0;
    for (int i = 0; i < size; i++) total += r.weights[i];
  }
  const double u = philox_uniform(b.seeds[2 * row], b.seeds[2 * row + 1], b.positions[b.logits_rows[row]]);
  const double target = u * total;
  double mass = 0;
  int last = 0;
  for (int i = 0; i < size; i++) {
    if (r.weights[i] <= 0) continue;
    mass += r.weights[i];
    last = i;
    if (mass > target) break;
  }
  return last;
}

inline void sample_row(const SampleRow& r) {
  const Batch& b = *r.args.batch;
  const int size = r.args.vocab_size;
  const float max = clean(r.raw, size);
  if (b.target_token_ids[r.row] >= 0) return report(r, b.target_token_ids[r.row], max);
  const bool is_adjusted = b.token_count_start[r.row + 1] > b.token_count_start[r.row] ||
                           b.logit_bias_start[r.row + 1] > b.logit_bias_start[r.row] ||
                           b.grammar_rows[r.row] >= 0;
  const bool is_greedy = b.temperature[r.row] <= 0;
  if (is_greedy && !is_adjusted) return report(r, argmax(r.raw, size), max);
  process(r);
  const int best = argmax(r.weights, size);
  const float processed_max = r.weights[best];
  // Nothing but -inf: token 0, which is what argmax found.
  const bool draws = !is_greedy && processed_max > kNegativeInfinity;
  report(r, draws ? draw(r, processed_max) : best, max);
}

inline void sample(const SampleArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.num_rows, [&](int64_t i, int thread) {
    float* scratch = a.scratch + int64_t{thread} * 2 * a.vocab_size;
    sample_row(
        {a, a.first_row + static_cast<int>(i), a.logits + i * a.vocab_size, scratch, scratch + a.vocab_size});
  });
}

}  // namespace quire::QUIRE_VARIANT
