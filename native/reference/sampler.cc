#include "reference/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "philox.h"

namespace quire {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Token ids, likeliest first, ties to the lower id.
std::vector<int> ranked(const std::vector<double>& values) {
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return values[a] > values[b]; });
  return order;
}

void report(const SampleArgs& a, int row, const std::vector<double>& raw, int token) {
  const Batch& b = *a.batch;
  b.sampled_token_ids[row] = token;
  if (b.num_logprobs[row] < 0) return;
  const double max = *std::max_element(raw.begin(), raw.end());
  double sum = 0;
  for (double value : raw) sum += std::exp(value - max);
  const double log_sum = max + std::log(sum);
  const std::vector<int> order = ranked(raw);
  b.sampled_logprobs[row] = static_cast<float>(raw[token] - log_sum);
  b.sampled_ranks[row] = 1 + static_cast<int>(std::count_if(
                                 raw.begin(), raw.end(), [&](double value) { return value > raw[token]; }));
  for (int k = 0; k < b.num_logprobs[row]; k++) {
    b.top_token_ids[int64_t{row} * a.sizes.max_logprobs + k] = order[k];
    b.top_logprobs[int64_t{row} * a.sizes.max_logprobs + k] = static_cast<float>(raw[order[k]] - log_sum);
  }
}

void forbid(const Batch& b, int row, std::vector<double>& logits) {
  if (b.grammar_rows[row] < 0) return;
  const int64_t words = bitmask_words(static_cast<int>(logits.size()));
  const uint32_t* bitmask = b.grammar_bitmask + b.grammar_rows[row] * words;
  for (size_t i = 0; i < logits.size(); i++) {
    if ((bitmask[i / 32] >> (i % 32) & 1) == 0) logits[i] = -kInfinity;
  }
}

void penalise(const Batch& b, int row, std::vector<double>& logits) {
  for (int e = b.token_count_start[row]; e < b.token_count_start[row + 1]; e++) {
    double& logit = logits[b.token_count_ids[e]];
    logit = logit > 0 ? logit / b.repetition_penalty[row] : logit * b.repetition_penalty[row];
    logit -= b.frequency_penalty[row] * b.token_counts[e];
    if (b.token_counts[e] > 0) logit -= b.presence_penalty[row];
  }
  for (int e = b.logit_bias_start[row]; e < b.logit_bias_start[row + 1]; e++) {
    logits[b.logit_bias_ids[e]] += b.logit_bias_values[e];
  }
}

// Probabilities of the tokens that temperature, min_p, top_k and top_p leave; the rest 0.
std::vector<double> probabilities(const Batch& b, int row, const std::vector<double>& logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p(logits.size());
  for (size_t i = 0; i < p.size(); i++) p[i] = std::exp((logits[i] - max) / b.temperature[row]);
  for (double& value : p) value = value < b.min_p[row] ? 0 : value;
  const std::vector<int> order = ranked(p);
  const int top_k = b.top_k[row];
  if (top_k > 0 && top_k < static_cast<int>(p.size())) {
    const double threshold = p[order[top_k - 1]];
    for (double& value : p) value = value < threshold ? 0 : value;
  }
  if (b.top_p[row] < 1) {
    const double enough = b.top_p[row] * std::accumulate(p.begin(), p.end(), 0.0);
    double mass = 0;
    for (int token : order) {
      if (mass >= enough && mass > 0) p[token] = 0;
      mass += p[token];
    }
  }
  return p;
}

int draw(const Batch& b, int row, const std::vector<double>& p) {
  const double u = philox_uniform(b.seeds[2 * row], b.seeds[2 * row + 1], b.positions[b.logits_rows[row]]);
  const double target = u * std::accumulate(p.begin(), p.end(), 0.0);
  double mass = 0;
  int last = 0;
  for (size_t token = 0; token < p.size(); token++) {
    if (p[token] <= 0) continue;
    mass += p[token];
    last = static_cast<int>(token);
    if (mass > target) break;
  }
  return last;
}

}  // namespace

void reference_sample_row(const SampleArgs& a, int i) {
  const Batch& b = *a.batch;
  const int row = a.first_row + i;
  float* logits = a.logits + int64_t{i} * a.vocab_size;
  std::vector<double> raw(a.vocab_size);
  for (int v = 0; v < a.vocab_size; v++) {
    if (std::isnan(logits[v])) logits[v] = -std::numeric_limits<float>::infinity();
    raw[v] = logits[v];
  }
  if (b.target_token_ids[row] >= 0) return report(a, row, raw, b.target_token_ids[row]);
  std::vector<double> processed = raw;
  forbid(b, row, processed);
  penalise(b, row, processed);
  const auto best = std::max_element(processed.begin(), processed.end());
  int token = *best == -kInfinity ? 0 : static_cast<int>(best - processed.begin());
  if (*best != -kInfinity && b.temperature[row] > 0) token = draw(b, row, probabilities(b, row, processed));
  report(a, row, raw, token);
}

}  // namespace quire
