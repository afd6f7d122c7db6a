// A tile of one KV head's keys and values in the paged cache: where its rows lie, and how they become floats,
// keys transposed, so that they are the lanes of a vector. For many rows of queries that is done once, to a
// copy.
#pragma once

#include "cpu/simd_kv.h"

namespace quire::QUIRE_VARIANT {

constexpr int kTile = 64;
constexpr int kMaxHeadSize = 256;

// Keys [first, last) of a tile: those it holds, or those a query sees.
struct KeySpan {
  int first;
  int last;
  bool is_empty() const { return first >= last; }
  bool operator==(const KeySpan& other) const { return first == other.first && last == other.last; }
};

// Where keys [first, first + count) of a tile, all of one block, have their scales.
struct ScaleRun {
  int first;
  int count;
  const float* k;
  const float* v;
};

// Where the keys and values of a tile lie in the cache; those outside the span are zeros.
struct TileRows {
  KeySpan span;
  const char* k[kTile];
  const char* v[kTile];
  // With kI8; the scales themselves once load_scales brought them.
  int num_runs;
  ScaleRun runs[kTile];
  alignas(64) float k_scales[kTile];
  alignas(64) float v_scales[kTile];
};

alignas(64) constexpr char kZeroRow[kMaxHeadSize * sizeof(float)] = {};

// For the tile that starts at position `start`.
inline void find_rows(TileRows& rows, const KvCache& cache, const int32_t* blocks, int kv_head, int start,
                      KeySpan span) {
  const int64_t row_bytes = cache.head_size * static_cast<int64_t>(dtype_size(cache.dtype));
  rows.span = span;
  rows.num_runs = 0;
  for (int j = 0; j < kTile; j++) {
    if (j == span.first && !span.is_empty()) j = span.last;
    if (j < kTile) rows.k[j] = rows.v[j] = kZeroRow;
  }
  for (int j = span.first; j < span.last;) {
    const int64_t block = blocks[(start + j) / cache.block_size];
    const int offset = (start + j) % cache.block_size;
    const int left = cache.block_size - offset;
    const int count = left < span.last - j ? left : span.last - j;
    const char* k = cache.at(cache.k, block, kv_head) + offset * row_bytes;
    const char* v = cache.at(cache.v, block, kv_head) + offset * row_bytes;
    for (int i = 0; i < count; i++) {
      rows.k[j + i] = k + i * row_bytes;
      rows.v[j + i] = v + i * row_bytes;
    }
    if (cache.dtype == DType::kI8) {
      const float* k_scales = cache.scales_at(cache.k, block, kv_head) + offset;
      const float* v_scales = cache.scales_at(cache.v, block, kv_head) + offset;
      __builtin_prefetch(k_scales, 0, kSecondLevel);
      __builtin_prefetch(v_scales, 0, kSecondLevel);
      rows.runs[rows.num_runs++] = {j, count, k_scales, v_scales};
    }
    j += count;
  }
}

inline void load_scales(TileRows& rows) {
  for (int i = 0; i < rows.num_runs; i++) {
    const ScaleRun& run = rows.runs[i];
    std::memcpy(rows.k_scales + run.first, run.k, run.count * sizeof(float));
    std::memcpy(rows.v_scales + run.first, run.v, run.count * sizeof(float));
  }
}

inline void prefetch_row(const char* row, int bytes) {
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(row + i, 0, kSecondLevel);
}

inline void prefetch_tile(const TileRows& rows, int row_bytes) {
  for (int j = rows.span.first; j < rows.span.last; j++) {
    prefetch_row(rows.k[j], row_bytes);
    prefetch_row(rows.v[j], row_bytes);
  }
}

template <typename T>
constexpr int kBytes = static_cast<int>(sizeof(typename T::Storage));

// Calls body(i, element i of keys [first, first + kWidth) as lanes) for every i of a head, and on the way
// asks for the same keys of `next`, if any. body shall be always inlined: then words and what it accumulates
// stay in registers.
template <typename T, typename Body>
[[gnu::always_inline]] inline void for_each_dim(const TileRows& rows, const TileRows* next, int size,
                                                int first, const Body& body) {
  constexpr int kStep = kWidth * kPerWord<T>;
  Vec words[kWidth];
  int i = 0;
  for (; i + kStep <= size; i += kStep) {
    for (int j = 0; j < kWidth; j++) {
      words[j] = load<F32>(reinterpret_cast<const float*>(rows.k[first + j] + i * kBytes<T>));
    }
    transpose(words);
    for_constants<kWidth * kPerWord<T>>([&](auto k) __attribute__((always_inline)) {
      if (k % kPerWord<T> == 0 && next != nullptr) {
        __builtin_prefetch(next->k[first + k / kPerWord<T>] + i * kBytes<T>, 0, kSecondLevel);
      }
      body(i + k, unpack<T>(words[k / kPerWord<T>], k % kPerWord<T>));
    });
  }
  if (i == size) return;
  for (int j = 0; j < kWidth; j++) {
    words[j] = load_words(rows.k[first + j] + i * kBytes<T>, (size - i) * kBytes<T>);
  }
  transpose(words);
  for (int k = 0; i + k < size; k++) body(i + k, unpack<T>(words[k / kPerWord<T>], k % kPerWord<T>));
}

// A tile as floats: keys transposed, values as rows.
struct KvTile {
  int stride;                                 // of v: head_size rounded up to whole vectors
  alignas(64) float k[kMaxHeadSize * kTile];  // [head_size, kTile]
  alignas(64) float v[kTile * kMaxHeadSize];  // [kTile, stride], 0 beyond head_size
};

template <typename T>
inline void load_tile(KvTile& tile, const TileRows& rows, int size) {
  for (int first = rows.span.first / kWidth * kWidth; first < rows.span.last; first += kWidth) {
    const auto copy = [&](int i, Vec keys) __attribute__((always_inline)) {
      store(tile.k + i * kTile + first, keys);
    };
    for_each_dim<T>(rows, nullptr, size, first, copy);
  }
  for (int j = rows.span.first; j < rows.span.last; j++) {
    const auto* row = reinterpret_cast<const typename T::Storage*>(rows.v[j]);
    float* to = tile.v + j * tile.stride;
    for_each_vector(size, [&](int i, int n) { store(to + i, load_up_to<T>(row + i, n)); });
  }
}

}  // namespace quire::QUIRE_VARIANT
