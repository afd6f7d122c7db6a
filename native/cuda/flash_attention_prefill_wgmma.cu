// flash_attention_prefill for compute capability 9.0 and heads of 64 and 128: FlashAttention-3's forward pass
// (arXiv 2407.08608) over the paged cache.
//
// Grid as in flash_attention_prefill.cu: (tile of query rows, KV head, sequence). Of a block's three
// warpgroups one fetches keys and values, 128 at a time, and two multiply, 64 query rows each. Tiles lie in a
// ring of two stages; a barrier for each says that its tile is there ("full"), another that both have done
// with it ("empty"). While the tensor cores multiply this tile's queries and keys and the last tile's weights
// and values, the softmax works on what they have done.
//
// Tiles are gathered by plain asynchronous copies of 16 bytes, which put each part where wgmma's 128-byte
// swizzle wants it. Bulk copies of whole blocks of the cache cannot swizzle. TMA can, but fetches boxes of
// one block whole: keys behind the context's end or before its window (blocks that were freed, and may hold
// anything) would have to be cleared again, and every cache would need descriptors from the driver. A
// warpgroup of its own has the time: a thread copies a sixteenth of a row's parts for each tile.
//
// Written by threads, read by wgmma: who fetches waits for the copies, fences, and only then says "full".
// Bound: the tensor cores. No GPU has run it yet; flash_attention_prefill.cu says how to turn it off.

#include "cuda/launch.h"
#include "cuda/query_tile.h"
#include "cuda/warpgroup.h"

namespace quire::cuda {

namespace {

constexpr int kConsumers = 2;  // warpgroups
constexpr int kRowsPerConsumer = 64;
constexpr int kRows = kConsumers * kRowsPerConsumer;
constexpr int kKeys = 128;
constexpr int kStages = 2;
constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
// Of a thread: together what the block is launched with, 168 each.
constexpr int kProducerRegisters = 40;
constexpr int kConsumerRegisters = 232;

enum Tile { kKeyTile, kValueTile };

// Tiles of keys and of values, in stages that take turns. Barriers: all queries are there; and for each
// stage of either two.
template <int kCount>
struct Ring {
  static constexpr int kBarriers = 1 + 4 * kCount;

  QUIRE_DEVICE static int queries_full() { return 0; }
  QUIRE_DEVICE static int full(Tile which, int n) { return 1 + which * kCount + n % kCount; }
  QUIRE_DEVICE static int empty(Tile which, int n) { return 1 + (2 + which) * kCount + n % kCount; }
  // Of the phase that is tile n's turn.
  QUIRE_DEVICE static int parity(int n) { return n / kCount % 2; }

  QUIRE_DEVICE static void init(Shared<PhaseBarrier> barriers) {
    barrier_init(barriers, queries_full(), kConsumers * kWarpgroup);
    for (const Tile which : {kKeyTile, kValueTile}) {
      for (int n = 0; n < kCount; n++) {
        barrier_init(barriers, full(which, n), kWarpgroup);
        barrier_init(barriers, empty(which, n), kConsumers * kWarpgroup / kWarp);
      }
    }
  }
};
using Tiles = Ring<kStages>;

// The block's shared memory.
template <typename T, int kHeadSize>
struct Memory {
  static constexpr int kQueries = kRowsPerConsumer * kHeadSize;  // numbers of one consumer
  static constexpr int kTile = kKeys * kHeadSize;
  static constexpr int kBarriersAt = 2 * (kConsumers * kQueries + 2 * kStages * kTile);
  static constexpr size_t kBytes = kBarriersAt + sizeof(PhaseBarrier) * Tiles::kBarriers;

