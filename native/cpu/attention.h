// Causal attention over the paged KV cache, decodes and prefill chunks alike.
//
// A piece of work is (sequence, KV head, up to kMaxRows rows), a row being one query of one of the KV head's
// query heads: a decode's whole group, or a few queries of a prefill chunk. Keys come in tiles of kTile at
// absolute positions; a tile is read (and converted) once for all rows of the piece. A row's arithmetic walks
// its own keys in order of position, tile by tile: chunks, blocks and neighbours leave no trace in it. Bound:
// decode reads the cache once per group, so memory bandwidth; prefill, the FMA units.
#pragma once

#include "cpu/simd.h"
#include "cpu/softmax_state.h"
#include "ops.h"
#include "thread_pool.h"

namespace quire::QUIRE_VARIANT {

constexpr int kTile = 32;
constexpr int kMaxRows = 16;
constexpr int kMaxHeadSize = 256;

// One tile of keys and values as rows of floats.
struct KvTile {
  const float* k[kTile];
  const float* v[kTile];
  alignas(64) float k_floats[kTile * kMaxHeadSize];
  alignas(64) float v_floats[kTile * kMaxHeadSize];
};

inline const float* bf16_row(const void* cache, int64_t at, float* floats, int size) {
  const uint16_t* row = static_cast<const uint16_t*>(cache) + at;
  for_each_vector(size, [&](int i, int n) { store_up_to(floats + i, load_up_to<BF16>(row + i, n), n); });
  return floats;
}

// Brings keys [first, last) of the tile that starts at position `start`.
inline void load_tile(KvTile& tile, const KvCache& cache, const int32_t* blocks, int kv_head, int start,
                      int first, int last) {
  const int size = cache.head_size;
  for (int j = first; j < last; j++) {
    const int position = start + j;
    const int64_t block = blocks[position / cache.block_size];
    const int64_t offset = position % cache.block_size;
    const int64_t at = ((block * cache.num_kv_heads + kv_head) * cache.block_size + offset) * size;
    if (cache.dtype == DType::kF32) {
      tile.k[j] = static_cast<const float*>(cache.k) + at;
      tile.v[j] = static_cast<const float*>(cache.v) + at;
    } else {
      tile.k[j] = bf16_row(cache.k, at, tile.k_floats + j * size, size);
      tile.v[j] = bf16_row(cache.v, at, tile.v_floats + j * size, size);
    }
  }
}

// scores[j] = scale * q . k[j] for kKeys keys at once.
template <int kKeys>
inline void score_keys(float* scores, const float* q, const float* const* k, int size, float scale) {
  Vec acc[kKeys];
  for (int j = 0; j < kKeys; j++) acc[j] = zero();
  for_each_vector(size, [&](int i, int n) {
    const Vec query = load_up_to<F32>(q + i, n);
    for (int j = 0; j < kKeys; j++) acc[j] = fma(query, load_up_to<F32>(k[j] + i, n), acc[j]);
  });
  for (int j = 0; j < kKeys; j++) scores[j] = sum(acc[j]) * scale;
}

// acc += weights[j] * v[j] for j in [first, last), kVecs vectors of the head at a time.
template <int kVecs>
inline void add_values(float* acc, const float* weights, const float* const* v, int first, int last, int i) {
  Vec sums[kVecs];
  for (int s = 0; s < kVecs; s++) sums[s] = load<F32>(acc + i + s * kWidth);
  for (int j = first; j < last; j++) {
    const Vec weight = broadcast(weights[j]);
    for (int s = 0; s < kVecs; s++) sums[s] = fma(weight, load<F32>(v[j] + i + s * kWidth), sums[s]);
  }
  for (int s = 0; s < kVecs; s++) store(acc + i + s * kWidth, sums[s]);
}

inline void add_value_tail(float* acc, const float* weights, const float* const* v, int first, int last,
                           int i, int n) {
  Vec sum = load_partial<F32>(acc + i, n);
  for (int j = first; j < last; j++) {
    sum = fma(broadcast(weights[j]), load_partial<F32>(v[j] + i, n), sum);
  }
  store_partial(acc + i, sum, n);
}

// Adds keys [first, last) of the tile to one row's state.
inline void attend_tile(SoftmaxState& state, const float* q, const KvTile& tile, int first, int last,
                        float scale, float soft_cap) {
  alignas(64) float weights[kTile];
  for (int j = 0; j < kTile; j++) weights[j] = kNegativeInfinity;
  int j = first;
  for (; j + 4 <= last; j += 4) score_keys<4>(weights + j, q, tile.k + j, state.size, scale);
  for (; j < last; j++) score_keys<1>(weights + j, q, tile.k + j, state.size, scale);
  if (soft_cap > 0) {
    for_each_vector(last - first, [&](int i, int n) {
      float* scores = weights + first + i;
      store_up_to(scores, soft_capped(load_up_to<F32>(scores, n), soft_cap), n);
    });
  }
  Vec best = load<F32>(weights);
  for (int i = kWidth; i < kTile; i += kWidth) best = max(best, load<F32>(weights + i));
  state.raise_max(max_lane(best));
  const Vec m = broadcast(state.m);
  Vec total = zero();
  for (int i = 0; i < kTile; i += kWidth) {
    const Vec weight = exp(sub(load<F32>(weights + i), m));
    store(weights + i, weight);
    total = add(total, weight);
  }
  state.l += sum(total);
  int i = 0;
  for (; i + 4 * kWidth <= state.size; i += 4 * kWidth) {
    add_values<4>(state.acc, weights, tile.v, first, last, i);
  }
  for (; i + kWidth <= state.size; i += kWidth) add_values<1>(state.acc, weights, tile.v, first, last, i);
  if (i < state.size) add_value_tail(state.acc, weights, tile.v, first, last, i, state.size - i);
}

// Query heads that share a KV head, at most kMaxRows of them.
struct HeadSpan {
  int kv_head;
  int first;
  int count;
};

// Queries [first_query, last_query) of sequence s, for the heads of one span.
inline void attend_piece(const AttentionArgs& a, int s, const HeadSpan& heads, int first_query,
                         int last_query) {
  const KvCache& cache = *a.cache;
  const int size = cache.head_size;
  const int group = heads.count;
  const int num_queries = a.query_start_loc[s + 1] - a.query_start_loc[s];
  const int32_t* blocks = a.block_table + int64_t{a.seq_rows[s]} * a.max_blocks_per_seq;
  const int num_rows = (last_query - first_query) * group;

  alignas(64) float acc[kMaxRows * kMaxHeadSize];
  SoftmaxState states[kMaxRows];
  for (int r = 0; r < num_rows; r++) {
    states[r] = {0, 0, acc + r * size, size};
    states[r].init();
  }
  const auto position_of = [&](int query) { return a.context_lens[s] - num_queries + query; };
  const auto first_key_of = [&](int query) {
    const int first = a.sliding_window > 0 ? position_of(query) - a.sliding_window + 1 : 0;
    return first > 0 ? first : 0;
  };
  const int end = position_of(last_query - 1) + 1;
  KvTile tile;
  for (int start = first_key_of(first_query) / kTile * kTile; start < end; start += kTile) {
    const int tile_first = first_key_of(first_query) > start ? first_key_of(first_query) - start : 0;
    load_tile(tile, cache, blocks, heads.kv_head, start, tile_first,
              end - start < kTile ? end - start : kTile);
    for (int r = 0; r < num_rows; r++) {
      const int query = first_query + r / group;
      const int first = first_key_of(query) > start ? first_key_of(query) - start : 0;
      const int visible = position_of(query) + 1 - start;
      const int last = visible < kTile ? visible : kTile;
      if (first >= last) continue;
      const int64_t t = a.query_start_loc[s] + query;
      const float* q = f32(a.q) + t * a.q_stride + int64_t{heads.first + r % group} * size;
      attend_tile(states[r], q, tile, first, last, a.scale, a.soft_cap);
    }
  }
  for (int r = 0; r < num_rows; r++) {
    const int64_t t = a.query_start_loc[s] + first_query + r / group;
    states[r].normalise(f32(a.out) + (t * a.num_heads + heads.first + r % group) * size);
  }
}

// The sequence that token belongs to.
inline int sequence_of(const AttentionArgs& a, int token) {
  int low = 0;
  for (int high = a.num_seqs - 1; low < high;) {
    const int middle = (low + high + 1) / 2;
    if (a.query_start_loc[middle] <= token) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

inline void attention(const AttentionArgs& a, ThreadPool& pool) {
  const int num_kv_heads = a.cache->num_kv_heads;
  const int group = a.num_heads / num_kv_heads;
  const int heads_per_span = group < kMaxRows ? group : kMaxRows;
  const int spans_per_group = (group + heads_per_span - 1) / heads_per_span;
  const int num_head_spans = num_kv_heads * spans_per_group;
  const int queries_per_piece = kMaxRows / heads_per_span;
  const int total = a.query_start_loc[a.num_seqs];
  // A piece takes queries_per_piece tokens of the step; where they belong to several sequences, one after the
  // other.
  const int64_t num_token_spans = (total + queries_per_piece - 1) / queries_per_piece;
  pool.parallel_for(num_token_spans * num_head_spans, [&](int64_t piece, int) {
    const int head_span = static_cast<int>(piece % num_head_spans);
    const int kv_head = head_span / spans_per_group;
    const int offset = head_span % spans_per_group * heads_per_span;
    const int count = group - offset < heads_per_span ? group - offset : heads_per_span;
    const HeadSpan heads = {kv_head, kv_head * group + offset, count};
    int token = static_cast<int>(piece / num_head_spans) * queries_per_piece;
    const int span_end = token + queries_per_piece < total ? token + queries_per_piece : total;
    for (int s = sequence_of(a, token); token < span_end; s++) {
      const int start = a.query_start_loc[s];
      const int end = a.query_start_loc[s + 1] < span_end ? a.query_start_loc[s + 1] : span_end;
      if (end > token) attend_piece(a, s, heads, token - start, end - start);
      token = end > token ? end : token;
    }
  });
}

}  // namespace quire::QUIRE_VARIANT
