// Attention of one query token a sequence over its paged keys and values (flash-decoding: split keys, then
// merge).
//
// Grid (KV head and chunk of 16 of its query heads, split of the keys, sequence). The query heads of one KV
// head are the rows of one tensor-core tile, so that a key is read once for all of them. Each warp of a block
// walks every fourth tile of 16 keys with a ring of asynchronous copies of its own and meets the others only
// at the end. Bound: memory bandwidth, the keys and values once. How a context is split follows from its own
// length, so that a sequence's tokens do not depend on its neighbours.

#include "cuda/attention_launch.h"
#include "cuda/attention_tile.h"
#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace quire::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kKeys = 16;  // of a tile
constexpr int kRows = 16;  // query heads of a block
constexpr int kMinSplitKeys = 512;
constexpr int kMaxSplits = 32;

template <int kHeadSize>
constexpr int num_stages = kHeadSize > 128 ? 2 : 3;
template <int kHeadSize>
constexpr int tile_size = kKeys * tile_pitch<kHeadSize>;  // elements, of K or of V

// Keys of one split: a multiple of the warps' tiles.
QUIRE_HOST_DEVICE int split_keys(int num_keys) {
  const int wanted = (num_keys + kMaxSplits - 1) / kMaxSplits;
  const int rounded = (wanted + kWarps * kKeys - 1) / (kWarps * kKeys) * (kWarps * kKeys);
  return rounded > kMinSplitKeys ? rounded : kMinSplitKeys;
}

// The keys that the sequence's newest token sees, from a tile's boundary on.
struct KeyRange {
  int start, first, last;
  QUIRE_DEVICE int size() const { return last - start; }
  QUIRE_DEVICE int num_splits() const { return (size() + split_keys(size()) - 1) / split_keys(size()); }
};
QUIRE_DEVICE KeyRange key_range(int context_len, int sliding_window) {
  const int first = sliding_window > 0 && context_len > sliding_window ? context_len - sliding_window : 0;
  return {first / kKeys * kKeys, first, context_len};
}

// A warp's part of the softmax: 16 rows, [kHeadSize] each.
template <int kHeadSize>
struct WarpPart {
  SoftmaxState state;
  float acc[1][kHeadSize / 8][4];
};

template <typename T, int kHeadSize>
QUIRE_DEVICE void load_query(uint32_t (&q)[kHeadSize / 16][4], const T* query, int num_rows, int lane) {
  // Straight from device memory, in the layout of the tile's left operand; rows beyond the heads are zero.
  const auto pair = [&](int row, int column) {
    uint32_t bits = 0;
    if (row < num_rows) memcpy(&bits, query + row * kHeadSize + column, 4);
    return bits;
  };
#pragma unroll
  for (int step = 0; step < kHeadSize / 16; step++) {
    const int column = 16 * step + 2 * (lane % 4);
    q[step][0] = pair(lane / 4, column);
    q[step][1] = pair(lane / 4 + 8, column);
    q[step][2] = pair(lane / 4, column + 8);
    q[step][3] = pair(lane / 4 + 8, column + 8);
  }
}

// Shared memory of one warp: a ring of tiles as the cache has them, keys and values, and room for one of each
// in 16 bits where the cache has 8.
template <typename T, typename C, int kHeadSize>
struct WarpTiles {
  static constexpr bool kIsWidened = sizeof(C) == 1;
  static constexpr int kCached = kIsWidened ? kKeys * kHeadSize : tile_size<kHeadSize>;
  static constexpr int kRingBytes = num_stages<kHeadSize> * 2 * kCached * static_cast<int>(sizeof(C));
  static constexpr int kWidenedBytes = kIsWidened ? 2 * tile_size<kHeadSize> * 2 : 0;
  static constexpr int kBytes = kRingBytes + kWidenedBytes;

  Shared<C> ring;
  Shared<T> widened;

  QUIRE_DEVICE explicit WarpTiles(int warp)
      : ring(shared_at<C>(warp * kBytes)), widened(shared_at<T>(warp * kBytes + kRingBytes)) {}

