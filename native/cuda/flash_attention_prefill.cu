// Causal attention of many query tokens a sequence over its paged keys and values: FlashAttention-2's forward
// pass (arXiv 2307.08691), for a batch of sequences of any lengths.
//
// Grid (tile of query rows, KV head, sequence). A row is a query token of one head; the heads of a KV head
// share a tile, row r being token r / group and head r % group, so that a tile of keys serves them all. Each
// of four warps holds kRowTiles times 16 rows; keys and values come 64 at a time, the keys of the next tile
// while the values of this one are multiplied. Only tiles on the diagonal, or on the window's edge, are
// masked. Nothing but the output leaves the block. Bound: the tensor cores.

#include "cuda/attention_launch.h"
#include "cuda/attention_tile.h"
#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/query_tile.h"

namespace quire::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;

// Variants: rows of 16 a warp holds, and keys of a tile, for each head size: what fits 255 registers and 100
// kB. Keys and values of 8 bits (C is F8) come through registers.
template <typename C, int kHeadSize>
constexpr int row_tiles = kHeadSize > (sizeof(C) == 1 ? 80 : 128) ? 1 : 2;
template <int kHeadSize>
constexpr int tile_keys = kHeadSize > 128 ? 32 : 64;
template <typename C, int kHeadSize>
constexpr int block_rows = kWarps * 16 * row_tiles<C, kHeadSize>;

template <typename C, int kHeadSize>
constexpr size_t shared_bytes =
    size_t{2} * tile_pitch<kHeadSize> * (block_rows<C, kHeadSize> + 2 * tile_keys<kHeadSize>);

// The block's query rows into shared memory; rows beyond the last are zero.
template <int kHeadSize, typename T, typename C>
QUIRE_DEVICE void load_queries(Shared<T> tile, const AttentionParams<T, C>& p, const QueryTile& queries) {
  constexpr int kChunks = kHeadSize / 8;
  for (int i = threadIdx.x; i < block_rows<C, kHeadSize> * kChunks; i += kThreads) {
    const int row = i / kChunks;
    const int column = i % kChunks * 8;
    const bool valid = row < queries.num_rows;
    const int64_t token = queries.first_token + row / queries.group;
    const int head = queries.first_head + row % queries.group;
    const T* from = valid ? p.q + token * p.q_stride + int64_t{head} * kHeadSize + column : p.q;
    copy_async(tile, row * tile_pitch<kHeadSize> + column, from, valid);
  }
}

template <typename T, typename C, int kHeadSize>
__global__ void __launch_bounds__(kThreads)
    flash_attention_prefill_kernel(AttentionParams<T, C> p, int first_seq) {
  constexpr int kKeys = tile_keys<kHeadSize>;
  constexpr int kRowTiles = row_tiles<C, kHeadSize>;
  const int64_t seq = first_seq + static_cast<int>(blockIdx.z);
  const QueryTile queries = find_queries(p, seq, block_rows<C, kHeadSize>);
  if (queries.num_rows == 0) return;

  const Shared<T> q = shared_at<T>(0);
  const Shared<T> k = q + block_rows<C, kHeadSize> * tile_pitch<kHeadSize>;
  const Shared<T> v = k + kKeys * tile_pitch<kHeadSize>;
  const int lane = threadIdx.x % kWarp;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * 16 * kRowTiles;
  const PagedRows rows = p.rows(seq, blockIdx.y);
  const int end = queries.end();
  const int first_key = queries.first_key(p.sliding_window);
  const int start = first_key / kKeys * kKeys;

  SoftmaxState states[kRowTiles];
  float acc[kRowTiles][kHeadSize / 8][4] = {};
#pragma unroll
  for (int r = 0; r < kRowTiles; r++) states[r].init();
  load_queries<kHeadSize>(q, p, queries);
  load_tile<kHeadSize, kKeys, kThreads>(k, p.k_cache, rows, start, first_key, end, threadIdx.x);
  copy_async_commit();
  for (int at = start; at < end; at += kKeys) {
    copy_async_wait<0>();
    // The keys are there, and every warp has done with the values of the tile before.
    block_sync();
    load_tile<kHeadSize, kKeys, kThreads>(v, p.v_cache, rows, at, first_key, end, threadIdx.x);
    copy_async_commit();
    float scores[kRowTiles][kKeys / 8][4] = {};
    multiply_keys<T, kHeadSize, kKeys, kRowTiles>(scores, k, lane, [&](int r, int step, uint32_t(&out)[4]) {
      const int column = 16 * step + lane / 16 * 8;
      load_matrices(out, q, (warp_row + 16 * r + lane % 16) * tile_pitch<kHeadSize> + column);
    });
#pragma unroll
    for (int r = 0; r < kRowTiles; r++) {
      const int row = warp_row + 16 * r;
      if (p.cap_scale > 0) cap_scores(scores[r], p.cap_scale);
      if (!queries.sees_all(row, at, kKeys, p.sliding_window)) {
        mask(scores[r], queries, row + lane / 4, at, p.sliding_window, lane);
      }
      states[r].update(scores[r], acc[r], p.scale_log2);
    }
    copy_async_wait<0>();
    block_sync();
    if (at + kKeys < end) {
      load_tile<kHeadSize, kKeys, kThreads>(k, p.k_cache, rows, at + kKeys, first_key, end, threadIdx.x);
    }
    copy_async_commit();
    multiply_values<T, kHeadSize, kKeys, kRowTiles>(acc, scores, v, lane);
  }
#pragma unroll
  for (int r = 0; r < kRowTiles; r++) {
    write_rows<kHeadSize>(states[r], acc[r], p, queries, warp_row + 16 * r + lane / 4, lane);
  }
}