  QUIRE_DEVICE static Shared<T> queries(int consumer) { return shared_at<T>(2 * consumer * kQueries); }
  // Where tile n lies.
  QUIRE_DEVICE static Shared<T> tile(Tile which, int n) {
    return shared_at<T>(2 * (kConsumers * kQueries + (which * kStages + n % kStages) * kTile));
  }
  QUIRE_DEVICE static Shared<PhaseBarrier> barriers() { return shared_at<PhaseBarrier>(kBarriersAt); }
};

// What keys and values a block reads.
struct KeyRange {
  int start, num_tiles;
  int first, end;  // of what is seen
};

// A warp starts copying its 32 rows of positions [start, start + kKeys) into the tile; those outside the
// range become zero. Each lane finds one row's place in the cache for all.
template <int kHeadSize, typename T>
QUIRE_DEVICE void load_rows(Shared<T> tile, const T* cache, const PagedRows& rows, const KeyRange& range,
                            int start) {
  constexpr int kParts = kHeadSize / 8;        // of a row
  constexpr int kRowsAtOnce = kWarp / kParts;  // of the warp
  const int lane = threadIdx.x % kWarp;
  const int first_row = static_cast<int>(threadIdx.x) % kWarpgroup / kWarp * kWarp;
  const int position = start + first_row + lane;
  const bool is_seen = position >= range.first && position < range.end;
  const uint32_t mine = is_seen ? static_cast<uint32_t>(rows.offset(position) / kHeadSize) : ~uint32_t{0};
  const int column = lane % kParts * 8;
#pragma unroll
  for (int i = 0; i < kWarp; i += kRowsAtOnce) {
    const int row = i + lane / kParts;
    const uint32_t from = shuffle(mine, row);
    const bool valid = from != ~uint32_t{0};
    copy_async(tile, swizzled(first_row + row, column, kKeys),
               cache + (valid ? int64_t{from} * kHeadSize + column : 0), valid);
  }
}

// Fetches keys 0, keys 1, values 0, keys 2, values 1 ...: the order in which they are used. A tile is called
// full when the next one's copies have started.
template <typename T, int kHeadSize>
QUIRE_DEVICE void produce(const AttentionParams<T, T>& p, const PagedRows& rows, const KeyRange& range) {
  using M = Memory<T, kHeadSize>;
  const Shared<PhaseBarrier> barriers = M::barriers();
  const int num_tiles = range.num_tiles;
  int started = -1;
  const auto fetch = [&](Tile which, int n) {
    barrier_wait(barriers, Tiles::empty(which, n), Tiles::parity(n) ^ 1);
    load_rows<kHeadSize>(M::tile(which, n), which == kKeyTile ? p.k_cache : p.v_cache, rows, range,
                         range.start + n * kKeys);
    copy_async_commit();
    if (started >= 0) {
      copy_async_wait<1>();
      async_proxy_fence();
      barrier_arrive(barriers, started);
    }
    started = Tiles::full(which, n);
  };
  for (int n = 0; n <= num_tiles; n++) {
    if (n < num_tiles) fetch(kKeyTile, n);
    if (n > 0) fetch(kValueTile, n - 1);
  }
  copy_async_wait<0>();
  async_proxy_fence();
  barrier_arrive(barriers, started);
}

// A consumer's query rows into shared memory; rows beyond the last are zero.
template <typename T, int kHeadSize>
QUIRE_DEVICE void load_queries(const AttentionParams<T, T>& p, const QueryTile& queries, int consumer) {
  constexpr int kParts = kHeadSize / 8;
  const Shared<T> tile = Memory<T, kHeadSize>::queries(consumer);
  for (int i = threadIdx.x % kWarpgroup; i < kRowsPerConsumer * kParts; i += kWarpgroup) {
    const int row = consumer * kRowsPerConsumer + i / kParts;
    const int column = i % kParts * 8;
    const bool valid = row < queries.num_rows;
    const int64_t token = queries.first_token + row / queries.group;
    const int head = queries.first_head + row % queries.group;
    const T* from = valid ? p.q + token * p.q_stride + int64_t{head} * kHeadSize + column : p.q;
    copy_async(tile, swizzled(i / kParts, column, kRowsPerConsumer), from, valid);
  }
  copy_async_commit();
  copy_async_wait<0>();
  async_proxy_fence();
  barrier_arrive(Memory<T, kHeadSize>::barriers(), Tiles::queries_full());
  barrier_wait(Memory<T, kHeadSize>::barriers(), Tiles::queries_full(), 0);
}

using Scores = Accumulator<kKeys / 8>;
using Weights = Fragments<kKeys / 16>;

template <typename T, int kHeadSize>
QUIRE_DEVICE void multiply_keys_async(Scores& scores, int consumer, int n) {
  const uint64_t q = matrix_descriptor(Memory<T, kHeadSize>::queries(consumer).address(0), kRowsPerConsumer);
  const uint64_t k = matrix_descriptor(Memory<T, kHeadSize>::tile(kKeyTile, n).address(0), kKeys);
#pragma unroll
  for (int step = 0; step < kHeadSize / 16; step++) {
    // Four steps in a panel of 64 columns.
    const int column = step % 4 * 32, panel = step / 4 * 128;
    warpgroup_multiply<T>(scores, advanced(q, panel * kRowsPerConsumer + column),
                          advanced(k, panel * kKeys + column), step > 0);
  }
  warpgroup_commit();
}

template <typename T, int kHeadSize>
QUIRE_DEVICE void multiply_values_async(Accumulator<kHeadSize / 8>& sums, Weights& weights, int n) {
  const uint64_t v = matrix_descriptor(Memory<T, kHeadSize>::tile(kValueTile, n).address(0), kKeys);
#pragma unroll
  for (int step = 0; step < kKeys / 16; step++) {
    warpgroup_multiply<T>(sums, weights, step, advanced(v, step * 16 * 128));
  }
  warpgroup_commit();
}

// Weights as the left operand of the product with the values.
template <typename T>
QUIRE_DEVICE void round_weights(Weights& weights, Scores& scores) {
  const float(&from)[kKeys / 8][4] = scores.values();
  uint32_t(&to)[kKeys / 16][4] = weights.values();
#pragma unroll
  for (int step = 0; step < kKeys / 16; step++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float(&pair)[4] = from[2 * step + i / 2];
      to[step][i] = pack<T>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
    }
  }
}

template <typename T, int kHeadSize>
QUIRE_DEVICE void consume(const AttentionParams<T, T>& p, const QueryTile& queries, const KeyRange& range,
                          int consumer) {
  using M = Memory<T, kHeadSize>;
  const Shared<PhaseBarrier> barriers = M::barriers();
  const int lane = threadIdx.x % kWarp;
  const int row = static_cast<int>(threadIdx.x) % kWarpgroup / kWarp * 16 + consumer * kRowsPerConsumer;
  const int num_tiles = range.num_tiles;
  const auto wait_full = [&](Tile which, int n) {
    barrier_wait(barriers, Tiles::full(which, n), Tiles::parity(n));
  };
  // The wait for a product is one of the whole warp.
  const auto release = [&](Tile which, int n) {
    if (lane == 0) barrier_arrive(barriers, Tiles::empty(which, n));
  };
  SoftmaxState state;
  state.init();
  Accumulator<kHeadSize / 8> sums;
  Scores scores;
  Weights weights;
  for (auto& four : sums.values()) {
    for (float& sum : four) sum = 0;
  }
  load_queries<T, kHeadSize>(p, queries, consumer);
  const auto weigh = [&](int n, float(&shrink)[2]) {
    const int start = range.start + n * kKeys;
    if (p.cap_scale > 0) cap_scores(scores.values(), p.cap_scale);
    if (!queries.sees_all(row, start, kKeys, p.sliding_window)) {
      mask(scores.values(), queries, row + lane / 4, start, p.sliding_window, lane);
    }
    state.weigh(scores.values(), p.scale_log2, shrink);
  };
  float shrink[2];
  wait_full(kKeyTile, 0);
  warpgroup_fence(scores);
  multiply_keys_async<T, kHeadSize>(scores, consumer, 0);
  warpgroup_wait<0>(scores);
  release(kKeyTile, 0);
  weigh(0, shrink);
  round_weights<T>(weights, scores);
  for (int n = 1; n < num_tiles; n++) {
    wait_full(kKeyTile, n);
    warpgroup_fence(scores);
    multiply_keys_async<T, kHeadSize>(scores, consumer, n);
    wait_full(kValueTile, n - 1);
    warpgroup_fence(sums, weights);
    multiply_values_async<T, kHeadSize>(sums, weights, n - 1);
    warpgroup_wait<1>(scores);
    release(kKeyTile, n);
    weigh(n, shrink);
    warpgroup_wait<0>(sums, weights);
    release(kValueTile, n - 1);
    shrink_rows(sums.values(), shrink);
    round_weights<T>(weights, scores);
  }
  wait_full(kValueTile, num_tiles - 1);
  warpgroup_fence(sums, weights);
  multiply_values_async<T, kHeadSize>(sums, weights, num_tiles - 1);
  warpgroup_wait<0>(sums, weights);
  write_rows<kHeadSize>(state, sums.values(), p, queries, row + lane / 4, lane);
}

template <typename T, int kHeadSize>
__global__ void __launch_bounds__(kThreads, 1)
    flash_attention_prefill_wgmma_kernel(AttentionParams<T, T> p, int first_seq) {
  if constexpr (kHasWarpgroups) {
    const int64_t seq = first_seq + static_cast<int>(blockIdx.z);
    const QueryTile queries = find_queries(p, seq, kRows);
    if (queries.num_rows == 0) return;
    const int first_key = queries.first_key(p.sliding_window);
    const int start = first_key / kKeys * kKeys;
    const KeyRange range = {start, (queries.end() - start + kKeys - 1) / kKeys, first_key, queries.end()};
    if (threadIdx.x == 0) Tiles::init(Memory<T, kHeadSize>::barriers());
    block_sync();
    // The last warpgroup fetches: which one a warp is in must be the same for all its lanes.
    const int warpgroup = static_cast<int>(shuffle(threadIdx.x / kWarpgroup, 0));
    if (warpgroup == kConsumers) {
      give_registers<kProducerRegisters>();
      produce<T, kHeadSize>(p, p.rows(seq, blockIdx.y), range);
    } else {
      take_registers<kConsumerRegisters>();
      consume<T, kHeadSize>(p, queries, range, warpgroup);
    }
  }
}

template <typename T, int kHeadSize>
void launch_wgmma(const AttentionParams<T, T>& p, const AttentionArgs& a, Stream& stream) {
  launch("flash_attention_prefill_wgmma", flash_attention_prefill_wgmma_kernel<T, kHeadSize>,
         {static_cast<unsigned>(div_up(a.max_queries, kRows / p.group())),
          static_cast<unsigned>(p.num_kv_heads), static_cast<unsigned>(a.num_seqs - a.num_decodes)},
         kThreads, Memory<T, kHeadSize>::kBytes, stream, p, a.num_decodes);
}

}  // namespace

template <typename T>
void flash_attention_prefill_wgmma(const AttentionParams<T, T>& p, const AttentionArgs& a, Stream& stream) {
  if (p.head_size == 64) return launch_wgmma<T, 64>(p, a, stream);
  launch_wgmma<T, 128>(p, a, stream);
}

template void flash_attention_prefill_wgmma<Half>(const AttentionParams<Half, Half>&, const AttentionArgs&,
                                                  Stream&);
template void flash_attention_prefill_wgmma<BFloat>(const AttentionParams<BFloat, BFloat>&,
                                                    const AttentionArgs&, Stream&);

}  // namespace quire::cuda