  QUIRE_DEVICE void fetch(int stage, const AttentionParams<T, C>& p, const PagedRows& rows,
                          const KeyRange& range, int at, int lane) const {
    const Shared<C> keys = ring + stage * 2 * kCached;
    if constexpr (kIsWidened) {
      load_bytes<kHeadSize, kKeys, kWarp>(keys, p.k_cache, rows, at, range.first, range.last, lane);
      load_bytes<kHeadSize, kKeys, kWarp>(keys + kCached, p.v_cache, rows, at, range.first, range.last, lane);
    } else {
      load_tile<kHeadSize, kKeys, kWarp>(keys, p.k_cache, rows, at, range.first, range.last, lane);
      load_tile<kHeadSize, kKeys, kWarp>(keys + kCached, p.v_cache, rows, at, range.first, range.last, lane);
    }
  }

  // The keys of a stage that has come, in 16 bits; the values lie tile_size further.
  QUIRE_DEVICE Shared<T> tile(int stage, int lane) const {
    const Shared<C> keys = ring + stage * 2 * kCached;
    if constexpr (kIsWidened) {
      widen_tile<kHeadSize, kKeys, kWarp>(widened, keys, lane);
      widen_tile<kHeadSize, kKeys, kWarp>(widened + tile_size<kHeadSize>, keys + kCached, lane);
      warp_sync();
      return widened;
    } else {
      return keys;
    }
  }
};

// All tiles of one warp: start + 16 (warp + 4 n) below `end`.
template <int kHeadSize, typename T, typename C>
QUIRE_DEVICE void walk_tiles(WarpPart<kHeadSize>& part, const uint32_t (&q)[kHeadSize / 16][4],
                             const WarpTiles<T, C, kHeadSize>& tiles, const AttentionParams<T, C>& p,
                             const PagedRows& rows, const KeyRange& range, int start, int end, int lane) {
  constexpr int kStages = num_stages<kHeadSize>;
  const int stride = kWarps * kKeys;
  const auto fetch = [&](int n) {
    const int at = start + n * stride;
    if (at < end) tiles.fetch(n % kStages, p, rows, range, at, lane);
    copy_async_commit();
  };
  for (int n = 0; n < kStages - 1; n++) fetch(n);
  for (int n = 0; start + n * stride < end; n++) {
    copy_async_wait<kStages - 2>();
    warp_sync();
    fetch(n + kStages - 1);
    const int at = start + n * stride;
    const Shared<T> stage = tiles.tile(n % kStages, lane);
    float scores[1][kKeys / 8][4] = {};
    multiply_keys<T, kHeadSize, kKeys, 1>(scores, stage, lane, [&](int, int step, uint32_t(&out)[4]) {
#pragma unroll
      for (int i = 0; i < 4; i++) out[i] = q[step][i];
    });
    if (p.cap_scale > 0) cap_scores(scores[0], p.cap_scale);
    if (at < range.first || at + kKeys > range.last) {
#pragma unroll
      for (int j = 0; j < kKeys / 8; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int position = at + 8 * j + 2 * (lane % 4) + i % 2;
          if (position < range.first || position >= range.last) scores[0][j][i] = kMinusInfinity;
        }
      }
    }
    part.state.update(scores[0], part.acc[0], p.scale_log2);
    multiply_values<T, kHeadSize, kKeys, 1>(part.acc, scores, stage + tile_size<kHeadSize>, lane);
    // The next copy into this stage must not overtake a lane that still reads it.
    warp_sync();
  }
  copy_async_wait<0>();
}

// What the warps of a block found, side by side: m and l of [kWarps][kRows], then acc
// [kWarps][kRows][kHeadSize].
template <int kHeadSize>
struct Gathered {
  Shared<float> m, l, acc;
};
template <int kHeadSize>
QUIRE_DEVICE Gathered<kHeadSize> gathered() {
  return {shared_at<float>(0), shared_at<float>(kWarps * kRows * 4),
          shared_at<float>(2 * kWarps * kRows * 4)};
}

