#include <algorithm>

#include "cuda/kernels.h"
#include "cuda_cases.h"
#include "device_buffer.h"
#include "sampler_cases.h"

namespace quire::test {

namespace {

cuda::Stream* stream_under_test = nullptr;

// The op with the device's memory behind it: the tests of the sampler keep theirs on the host.
void sample_on_device(const SampleArgs& a, Executor&) {
  cuda::Stream& stream = *stream_under_test;
  const Batch& host = *a.batch;
  const size_t rows = static_cast<size_t>(a.num_rows), vocab = static_cast<size_t>(a.vocab_size);
  const size_t top = rows * static_cast<size_t>(a.sizes.max_logprobs);
  const auto copied = [&](const auto* values, size_t size) {
    using T = std::remove_const_t<std::remove_reference_t<decltype(*values)>>;
    return DeviceBuffer<T>(stream, std::vector<T>(values, values + size));
  };
  const size_t counts = static_cast<size_t>(host.token_count_start[rows]);
  const size_t biases = static_cast<size_t>(host.logit_bias_start[rows]);
  const auto positions = copied(host.positions, rows), logits_rows = copied(host.logits_rows, rows),
             targets = copied(host.target_token_ids, rows), num_logprobs = copied(host.num_logprobs, rows),
             top_k = copied(host.top_k, rows), count_start = copied(host.token_count_start, rows + 1),
             count_ids = copied(host.token_count_ids, counts),
             token_counts = copied(host.token_counts, counts),
             bias_start = copied(host.logit_bias_start, rows + 1),
             bias_ids = copied(host.logit_bias_ids, biases);
  const auto temperature = copied(host.temperature, rows), top_p = copied(host.top_p, rows),
             min_p = copied(host.min_p, rows), repetition = copied(host.repetition_penalty, rows),
             presence = copied(host.presence_penalty, rows), frequency = copied(host.frequency_penalty, rows),
             bias_values = copied(host.logit_bias_values, biases), logits = copied(a.logits, rows * vocab);
  const auto seeds = copied(host.seeds, 2 * rows);
  const int grammars = 1 + *std::max_element(host.grammar_rows, host.grammar_rows + rows);
  const auto grammar_rows = copied(host.grammar_rows, rows);
  const auto bitmask =
      copied(host.grammar_bitmask, static_cast<size_t>(grammars * bitmask_words(a.vocab_size)));
  const DeviceBuffer<int32_t> sampled(stream, rows), ranks(stream, rows), top_ids(stream, top);
  const DeviceBuffer<float> logprobs(stream, rows), top_logprobs(stream, top), scratch(stream, rows * vocab);
  Batch b{};
  b.positions = positions.get();
  b.logits_rows = logits_rows.get();
  b.target_token_ids = targets.get();
  b.num_logprobs = num_logprobs.get();
  b.temperature = temperature.get();
  b.top_p = top_p.get();
  b.min_p = min_p.get();
  b.top_k = top_k.get();
  b.seeds = seeds.get();
  b.repetition_penalty = repetition.get();
  b.presence_penalty = presence.get();
  b.frequency_penalty = frequency.get();
  b.token_count_start = count_start.get();
  b.token_count_ids = count_ids.get();
  b.token_counts = token_counts.get();
  b.logit_bias_start = bias_start.get();
  b.logit_bias_ids = bias_ids.get();
  b.logit_bias_values = bias_values.get();
  b.grammar_rows = grammar_rows.get();
  b.grammar_bitmask = bitmask.get();
  b.sampled_token_ids = sampled.get();
  b.sampled_logprobs = logprobs.get();
  b.sampled_ranks = ranks.get();
  b.top_token_ids = top_ids.get();
  b.top_logprobs = top_logprobs.get();
  cuda::sample({logits.get(), &b, a.sizes, a.first_row, a.num_rows, a.vocab_size, scratch.get()}, stream);
  const auto copy_back = [](const auto& from, auto* to) {
    const auto values = from.read();
    std::copy(values.begin(), values.end(), to);
  };
  copy_back(sampled, host.sampled_token_ids);
  copy_back(logprobs, host.sampled_logprobs);
  copy_back(ranks, host.sampled_ranks);
  copy_back(top_ids, host.top_token_ids);
  copy_back(top_logprobs, host.top_logprobs);
}

}  // namespace

void test_sampling(Run& run, cuda::Stream& stream) {
  stream_under_test = &stream;
  Ops ops{};
  ops.name = "cuda";
  ops.sample = sample_on_device;
  test_sampler_choices(run, ops);
}

}  // namespace quire::test
