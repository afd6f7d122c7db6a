// Causal attention over the paged KV cache, decodes and prefill chunks alike.
//
// A row is one query of one head. Rows of one KV head (a decode's whole group, or up to kMaxRows of a prefill
// chunk's queries times group) walk the keys together, tile by tile (kv_tile.h): scores are q times the
// transposed keys, keys as lanes; weights times values go to the row's SoftmaxState. Keys are cut into ranges
// of kKeyRange, each with a state of its own, merged in order: so the ranges of a long sequence can be
// walked by several threads.
//
// Ranges and tiles lie at absolute positions and a row's arithmetic is its own, in order of position: chunks,
// blocks, neighbours and threads leave no trace in it, and keys that a row does not see are never touched.
// Bound: decode reads the cache once per group, so memory bandwidth (with 8-bit keys or large groups, the FMA
// units); prefill, the FMA units.
#pragma once

#include "cpu/kv_tile.h"
#include "cpu/softmax_state.h"
#include "cpu/tile_product.h"
#include "ops.h"
#include "thread_pool.h"

namespace quire::QUIRE_VARIANT {

constexpr int kKeyRange = 512;
constexpr int kMaxRows = 64;
constexpr int kFewRows = 8;

// Queries of one sequence, for query heads that share a KV head. Row r is query r / num_heads, head
// r % num_heads, counted from the first ones.
struct RowBlock {
  int sequence;
  int first_query;  // of the sequence's in this step
  int num_queries;
  int first_head;
  int num_heads;
  int kv_head;
  int position;  // of the first query

  int num_rows() const { return num_queries * num_heads; }
  int end() const { return position + num_queries; }
};

// The first key that a query at this position sees.
inline int first_key(const AttentionArgs& a, int position) {
  const int first = a.sliding_window > 0 ? position - a.sliding_window + 1 : 0;
  return first > 0 ? first : 0;
}

inline int64_t token_of(const AttentionArgs& a, const RowBlock& rows, int row) {
  return int64_t{a.query_start_loc[rows.sequence]} + rows.first_query + row / rows.num_heads;
}
inline float* out_row(const AttentionArgs& a, const RowBlock& rows, int row) {
  const int64_t head = token_of(a, rows, row) * a.num_heads + rows.first_head + row % rows.num_heads;
  return f32(a.out) + head * a.cache->head_size;
}

// What a thread needs to walk a row block.
struct AttentionWalk {
  AttentionWalk(const AttentionArgs& args, const RowBlock& block)
      : a(args),
        rows(block),
        size(args.cache->head_size),
        stride((size + kWidth - 1) / kWidth * kWidth),
        blocks(args.block_table + int64_t{args.seq_rows[block.sequence]} * args.max_blocks_per_seq) {
    tile.stride = stride;
    for (int r = 0; r < rows.num_rows(); r++) {
      states[r] = {0, 0, acc + r * stride, stride};
      const int64_t head = rows.first_head + r % rows.num_heads;
      const float* from = f32(a.q) + token_of(a, rows, r) * a.q_stride + head * size;
      for_each_vector(size, [&](int i, int n) {
        store(q + r * stride + i, mul(load_up_to<F32>(from + i, n), broadcast(a.scale)));
      });
    }
  }