template <typename T, typename C, int kHeadSize>
void launch_prefill(const AttentionParams<T, C>& p, const AttentionArgs& a, Stream& stream) {
  if (p.group() > block_rows<C, kHeadSize>) {
    throw std::runtime_error("no attention kernel for " + std::to_string(p.group()) +
                             " query heads a KV head");
  }
  const int tokens_per_block = block_rows<C, kHeadSize> / p.group();
  launch("flash_attention_prefill", flash_attention_prefill_kernel<T, C, kHeadSize>,
         {static_cast<unsigned>(div_up(a.max_queries, tokens_per_block)),
          static_cast<unsigned>(p.num_kv_heads), static_cast<unsigned>(a.num_seqs - a.num_decodes)},
         kThreads, shared_bytes<C, kHeadSize>, stream, p, a.num_decodes);
}

// Which kernel answers: the first row that the GPU and the head fit.
enum class Kernel { kWgmma, kMmaSync };
struct Variant {
  Kernel kernel;
  int capability;  // 0 is any
  int head_sizes[2];
};
constexpr Variant kVariants[] = {
    {Kernel::kWgmma, 90, {64, 128}},  // without this line it is off
    {Kernel::kMmaSync, 0, {}},
};

Kernel find_kernel(int head_size, int capability) {
  for (const Variant& v : kVariants) {
    const bool has_head = v.head_sizes[0] == head_size || v.head_sizes[1] == head_size;
    if (v.capability == 0 || (v.capability == capability && has_head)) return v.kernel;
  }
  return Kernel::kMmaSync;
}

}  // namespace

template <typename T, typename C>
void flash_attention_prefill(const AttentionParams<T, C>& p, const AttentionArgs& a, Stream& stream) {
  if constexpr (sizeof(C) == sizeof(T)) {
    const bool is_wgmma = find_kernel(p.head_size, stream.compute_capability) == Kernel::kWgmma;
    if (is_wgmma && p.group() <= 128) return flash_attention_prefill_wgmma<T>(p, a, stream);
  }
  with_head_size(p.head_size, [&](auto size) { launch_prefill<T, C, decltype(size)::value>(p, a, stream); });
}

#define QUIRE_INSTANTIATE(T, C) \
  template void flash_attention_prefill<T, C>(const AttentionParams<T, C>&, const AttentionArgs&, Stream&);
QUIRE_INSTANTIATE(Half, Half)
QUIRE_INSTANTIATE(BFloat, BFloat)
QUIRE_INSTANTIATE(Half, F8)
QUIRE_INSTANTIATE(BFloat, F8)
#undef QUIRE_INSTANTIATE

}  // namespace quire::cuda
