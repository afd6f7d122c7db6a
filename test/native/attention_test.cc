#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "attention_cases.h"
#include "thread_pool.h"

namespace quire::test {

namespace {

constexpr double kUlp = 0x1.0p-23;

struct AttentionCase {
  int heads, kv_heads, size, block_size, window;
  DType dtype;
  float soft_cap;
};

// A paged cache holding `context` keys for each sequence, and queries for the last `queries` of each. Keys,
// values and queries follow from the seed alone, whatever the block size.
struct AttentionBatch {
  AttentionBatch(Run& run, const AttentionCase& c,
                 const std::vector<std::pair<int, int>>& context_and_queries)
      : shape(c),
        max_blocks(longest(context_and_queries) / c.block_size + 1),
        cache(static_cast<int>(context_and_queries.size()) * max_blocks + 1, c.kv_heads, c.block_size, c.size,
              c.dtype) {
    starts.push_back(0);
    int next_block = 1;
    for (const auto& [context, queries] : context_and_queries) {
      contexts.push_back(context);
      rows.push_back(static_cast<int>(rows.size()));
      starts.push_back(starts.back() + queries);
      for (int b = 0; b < max_blocks; b++) table.push_back(next_block++);
    }
    q = run.values(starts.back() * c.heads * c.size);
    // Blocks out of order, as they are after a while of serving.
    Run order(run.seed());
    for (size_t i = table.size() - 1; i > 0; i--)
      std::swap(table[i], table[order.below(static_cast<int>(i) + 1)]);
    for (size_t s = 0; s < rows.size(); s++) {
      for (int p = 0; p < contexts[s]; p++) {
        cache.fill(run, table[s * max_blocks + p / c.block_size], p % c.block_size);
      }
    }
  }

  static int longest(const std::vector<std::pair<int, int>>& context_and_queries) {
    return std::max_element(context_and_queries.begin(), context_and_queries.end())->first;
  }

  std::vector<float> attend(const Ops& ops, ThreadPool& pool) {
    return attend(ops, pool, q.data(), starts, contexts);
  }

  // Queries [first, last) of the first sequence alone, as a chunk that ends with them.
  std::vector<float> attend_chunk(const Ops& ops, ThreadPool& pool, int first, int last) {
    return attend(ops, pool, q.data() + first * shape.heads * shape.size, {0, last - first},
                  {contexts[0] - starts[1] + last});
  }

  std::vector<float> attend(const Ops& ops, ThreadPool& pool, const float* queries,
                            const std::vector<int32_t>& query_starts,
                            const std::vector<int32_t>& context_lens) {
    const int row = shape.heads * shape.size;
    std::vector<float> out(query_starts.back() * row);
    const KvCache view = cache.view();
    ops.attention({out.data(), queries, row, &view, query_starts.data(), context_lens.data(), rows.data(),
                   table.data(), max_blocks, static_cast<int>(context_lens.size()), shape.heads,
                   1.0f / std::sqrt(static_cast<float>(shape.size)), shape.window, 0, 0, 0, shape.soft_cap},
                  pool);
    return out;
  }

  AttentionCase shape;
  int max_blocks;
  PagedCache cache;
  std::vector<int32_t> starts, contexts, rows, table;
  std::vector<float> q;
};

void test_case(Run& run, const Ops& ops, const AttentionCase& c,
               const std::vector<std::pair<int, int>>& context_and_queries) {
  ThreadPool one(1), three(3);
  AttentionBatch batch(run, c, context_and_queries);
  const std::vector<float> expected = batch.attend(reference_ops(), one);
  const std::vector<float> found = batch.attend(ops, one);
  run.check(found == batch.attend(ops, three), "attention depends on the thread count");
  // Values are within [-1, 1]; scores of magnitude <= sqrt(size) carry size roundings into the weights.
  const double terms = c.size + AttentionBatch::longest(context_and_queries);
  for (size_t i = 0; i < found.size(); i++) run.near(found[i], expected[i], 8 * kUlp * terms, "attention");
}

}  // namespace

void test_attention(Run& run, const Ops& ops) {
  int round = 0;
  for (DType dtype : kv_dtypes()) {
    for (int size : {8, 16, 24, 64, 80, 96, 128, 256}) {
      for (const auto& [heads, kv_heads] : {std::pair{2, 2}, {4, 1}, {8, 1}, {7, 1}, {6, 2}, {70, 1}}) {
        if (heads == 70 && size > 8) continue;
        const int bs = std::vector<int>{8, 16, 32}[round++ % 3];
        const int window = run.below(2) == 0 ? 0 : 1 + run.below(40);
        const AttentionCase c = {heads, kv_heads, size, bs, window, dtype, run.below(2) == 0 ? 0.0f : 0.5f};
        test_case(run, ops, c, {{1, 1}, {bs - 1, 1}, {bs, 1}, {bs + 1, 1}, {33, 1}, {130, 1}});
        test_case(run, ops, c, {{64, 1}, {1, 1}, {40, 40}, {97, 5}, {33, 33}, {65, 2}, {bs + 1, 2}});
      }
    }
  }
}

void test_long_attention(Run& run, const Ops& ops) {
  for (DType dtype : kv_dtypes()) {
    for (const auto& [heads, kv_heads, size] : {std::tuple{4, 1, 64}, {7, 1, 80}, {2, 2, 128}}) {
      for (int window : {0, 600}) {
        const AttentionCase c = {heads, kv_heads, size, 16, window, dtype, window == 0 ? 0.0f : 2.0f};
        test_case(run, ops, c, {{1100, 1}});
        test_case(run, ops, c, {{511, 1}, {512, 1}, {513, 1}, {20, 20}, {1030, 3}, {540, 40}});
      }
    }
  }
}

void test_attention_rows(Run& run, const Ops& ops) {
  ThreadPool one(1), three(3);
  // The last queries of a context that crosses from one key range to the next.
  constexpr int kContext = 550, kQueries = 100;
  int round = 0;
  for (int size : {8, 64, 80, 96, 128, 256}) {
    for (const auto& [heads, kv_heads] : {std::pair{2, 2}, {6, 2}, {4, 1}, {8, 1}, {7, 1}}) {
      const DType dtype = kv_dtypes()[round % 4];
      const int window = round % 3 == 0 ? 0 : round % 3 == 1 ? 30 : 200;
      const float soft_cap = round++ % 2 == 0 ? 0.0f : 0.5f;
      std::vector<float> expected;
      for (int block_size : {16, 8, 32}) {
        Run values(run.seed() + round);
        const AttentionCase c = {heads, kv_heads, size, block_size, window, dtype, soft_cap};
        AttentionBatch batch(values, c, {{kContext, kQueries}, {70, 1}, {600, 1}, {30, 30}});
        std::vector<float> whole = batch.attend(ops, three);
        whole.resize(kQueries * heads * size);
        if (expected.empty()) expected = whole;
        run.check(whole == expected, "attention depends on the block size");
        for (int chunk : {1, 7, 32, 99}) {
          ThreadPool& pool = chunk % 2 == 0 ? one : three;
          std::vector<float> found;
          for (int first = 0; first < kQueries; first += chunk) {
            const auto part = batch.attend_chunk(ops, pool, first, std::min(kQueries, first + chunk));
            found.insert(found.end(), part.begin(), part.end());
          }
          run.check(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0,
                    "attention depends on the chunking");
        }
      }
    }
  }
}

}  // namespace quire::test