  const AttentionArgs& a;
  const RowBlock rows;
  const int size;
  const int stride;
  const int32_t* const blocks;
  SoftmaxState states[kMaxRows];  // of the key range under way
  KeySpan spans[kMaxRows];        // what each row sees of the tile
  float factors[kMaxRows];
  TileRows tile_rows[2];  // of this tile, and of the next
  KvTile tile;
  alignas(64) float q[kMaxRows * kMaxHeadSize];  // [rows, stride], times scale
  alignas(64) float acc[kMaxRows * kMaxHeadSize];
  alignas(64) float scores[kMaxRows * kTile];
};

// Keys of the tile at `start`, before `end`, that queries at positions [first, last] see.
inline KeySpan visible(const AttentionArgs& a, int start, int end, int first, int last) {
  const int low = first_key(a, first) - start;
  const int high = (last + 1 < end ? last + 1 : end) - start;
  return {low > 0 ? low : 0, high < kTile ? high : kTile};
}

// The tile at `start` as far as it belongs to a range that ends at `end`; empty at the end.
inline void find_tile(AttentionWalk& w, TileRows& rows, int start, int end) {
  const KeySpan span = visible(w.a, start, end, w.rows.position, w.rows.end() - 1);
  find_rows(rows, *w.a.cache, w.blocks, w.rows.kv_head, start, span);
}

// Scores of all of few rows, keys [first, first + kWidth), straight from the cache. Asks for the next tile's.
template <typename T, int kRows>
inline void score_few(AttentionWalk& w, const TileRows& rows, const TileRows& next, int first) {
  Vec acc[kRows];
  for (int r = 0; r < kRows; r++) acc[r] = zero();
  const auto add = [&](int i, Vec keys) __attribute__((always_inline)) {
    for (int r = 0; r < kRows; r++) acc[r] = fma(broadcast(w.q[r * w.stride + i]), keys, acc[r]);
  };
  for_each_dim<T>(rows, &next, w.size, first, add);
  for (int r = 0; r < kRows; r++) store(w.scores + r * kTile + first, acc[r]);
}

// Scores of rows [first, first + count), from the tile's copy.
inline void score_block(AttentionWalk& w, int first, int count) {
  const int start = w.spans[first].first / kWidth * kWidth;
  const int num_vecs = (w.spans[first + count - 1].last - start + kWidth - 1) / kWidth;
  tile_product({w.scores + first * kTile + start, kTile, nullptr, w.q + first * w.stride, w.stride},
               FloatColumns{w.tile.k + start, kTile}, count, num_vecs, w.size);
}

// A row's scores become weights of the values as they lie in the cache.
inline void weigh_row(AttentionWalk& w, const TileRows& rows, int row) {
  const KeySpan span = w.spans[row];
  const int start = span.first / kWidth * kWidth;
  const bool scales = w.a.cache->dtype == DType::kI8;
  float* scores = w.scores + row * kTile;
  for (int i = start; i < span.last && scales; i += kWidth) {
    store(scores + i, mul(load<F32>(scores + i), load<F32>(rows.k_scales + i)));
  }
  for (int i = start; i < span.last && w.a.soft_cap > 0; i += kWidth) {
    store(scores + i, soft_capped(load<F32>(scores + i), w.a.soft_cap));
  }
  w.factors[row] = w.states[row].add_scores(scores, span.first, span.last);
  for (int i = start; i < span.last && scales; i += kWidth) {
    store(scores + i, mul(load<F32>(scores + i), load<F32>(rows.v_scales + i)));
  }
}

// Values straight from the cache, from key `first` on. Asks for the next tile's.
template <typename T, bool kWhole>
struct CachedColumns {
  const char* const* v;
  const char* const* next;  // or null
  int size;
  void ask(int k) const {
    if (next != nullptr) prefetch_row(next[k], size * kBytes<T>);
  }
  Vec at(int k, int column) const {
    const auto* row = reinterpret_cast<const typename T::Storage*>(v[k]);
    if (kWhole || column + kWidth <= size) return load<T>(row + column);
    return load_partial<T>(row + column, size - column);
  }
};

// Values of rows [first, first + count), from columns(first key). Rows that see the same keys go together;
// the others one by one, so that none meets a key it does not see.
template <typename Columns>
inline void add_values(AttentionWalk& w, int first, int count, const Columns& columns) {
  const bool together = w.spans[first] == w.spans[first + count - 1];
  for (int r = first; r < first + count; r += together ? count : 1) {
    const KeySpan span = w.spans[r];
    tile_product({w.acc + r * w.stride, w.stride, w.factors + r, w.scores + r * kTile + span.first, kTile},
                 columns(span.first), together ? count : 1, w.stride / kWidth, span.last - span.first);
  }
}

// Calls body(first, count) for the blocks of rows [first, last).
template <typename Body>
inline void for_each_block(int first, int last, const Body& body) {
  for (int r = first; r < last; r += kRowBlock) body(r, last - r < kRowBlock ? last - r : kRowBlock);
}

// A few rows, a decode's: the cache is read as fast as it comes, and copied nowhere.
template <typename T>
inline void attend_few(AttentionWalk& w, const TileRows& rows, const TileRows& next, int first, int last) {
  with_count<kFewRows>(w.rows.num_rows(), [&](auto count) {
    for (int i = rows.span.first / kWidth * kWidth; i < rows.span.last; i += kWidth) {
      score_few<T, decltype(count)::value>(w, rows, next, i);
    }
  });
  for (int r = first; r < last; r++) weigh_row(w, rows, r);
  const auto add = [&](auto is_whole) {
    for_each_block(first, last, [&](int r, int count) {
      const auto columns = [&](int key) {
        const auto* asked = r == first ? next.v + key : nullptr;
        return CachedColumns<T, decltype(is_whole)::value>{rows.v + key, asked, w.size};
      };
      add_values(w, r, count, columns);
    });
  };
  if (w.size == w.stride) {
    add(std::true_type{});
  } else {
    add(std::false_type{});
  }
}

// Many rows: the tile is copied once for all.
template <typename T>
inline void attend_many(AttentionWalk& w, const TileRows& rows, int first, int last) {
  load_tile<T>(w.tile, rows, w.size);
  for_each_block(first, last, [&](int r, int count) { score_block(w, r, count); });
  for (int r = first; r < last; r++) weigh_row(w, rows, r);
  const auto columns = [&](int key) { return FloatColumns{w.tile.v + key * w.stride, w.stride}; };
  for_each_block(first, last, [&](int r, int count) { add_values(w, r, count, columns); });
}

// Rows that see nothing of the tile lie before those that do, or, behind a sliding window, after them.
inline void attend_tile(AttentionWalk& w, TileRows& rows, const TileRows& next, int start, int end) {
  load_scales(rows);
  int first = w.rows.num_rows(), last = 0;
  for (int r = 0; r < w.rows.num_rows(); r++) {
    const int position = w.rows.position + r / w.rows.num_heads;
    w.spans[r] = visible(w.a, start, end, position, position);
    if (w.spans[r].is_empty()) continue;
    first = r < first ? r : first;
    last = r + 1;
  }
  with_kv_dtype(w.a.cache->dtype, [&](auto tag) {
    if (w.rows.num_rows() <= kFewRows) {
      attend_few<decltype(tag)>(w, rows, next, first, last);
    } else {
      attend_many<decltype(tag)>(w, rows, first, last);
    }
  });
}

// Walks the keys of one range that the block's rows see, from empty states on.
inline void attend_range(AttentionWalk& w, int range) {
  const int range_start = range * kKeyRange;
  const int end = range_start + kKeyRange < w.rows.end() ? range_start + kKeyRange : w.rows.end();
  int start = first_key(w.a, w.rows.position) / kTile * kTile;
  if (start < range_start) start = range_start;
  for (int r = 0; r < w.rows.num_rows(); r++) w.states[r].init();
  find_tile(w, w.tile_rows[0], start, end);
  prefetch_tile(w.tile_rows[0], w.size * static_cast<int>(dtype_size(w.a.cache->dtype)));
  for (int i = 0; start < end; i ^= 1, start += kTile) {
    find_tile(w, w.tile_rows[i ^ 1], start + kTile, end);
    attend_tile(w, w.tile_rows[i], w.tile_rows[i ^ 1], start, end);
  }
}

// The key ranges that a row block's queries see.
struct RangeSpan {
  int first;
  int count;
};
inline RangeSpan ranges_of(const AttentionArgs& a, int first_position, int end) {
  const int first = first_key(a, first_position) / kKeyRange;
  return {first, (end - 1) / kKeyRange + 1 - first};
}

// All ranges, by one thread.
inline void attend_block(const AttentionArgs& a, const RowBlock& rows) {
  AttentionWalk w(a, rows);
  alignas(64) float acc[kMaxRows * kMaxHeadSize];
  SoftmaxState totals[kMaxRows];
  for (int r = 0; r < rows.num_rows(); r++) {
    totals[r] = {0, 0, acc + r * w.stride, w.stride};
    totals[r].init();
  }
  const RangeSpan ranges = ranges_of(a, rows.position, rows.end());
  for (int i = 0; i < ranges.count; i++) {
    attend_range(w, ranges.first + i);
    for (int r = 0; r < rows.num_rows(); r++) totals[r].merge(w.states[r]);
  }
  for (int r = 0; r < rows.num_rows(); r++) {
    totals[r].size = w.size;
    totals[r].normalise(out_row(a, rows, r));
  }
}

}  // namespace quire::QUIRE_VARIANT