template <int kHeadSize>
QUIRE_DEVICE void publish(const Gathered<kHeadSize>& g, const WarpPart<kHeadSize>& part, int warp, int lane) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int row = warp * kRows + lane / 4 + 8 * i;
    const float sum = part.state.row_sum(i);
    if (lane % 4 == 0) {
      g.m.store(row, part.state.m[i]);
      g.l.store(row, sum);
    }
#pragma unroll
    for (int j = 0; j < kHeadSize / 8; j++) {
      g.acc.store(row * kHeadSize + 8 * j + 2 * (lane % 4), part.acc[0][j][2 * i]);
      g.acc.store(row * kHeadSize + 8 * j + 2 * (lane % 4) + 1, part.acc[0][j][2 * i + 1]);
    }
  }
}

// Partial results in the scratch: [sequence, head, split], m and l, then kHeadSize sums.
QUIRE_DEVICE int64_t partial_index(int64_t seq, int num_heads, int head, int split, int head_size) {
  return ((seq * num_heads + head) * kMaxSplits + split) * (head_size + 2);
}

template <typename T, typename C, int kHeadSize>
__global__ void __launch_bounds__(kThreads) paged_attention_decode_kernel(AttentionParams<T, C> p) {
  const int chunks = (p.group() + kRows - 1) / kRows;
  const int kv_head = blockIdx.x / chunks;
  const int first_head = kv_head * p.group() + blockIdx.x % chunks * kRows;
  const int left = (kv_head + 1) * p.group() - first_head;
  const int num_rows = left < kRows ? left : kRows;
  const int64_t seq = blockIdx.z;
  const int split = blockIdx.y;
  const KeyRange range = key_range(p.context_lens[seq], p.sliding_window);
  if (split >= range.num_splits()) return;
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const int per_split = split_keys(range.size());
  const int split_start = range.start + split * per_split;
  const int end = split_start + per_split < range.last ? split_start + per_split : range.last;

  const int64_t token = p.query_start_loc[seq];
  uint32_t q[kHeadSize / 16][4];
  load_query<T, kHeadSize>(q, p.q + token * p.q_stride + int64_t{first_head} * kHeadSize, num_rows, lane);
  WarpPart<kHeadSize> part;
  part.state.init();
#pragma unroll
  for (int j = 0; j < kHeadSize / 8; j++) {
#pragma unroll
    for (int i = 0; i < 4; i++) part.acc[0][j][i] = 0;
  }
  const WarpTiles<T, C, kHeadSize> tiles(warp);
  walk_tiles(part, q, tiles, p, p.rows(seq, kv_head), range, split_start + warp * kKeys, end, lane);
  // The rings give their memory to what the warps found.
  block_sync();
  const Gathered<kHeadSize> g = gathered<kHeadSize>();
  publish(g, part, warp, lane);
  block_sync();
  const bool is_alone = range.num_splits() == 1;
  for (int i = threadIdx.x; i < num_rows * kHeadSize; i += kThreads) {
    const int row = i / kHeadSize;
    float max = kMinusInfinity;
    for (int w = 0; w < kWarps; w++) max = fmaxf(max, g.m.load(w * kRows + row));
    float sum = 0, value = 0;
    for (int w = 0; w < kWarps; w++) {
      // A warp without a tile has m = -inf and weighs nothing.
      const float weight = exp2_fast(g.m.load(w * kRows + row) - max);
      sum += weight * g.l.load(w * kRows + row);
      value += weight * g.acc.load((w * kRows + row) * kHeadSize + i % kHeadSize);
    }
    if (is_alone) {
      p.out[(token * p.num_heads + first_head + row) * kHeadSize + i % kHeadSize] =
          from_float<T>(value / sum);
      continue;
    }
    float* partial = p.partials + partial_index(seq, p.num_heads, first_head + row, split, kHeadSize);
    if (i % kHeadSize == 0) {
      partial[0] = max;
      partial[1] = sum;
    }
    partial[2 + i % kHeadSize] = value;
  }
}

