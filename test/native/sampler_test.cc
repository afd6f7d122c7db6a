// The sampler against the reference: the same log-probabilities, the same ranks, the same choices; and
// against plain probabilities: the frequencies of many draws.

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "sampler_cases.h"
#include "thread_pool.h"

namespace quire::test {

namespace {

constexpr int kMaxLogprobs = 20;

// A batch of `rows` logits rows with every sampling array.
struct SampleBatch {
  explicit SampleBatch(int rows)
      : logits_rows(rows),
        positions(rows),
        targets(rows, -1),
        num_logprobs(rows, -1),
        top_k(rows, 0),
        temperature(rows, 1),
        top_p(rows, 1),
        min_p(rows, 0),
        repetition(rows, 1),
        presence(rows, 0),
        frequency(rows, 0),
        seeds(2 * rows),
        count_start(rows + 1, 0),
        bias_start(rows + 1, 0),
        grammar_rows(rows, -1),
        sampled(rows),
        ranks(rows),
        top_ids(rows * kMaxLogprobs),
        logprobs(rows),
        top_logprobs(rows * kMaxLogprobs) {
    for (int r = 0; r < rows; r++) logits_rows[r] = r;
  }

  void sample(const Ops& ops, std::vector<float> logits, int vocab, int threads) {
    Batch b{};
    b.positions = positions.data();
    b.logits_rows = logits_rows.data();
    b.target_token_ids = targets.data();
    b.num_logprobs = num_logprobs.data();
    b.temperature = temperature.data();
    b.top_p = top_p.data();
    b.min_p = min_p.data();
    b.top_k = top_k.data();
    b.seeds = seeds.data();
    b.repetition_penalty = repetition.data();
    b.presence_penalty = presence.data();
    b.frequency_penalty = frequency.data();
    b.token_count_start = count_start.data();
    b.token_count_ids = count_ids.data();
    b.token_counts = counts.data();
    b.logit_bias_start = bias_start.data();
    b.logit_bias_ids = bias_ids.data();
    b.logit_bias_values = bias_values.data();
    b.grammar_rows = grammar_rows.data();
    b.grammar_bitmask = bitmask.data();
    b.sampled_token_ids = sampled.data();
    b.sampled_logprobs = logprobs.data();
    b.sampled_ranks = ranks.data();
    b.top_token_ids = top_ids.data();
    b.top_logprobs = top_logprobs.data();
    ThreadPool pool(threads);
    std::vector<float> scratch(static_cast<size_t>(2) * threads * vocab);
    BatchSizes sizes{};
    sizes.max_logprobs = kMaxLogprobs;
    sizes.vocab_size = vocab;
    ops.sample({logits.data(), &b, sizes, 0, static_cast<int>(sampled.size()), vocab, scratch.data()}, pool);
  }

