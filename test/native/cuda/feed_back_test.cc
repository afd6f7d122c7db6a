#include <map>

#include "arena.h"
#include "cuda/step_buffers.h"
#include "cuda_cases.h"

namespace quire::test {

namespace {

constexpr BatchSizes kSizes = {300, 8, 4, 2, 50, 16};

// A batch of decodes whose tokens, and a row's last token count, stand for what an earlier step sampled.
struct Case {
  explicit Case(Run& run, int rows) : arena(kSizes), sampled(rows) {
    const Batch& b = arena.batch();
    for (int i = 0; i < rows; i++) {
      sampled[i] = static_cast<int32_t>(run.below(50));
      b.query_start_loc[i + 1] = i + 1;
      b.context_lens[i] = 1;
      b.seq_rows[i] = i;
      b.token_ids[i] = run.below(2) == 0 ? -1 - run.below(rows) : 7;
      int32_t count = b.token_count_start[i];
      for (int id = static_cast<int>(run.below(3)); id < 50; id += 1 + static_cast<int>(run.below(4))) {
        b.token_count_ids[count] = id;
        b.token_counts[count++] = static_cast<int32_t>(run.below(3));
      }
      if (run.below(2) == 0) {
        b.token_count_ids[count] = -1 - run.below(rows);
        b.token_counts[count++] = 1;
      }
      b.token_count_start[i + 1] = count;
      b.logit_bias_start[i + 1] = 0;
      b.grammar_rows[i] = -1;
    }
    // At least one, or nothing would be fed back.
    b.token_ids[0] = -rows;
  }
  Arena arena;
  std::vector<int32_t> sampled;
};

std::map<int, int> counts_of(const Batch& b, int row, const std::vector<int32_t>& ids,
                             const std::vector<int32_t>& counts, const std::vector<int32_t>* sampled) {
  std::map<int, int> found;
  for (int e = b.token_count_start[row]; e < b.token_count_start[row + 1]; e++) {
    const int id = sampled != nullptr && ids[e] < 0 ? (*sampled)[-1 - ids[e]] : ids[e];
    if (id >= 0) found[id] += counts[e];
  }
  return found;
}

}  // namespace

void test_feed_back(Run& run, cuda::Stream& stream) {
  for (int rows : {1, 2, 8}) {
    Case c(run, rows);
    const Batch& host = c.arena.batch();
    cuda::StepBuffers buffers(stream);
    const StepShape shape = {rows, rows, rows, rows, 1, 1, false};
    const Batch& device = buffers.upload_tokens(c.arena, kSizes, shape, shape);
    buffers.upload_rows(c.arena, kSizes, shape, shape);
    run.check(buffers.has_pending(), "a negative token is seen");
    stream.upload(device.sampled_token_ids, c.sampled.data(), c.sampled.size() * 4);
    cuda::feed_back_tokens(device, rows, stream);
    cuda::feed_back_counts(device, rows, stream);
    const int entries = host.token_count_start[rows];
    std::vector<int32_t> tokens(rows), ids(entries), counts(entries);
    stream.download(tokens.data(), device.token_ids, tokens.size() * 4);
    stream.download(ids.data(), device.token_count_ids, ids.size() * 4);
    stream.download(counts.data(), device.token_counts, counts.size() * 4);
    stream.synchronise();
    const std::vector<int32_t> host_ids(host.token_count_ids, host.token_count_ids + entries);
    const std::vector<int32_t> host_counts(host.token_counts, host.token_counts + entries);
    for (int row = 0; row < rows; row++) {
      const int32_t id = host.token_ids[row];
      run.check(tokens[row] == (id < 0 ? c.sampled[-1 - id] : id), "a token is fed back");
      run.check(counts_of(host, row, ids, counts, nullptr) ==
                    counts_of(host, row, host_ids, host_counts, &c.sampled),
                "a token count is fed back");
    }
  }
}

}  // namespace quire::test