// out of one head of one sequence from its splits, in their order.
template <typename T, typename C>
__global__ void merge_splits_kernel(AttentionParams<T, C> p) {
  const int head = blockIdx.x;
  const int64_t seq = blockIdx.y;
  const int num_splits = key_range(p.context_lens[seq], p.sliding_window).num_splits();
  const int i = threadIdx.x;
  if (num_splits == 1 || i >= p.head_size) return;
  const float* partials = p.partials + partial_index(seq, p.num_heads, head, 0, p.head_size);
  const int stride = p.head_size + 2;
  float max = kMinusInfinity;
  for (int s = 0; s < num_splits; s++) max = fmaxf(max, partials[s * stride]);
  float sum = 0, value = 0;
  for (int s = 0; s < num_splits; s++) {
    const float weight = exp2_fast(partials[s * stride] - max);
    sum += weight * partials[s * stride + 1];
    value += weight * partials[s * stride + 2 + i];
  }
  const int64_t token = p.query_start_loc[seq];
  p.out[(token * p.num_heads + head) * p.head_size + i] = from_float<T>(value / sum);
}

template <typename T, typename C, int kHeadSize>
constexpr size_t shared_bytes() {
  constexpr size_t kRing = size_t{kWarps} * WarpTiles<T, C, kHeadSize>::kBytes;
  constexpr size_t kGathered = size_t{kWarps} * kRows * (kHeadSize + 2) * 4;
  return kRing > kGathered ? kRing : kGathered;
}

template <typename T, typename C, int kHeadSize>
void launch_decode(const AttentionParams<T, C>& p, const AttentionArgs& a, Stream& stream) {
  const int chunks = div_up(p.group(), kRows);
  const int num_keys = a.sliding_window > 0 && a.sliding_window + kKeys < a.max_context_len
                           ? a.sliding_window + kKeys
                           : a.max_context_len;
  const int splits = div_up(num_keys, split_keys(num_keys));
  // A shorter context may be split finer than a longer one, but never into more than kMaxSplits or than its
  // size asks.
  const int most = num_keys > kMinSplitKeys * kMaxSplits ? kMaxSplits : splits;
  launch("paged_attention_decode", paged_attention_decode_kernel<T, C, kHeadSize>,
         {static_cast<unsigned>(p.num_kv_heads * chunks), static_cast<unsigned>(most),
          static_cast<unsigned>(a.num_decodes)},
         kThreads, shared_bytes<T, C, kHeadSize>(), stream, p);
  if (most == 1) return;
  launch("merge_splits", merge_splits_kernel<T, C>,
         {static_cast<unsigned>(p.num_heads), static_cast<unsigned>(a.num_decodes)},
         div_up(kHeadSize, kWarp) * kWarp, 0, stream, p);
}

}  // namespace

size_t decode_scratch_bytes(int num_seqs, int num_heads, int head_size) {
  return size_t{static_cast<size_t>(num_seqs)} * num_heads * kMaxSplits * (head_size + 2) * sizeof(float);
}

template <typename T, typename C>
void paged_attention_decode(const AttentionParams<T, C>& p, const AttentionArgs& a, Stream& stream) {
  with_head_size(p.head_size, [&](auto size) { launch_decode<T, C, decltype(size)::value>(p, a, stream); });
}

#define QUIRE_INSTANTIATE(T, C) \
  template void paged_attention_decode<T, C>(const AttentionParams<T, C>&, const AttentionArgs&, Stream&);
QUIRE_INSTANTIATE(Half, Half)
QUIRE_INSTANTIATE(BFloat, BFloat)
QUIRE_INSTANTIATE(Half, F8)
QUIRE_INSTANTIATE(BFloat, F8)
#undef QUIRE_INSTANTIATE

}  // namespace quire::cuda
