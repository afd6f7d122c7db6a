#include <algorithm>
#include <cmath>
#include <cstring>

#include "cuda/attention_launch.h"
#include "cuda/float8.h"
#include "cuda/kernels.h"
#include "cuda_cases.h"
#include "device_buffer.h"
#include "thread_pool.h"

namespace quire::test {

namespace {

struct Case {
  int head_size, num_heads, num_kv_heads, block_size, sliding_window;
  std::vector<std::pair<int, int>> seqs;  // queries, context; the single queries first
};

// Sequences of the batch as the op wants them, with blocks in random order.
struct Layout {
  std::vector<int32_t> query_start_loc = {0}, context_lens, seq_rows, block_table;
  int num_tokens = 0, max_blocks = 0, num_blocks = 1, num_decodes = 0, max_queries = 0, max_context_len = 0;

  Layout(Run& run, const Case& c) {
    for (const auto& [queries, context] : c.seqs) {
      num_tokens += queries;
      query_start_loc.push_back(num_tokens);
      context_lens.push_back(context);
      max_blocks = std::max(max_blocks, cuda::div_up(context, c.block_size));
      num_decodes += queries == 1 && num_decodes + 1 == static_cast<int>(context_lens.size());
      max_queries = std::max(max_queries, queries);
      max_context_len = std::max(max_context_len, context);
    }
    const int num_seqs = static_cast<int>(c.seqs.size());
    block_table.resize(num_seqs * max_blocks, 0);
    for (int s = 0; s < num_seqs; s++) {
      seq_rows.push_back(num_seqs - 1 - s);
      for (int b = 0; b < max_blocks; b++) block_table[(num_seqs - 1 - s) * max_blocks + b] = num_blocks++;
    }
    for (size_t i = block_table.size(); i > 1; i--) {
      std::swap(block_table[i - 1], block_table[run.below(static_cast<int>(i))]);
    }
  }
};

// The last query alone, of the last sequence, has the same bits as with all others: what --batch-invariant
// needs.
template <typename T>
void check_alone(Run& run, cuda::Stream& stream, AttentionArgs args, int num_tokens,
                 const DeviceBuffer<T>& out) {
  const std::vector<T> all = out.read();
  const DeviceBuffer<T> alone(stream, all.size());
  const DeviceBuffer<int32_t> starts(stream, {num_tokens - 1, num_tokens});
  args.out = alone.get();
  args.context_lens += args.num_seqs - 1;
  args.seq_rows += args.num_seqs - 1;
  args.query_start_loc = starts.get();
  args.num_seqs = args.max_queries = 1;
  args.num_decodes = 0;
  cuda::attention<T>(args, stream);
  const std::vector<T> found = alone.read();
  const size_t first = all.size() / static_cast<size_t>(num_tokens) * static_cast<size_t>(num_tokens - 1);
  const size_t bytes = (all.size() - first) * sizeof(T);
  run.check(std::memcmp(&found[first], &all[first], bytes) == 0, "a query alone");
}

// C is the cache's form.
template <typename T, typename C>
void check_case(Run& run, cuda::Stream& stream, const Case& c, float soft_cap) {
  const Layout layout(run, c);
  const DType dtype = cuda::DTypeOf<C>::value;
  const int64_t q_size = int64_t{c.num_heads} * c.head_size;
  const int64_t stride = q_size + 2 * int64_t{c.num_kv_heads} * c.head_size;
  const int64_t cached = int64_t{layout.num_blocks} * c.num_kv_heads * c.block_size * c.head_size;
  std::vector<T> q = rounded<T>(run.values(layout.num_tokens * stride));
  std::vector<C> k = rounded<C>(run.values(cached)), v = rounded<C>(run.values(cached));
  // Keys that no sequence sees must not reach a result: those of block 0 are NaN.
  const int64_t block = int64_t{c.num_kv_heads} * c.block_size * c.head_size;
  std::memset(k.data(), 0xff, static_cast<size_t>(block) * sizeof(C));
  std::memset(v.data(), 0xff, static_cast<size_t>(block) * sizeof(C));
  const KvCache host = {k.data(),     v.data(),       dtype,      layout.num_blocks,
                        c.block_size, c.num_kv_heads, c.head_size};
  const float scale = 1 / std::sqrt(static_cast<float>(c.head_size));
  ThreadPool pool(1);
  const std::vector<float> wide_q = widened(q);
  std::vector<float> expected(layout.num_tokens * q_size);
  AttentionArgs args = {expected.data(),
                        wide_q.data(),
                        stride,
                        &host,
                        layout.query_start_loc.data(),
                        layout.context_lens.data(),
                        layout.seq_rows.data(),
                        layout.block_table.data(),
                        layout.max_blocks,
                        static_cast<int>(c.seqs.size()),
                        c.num_heads,
                        scale,
                        c.sliding_window,
                        layout.num_decodes,
                        layout.max_queries,
                        layout.max_context_len,
                        soft_cap};
  reference_ops().attention(args, pool);

  const DeviceBuffer<C> device_k(stream, k), device_v(stream, v);
  const DeviceBuffer<T> device_q(stream, q), out(stream, expected.size());
  const DeviceBuffer<int32_t> starts(stream, layout.query_start_loc), lens(stream, layout.context_lens),
      rows(stream, layout.seq_rows), table(stream, layout.block_table);
  KvCache cache = host;
  cache.k = device_k.get();
  cache.v = device_v.get();
  args.out = out.get();
  args.q = device_q.get();
  args.cache = &cache;
  args.query_start_loc = starts.get();
  args.context_lens = lens.get();
  args.seq_rows = rows.get();
  args.block_table = table.get();
  stream.reserve_scratch(cuda::decode_scratch_bytes(args.num_seqs, c.num_heads, c.head_size));
  cuda::attention<T>(args, stream);
  const std::vector<float> found = widened(out.read());
  // A sum of weights of 1 in all over values up to 1: the weights and the result are rounded, f32 sums in
  // between.
  for (size_t i = 0; i < found.size(); i++) {
    run.near(found[i], expected[i], 2.5 * rounding<T>, "attention");
  }
  if (layout.num_decodes < args.num_seqs) check_alone(run, stream, args, layout.num_tokens, out);
}

}  // namespace

void test_attention_decode(Run& run, cuda::Stream& stream) {
  for (const Case& c : {
           Case{32, 4, 4, 8, 0, {{1, 1}, {1, 7}, {1, 8}, {1, 9}, {1, 65}}},
           Case{64, 8, 2, 16, 0, {{1, 15}, {1, 16}, {1, 17}, {1, 130}}},
           Case{80, 3, 1, 32, 0, {{1, 31}, {1, 33}}},
           Case{96, 2, 2, 16, 0, {{1, 63}, {1, 64}}},
           Case{128, 8, 1, 16, 0, {{1, 1}, {1, 511}, {1, 513}, {1, 1100}}},
           Case{128, 34, 2, 16, 0, {{1, 40}}},
           Case{256, 2, 1, 16, 0, {{1, 70}, {1, 600}}},
           Case{64, 4, 2, 16, 20, {{1, 5}, {1, 20}, {1, 21}, {1, 700}}},
           Case{64, 2, 1, 8, 600, {{1, 1300}}},
       }) {
    check_case<cuda::BFloat, cuda::BFloat>(run, stream, c, 0);
    check_case<cuda::Half, cuda::Half>(run, stream, c, 0.5f);
    check_case<cuda::BFloat, cuda::F8>(run, stream, c, 0);
    check_case<cuda::Half, cuda::F8>(run, stream, c, 0);
  }
}

void test_attention_prefill(Run& run, cuda::Stream& stream) {
  const int capability = stream.compute_capability;
  stream.compute_capability = 80;
  for (const Case& c : {
           Case{32, 2, 2, 8, 0, {{2, 2}, {63, 63}, {5, 70}}},
           Case{64, 8, 2, 16, 0, {{1, 3}, {1, 70}, {17, 17}, {64, 129}}},
           Case{80, 7, 1, 16, 0, {{19, 19}, {3, 67}}},
           Case{96, 2, 2, 32, 0, {{65, 65}}},
           Case{128, 4, 1, 16, 0, {{33, 33}, {2, 200}}},
           Case{128, 1, 1, 16, 0, {{130, 130}}},
           Case{256, 2, 1, 16, 0, {{40, 75}}},
           Case{64, 4, 2, 16, 20, {{50, 90}, {2, 21}}},
       }) {
    check_case<cuda::BFloat, cuda::BFloat>(run, stream, c, 0);
    check_case<cuda::Half, cuda::Half>(run, stream, c, 0.5f);
    check_case<cuda::BFloat, cuda::F8>(run, stream, c, 0);
    check_case<cuda::Half, cuda::F8>(run, stream, c, 0);
  }
  stream.compute_capability = capability;
}

// The kernels that only newer GPUs have: on an older one there is nothing to test.
void test_attention_prefill_wgmma(Run& run, cuda::Stream& stream) {
  if (stream.compute_capability != 90) return run.check(true, "");
  for (const Case& c : {
           // Around a tile of 128 keys, and past the two that are under way at once.
           Case{64, 8, 2, 16, 0, {{1, 3}, {1, 70}, {17, 17}, {40, 127}, {2, 128}, {9, 129}, {3, 515}}},
           Case{128, 4, 1, 8, 0, {{33, 33}, {2, 256}, {4, 257}, {2, 388}}},
           // One head a group, all rows in use and one more; a group that leaves rows over; the largest.
           Case{128, 1, 1, 32, 0, {{128, 128}, {129, 129}, {130, 300}}},
           Case{64, 7, 1, 16, 0, {{19, 19}, {37, 140}}},
           Case{64, 128, 1, 16, 0, {{2, 60}}},
           // Windows smaller and larger than a tile.
           Case{64, 4, 2, 16, 20, {{50, 90}, {2, 21}, {140, 400}}},
           Case{128, 2, 2, 16, 200, {{70, 480}, {5, 200}}},
       }) {
    check_case<cuda::BFloat, cuda::BFloat>(run, stream, c, 0);
    check_case<cuda::Half, cuda::Half>(run, stream, c, 0.5f);
  }
}

}  // namespace quire::test