  std::vector<int32_t> logits_rows, positions, targets, num_logprobs, top_k;
  std::vector<float> temperature, top_p, min_p, repetition, presence, frequency;
  std::vector<uint32_t> seeds;
  std::vector<int32_t> count_start, count_ids, counts, bias_start, bias_ids;
  std::vector<float> bias_values;
  std::vector<int32_t> grammar_rows;
  std::vector<uint32_t> bitmask;
  std::vector<int32_t> sampled, ranks, top_ids;
  std::vector<float> logprobs, top_logprobs;
};

void draw_parameters(Run& run, SampleBatch& batch, int row, int vocab) {
  batch.positions[row] = run.below(100000);
  batch.seeds[2 * row] = static_cast<uint32_t>(run.uniform() * 4294967296.0);
  batch.seeds[2 * row + 1] = static_cast<uint32_t>(run.uniform() * 4294967296.0);
  batch.temperature[row] = run.below(3) == 0 ? 0.0f : static_cast<float>(0.1 + 2 * run.uniform());
  batch.top_p[row] = run.below(2) == 0 ? 1.0f : static_cast<float>(0.05 + 0.95 * run.uniform());
  batch.min_p[row] = run.below(2) == 0 ? 0.0f : static_cast<float>(0.3 * run.uniform());
  batch.top_k[row] = run.below(2) == 0 ? 0 : 1 + run.below(vocab + 5);
  batch.num_logprobs[row] = run.below(3) == 0 ? -1 : run.below(std::min(vocab, kMaxLogprobs) + 1);
  batch.targets[row] = run.below(5) == 0 ? run.below(vocab) : -1;
  batch.repetition[row] = run.below(2) == 0 ? 1.0f : static_cast<float>(0.5 + 1.5 * run.uniform());
  batch.presence[row] = run.below(2) == 0 ? 0.0f : static_cast<float>(4 * run.uniform() - 2);
  batch.frequency[row] = run.below(2) == 0 ? 0.0f : static_cast<float>(4 * run.uniform() - 2);
  for (int token = 0; token < vocab; token++) {
    if (run.below(8) == 0) {
      batch.count_ids.push_back(token);
      batch.counts.push_back(run.below(4));
    }
    if (run.below(20) == 0) {
      batch.bias_ids.push_back(token);
      batch.bias_values.push_back(run.below(3) == 0 ? -std::numeric_limits<float>::infinity()
                                                    : static_cast<float>(10 * run.uniform() - 5));
    }
  }
  if (run.below(3) == 0) {
    const int64_t words = bitmask_words(vocab);
    batch.grammar_rows[row] = static_cast<int32_t>(static_cast<int64_t>(batch.bitmask.size()) / words);
    const int one_in = 1 + run.below(4);
    for (int64_t w = 0; w < words; w++) {
      uint32_t word = 0;
      for (int bit = 0; bit < 32; bit++) word |= static_cast<uint32_t>(run.below(one_in) == 0) << bit;
      batch.bitmask.push_back(word);
    }
  }
  batch.count_start[row + 1] = static_cast<int32_t>(batch.count_ids.size());
  batch.bias_start[row + 1] = static_cast<int32_t>(batch.bias_ids.size());
}

// Chi-square of many draws against given probabilities; tokens of probability 0 must never appear.
void check_frequencies(Run& run, const Ops& ops, const std::vector<float>& row, const std::vector<double>& p,
                       float temperature, int top_k, float top_p, float min_p) {
  const int draws = 20000, vocab = static_cast<int>(row.size());
  SampleBatch batch(draws);
  std::vector<float> logits;
  for (int d = 0; d < draws; d++) {
    batch.positions[d] = d;
    batch.seeds[0 + 2 * d] = 12345;
    batch.temperature[d] = temperature;
    batch.top_k[d] = top_k;
    batch.top_p[d] = top_p;
    batch.min_p[d] = min_p;
    logits.insert(logits.end(), row.begin(), row.end());
  }
  batch.sample(ops, logits, vocab, 2);
  std::vector<int> seen(vocab, 0);
  for (int token : batch.sampled) seen[token]++;
  double chi_square = 0;
  int degrees = -1;
  for (int token = 0; token < vocab; token++) {
    if (p[token] == 0) {
      run.check(seen[token] == 0, "a token that was filtered out was drawn");
      continue;
    }
    const double mean = p[token] * draws;
    chi_square += (seen[token] - mean) * (seen[token] - mean) / mean;
    degrees++;
  }
  // Mean + 6 standard deviations of the chi-square distribution: a right sampler fails one seed in millions.
  run.check(chi_square <= degrees + 6 * std::sqrt(2.0 * std::max(degrees, 1)) + 6,
            "frequencies of the draws");
}

std::vector<double> normalised(std::vector<double> p) {
  double total = 0;
  for (double value : p) total += value;
  for (double& value : p) value /= total;
  return p;
}

void test_frequencies(Run& run, const Ops& ops) {
  const std::vector<float> logits = {2.0f, 1.0f, 0.5f, 0.0f, -1.0f, 1.5f, -0.5f};
  const auto weights = [&](double temperature) {
    std::vector<double> w;
    for (float logit : logits) w.push_back(std::exp(logit / temperature));
    return w;
  };
  check_frequencies(run, ops, logits, normalised(weights(1)), 1, 0, 1, 0);
  check_frequencies(run, ops, logits, normalised(weights(0.5)), 0.5f, 0, 1, 0);
  std::vector<double> top3 = weights(1);
  for (int token : {2, 3, 4, 6}) top3[token] = 0;
  check_frequencies(run, ops, logits, normalised(top3), 1, 3, 1, 0);
  // Masses, likeliest first: 0.433, 0.263, 0.159, 0.097...: 0.6 needs two tokens.
  std::vector<double> nucleus = weights(1);
  for (int token : {1, 2, 3, 4, 6}) nucleus[token] = 0;
  check_frequencies(run, ops, logits, normalised(nucleus), 1, 0, 0.6f, 0);
  // min_p 0.2: at least e^2 / 5, so logits of 0.3906 and more.
  std::vector<double> likely = weights(1);
  for (int token : {3, 4, 6}) likely[token] = 0;
  check_frequencies(run, ops, logits, normalised(likely), 1, 0, 1, 0.2f);
}

}  // namespace

void test_sampler_choices(Run& run, const Ops& ops) {
  int draws = 0, different = 0;
  for (int vocab : {1, 2, 17, 100, 512, 3000}) {
    const int rows = 120;
    SampleBatch expected(rows);
    for (int r = 0; r < rows; r++) draw_parameters(run, expected, r, vocab);
    std::vector<float> logits = run.values(int64_t{rows} * vocab);
    for (float& logit : logits) logit = static_cast<float>(std::round(logit * 400) / 50);  // ties happen
    if (vocab > 1) logits[0] = std::numeric_limits<float>::quiet_NaN();
    SampleBatch found = expected;
    expected.sample(reference_ops(), logits, vocab, 1);
    found.sample(ops, logits, vocab, 3);
    for (int r = 0; r < rows; r++) {
      draws++;
      // A draw may fall differently only where two kept tokens meet within the rounding of their masses.
      if (found.sampled[r] != expected.sampled[r]) {
        different++;
        run.check(expected.temperature[r] > 0 && expected.targets[r] < 0,
                  "greedy choices and targets are exact");
        continue;
      }
      if (expected.num_logprobs[r] < 0) continue;
      run.near(found.logprobs[r], expected.logprobs[r], 1e-5 * (1 + std::fabs(expected.logprobs[r])),
               "logprob");
      run.check(found.ranks[r] == expected.ranks[r], "rank");
      for (int k = 0; k < expected.num_logprobs[r]; k++) {
        const int at = r * kMaxLogprobs + k;
        run.check(found.top_ids[at] == expected.top_ids[at], "top token");
        run.near(found.top_logprobs[at], expected.top_logprobs[at],
                 1e-5 * (1 + std::fabs(expected.top_logprobs[at])), "top logprob");
      }
    }
  }
  run.check(different * 200 <= draws, "more than one draw in 200 differs from the reference");
}

void test_sampler(Run& run, const Ops& ops) {
  test_sampler_choices(run, ops);
  test_frequencies(run, ops);
}

}  // namespace quire::test
