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

// The queries of one block.
struct QueryTile {
  int64_t first_token;  // of the step
  int first_position;   // of that token in its sequence
  int num_rows;
  int first_head;
  int group;
  QUIRE_DEVICE int position(int row) const { return first_position + row / group; }
  QUIRE_DEVICE int last_position() const { return position(num_rows - 1); }
};

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

// Scores of keys that a row does not see become -inf. `row` is the row of lane / 4.
template <int kTiles>
QUIRE_DEVICE void mask(float (&scores)[kTiles][4], const QueryTile& queries, int row, int start,
                       int sliding_window, int lane) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int position = queries.position(row + 8 * i);
    const int first = sliding_window > 0 ? position - sliding_window + 1 : 0;
#pragma unroll
    for (int j = 0; j < kTiles; j++) {
#pragma unroll
      for (int c = 0; c < 2; c++) {
        const int key = start + 8 * j + 2 * (lane % 4) + c;
        if (key > position || key < first) scores[j][2 * i + c] = kMinusInfinity;
      }
    }
  }
}

template <int kHeadSize, typename T, typename C>
QUIRE_DEVICE void write_rows(const SoftmaxState& state, const float (&acc)[kHeadSize / 8][4],
                             const AttentionParams<T, C>& p, const QueryTile& queries, int row, int lane) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int r = row + 8 * i;
    const float inverse = 1.0f / state.row_sum(i);
    if (r >= queries.num_rows) continue;
    const int64_t token = queries.first_token + r / queries.group;
    T* out =
        p.out + (token * p.num_heads + queries.first_head + r % queries.group) * kHeadSize + 2 * (lane % 4);
#pragma unroll
    for (int j = 0; j < kHeadSize / 8; j++) {
      const uint32_t pair = pack<T>(acc[j][2 * i] * inverse, acc[j][2 * i + 1] * inverse);
      memcpy(out + 8 * j, &pair, 4);
    }
  }
}

template <typename T, typename C, int kHeadSize>
__global__ void __launch_bounds__(kThreads)
    flash_attention_prefill_kernel(AttentionParams<T, C> p, int first_seq) {
  constexpr int kKeys = tile_keys<kHeadSize>;
  constexpr int kRowTiles = row_tiles<C, kHeadSize>;
  const int64_t seq = first_seq + static_cast<int>(blockIdx.z);
  const int kv_head = blockIdx.y;
  const int tokens_per_block = block_rows<C, kHeadSize> / p.group();
  const int num_queries = p.query_start_loc[seq + 1] - p.query_start_loc[seq];
  // The longest rows first: blocks start in the order of their index, and the last ones should be short.
  const int num_blocks = (num_queries + tokens_per_block - 1) / tokens_per_block;
  const int first_query = (num_blocks - 1 - static_cast<int>(blockIdx.x)) * tokens_per_block;
  if (first_query < 0) return;
  const int num_tokens =
      num_queries - first_query < tokens_per_block ? num_queries - first_query : tokens_per_block;
  const QueryTile queries = {p.query_start_loc[seq] + first_query,
                             p.context_lens[seq] - num_queries + first_query, num_tokens * p.group(),
                             kv_head * p.group(), p.group()};

  const Shared<T> q = shared_at<T>(0);
  const Shared<T> k = q + block_rows<C, kHeadSize> * tile_pitch<kHeadSize>;
  const Shared<T> v = k + kKeys * tile_pitch<kHeadSize>;
  const int lane = threadIdx.x % kWarp;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * 16 * kRowTiles;
  const PagedRows rows = p.rows(seq, kv_head);
  const int end = queries.last_position() + 1;
  const int first_key = p.sliding_window > 0 && queries.first_position >= p.sliding_window
                            ? queries.first_position - p.sliding_window + 1
                            : 0;
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
      const bool sees_all = at + kKeys - 1 <= queries.position(row) &&
                            (p.sliding_window == 0 || at > queries.position(row + 15) - p.sliding_window);
      if (!sees_all) mask(scores[r], queries, row + lane / 4, at, p.sliding_window, lane);
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

}  // namespace

template <typename T, typename C>
void flash_attention_prefill(const AttentionParams<T, C>& p, const AttentionArgs& a, Stream& stream) {
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
