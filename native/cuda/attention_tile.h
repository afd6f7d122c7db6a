// What both attention kernels are made of: tiles of keys and values gathered from the paged cache into shared
// memory, and one warp's 16 query rows against such a tile on the tensor cores (FlashAttention-2, arXiv
// 2307.08691).
//
// A tile's row (one key) is head_size numbers and 16 bytes of nothing, so that eight rows never meet in one
// bank. A warp's numbers are spread as the PTX ISA draws mma.m16n8k16: lane l holds rows l / 4 and l / 4 + 8.
#pragma once

#include "cuda/float8.h"

namespace quire::cuda {

constexpr float kMinusInfinity = -__builtin_inff();

template <int kHeadSize>
constexpr int tile_pitch = kHeadSize + 8;

// One KV head of a sequence in the cache of one layer: where a position's row is, in keys and in values
// alike.
struct PagedRows {
  const int32_t* blocks;  // of the sequence
  int block_size, num_kv_heads, kv_head, head_size;

  QUIRE_DEVICE int64_t offset(int position) const {
    const int64_t block = blocks[position / block_size];
    return ((block * num_kv_heads + kv_head) * block_size + position % block_size) * head_size;
  }
};

// Starts copying the rows of positions [start, start + kKeys) of `cache` into the tile; those outside [first,
// last) become zero. `thread` of `kThreads` threads copy together.
template <int kHeadSize, int kKeys, int kThreads, typename T>
QUIRE_DEVICE void load_tile(Shared<T> tile, const T* cache, const PagedRows& rows, int start, int first,
                            int last, int thread) {
  constexpr int kChunks = kHeadSize / 8;
#pragma unroll 2
  for (int i = thread; i < kKeys * kChunks; i += kThreads) {
    const int key = i / kChunks;
    const int column = i % kChunks * 8;
    const int position = start + key;
    const bool valid = position >= first && position < last;
    copy_async(tile, key * tile_pitch<kHeadSize> + column,
               cache + (valid ? rows.offset(position) + column : 0), valid);
  }
}

// The same from a cache of 8 bits, at once: there is no copy that widens on its way.
template <int kHeadSize, int kKeys, int kThreads, typename T>
QUIRE_DEVICE void load_tile(Shared<T> tile, const F8* cache, const PagedRows& rows, int start, int first,
                            int last, int thread) {
  constexpr int kChunks = kHeadSize / 8;
#pragma unroll 4
  for (int i = thread; i < kKeys * kChunks; i += kThreads) {
    const int key = i / kChunks;
    const int column = i % kChunks * 8;
    const int position = start + key;
    uint64_t bytes = 0;
    if (position >= first && position < last) memcpy(&bytes, cache + rows.offset(position) + column, 8);
    tile.store_as(key * tile_pitch<kHeadSize> + column, widen<T>(bytes));
  }
}

// Its bytes as they are: rows of kHeadSize bytes.
template <int kHeadSize, int kKeys, int kThreads>
QUIRE_DEVICE void load_bytes(Shared<F8> tile, const F8* cache, const PagedRows& rows, int start, int first,
                             int last, int thread) {
  constexpr int kChunks = kHeadSize / 16;
#pragma unroll 2
  for (int i = thread; i < kKeys * kChunks; i += kThreads) {
    const int key = i / kChunks;
    const int column = i % kChunks * 16;
    const int position = start + key;
    const bool valid = position >= first && position < last;
    copy_async(tile, key * kHeadSize + column, cache + (valid ? rows.offset(position) + column : 0), valid);
  }
}

template <int kHeadSize, int kKeys, int kThreads, typename T>
QUIRE_DEVICE void widen_tile(Shared<T> tile, Shared<F8> bytes, int thread) {
  constexpr int kChunks = kHeadSize / 8;
#pragma unroll 4
  for (int i = thread; i < kKeys * kChunks; i += kThreads) {
    const int key = i / kChunks;
    const int column = i % kChunks * 8;
    tile.store_as(key * tile_pitch<kHeadSize> + column,
                  widen<T>(bytes.template load_as<uint64_t>(key * kHeadSize + column)));
  }
}

// scores[r][j] += q k^T for row tile r and keys 8 j to 8 j + 7. A row tile's fragments come 16 columns at a
// time from `query(r, step, fragment)`; a fragment of keys serves all row tiles.
template <typename T, int kHeadSize, int kKeys, int kRowTiles, typename Query>
QUIRE_DEVICE void multiply_keys(float (&scores)[kRowTiles][kKeys / 8][4], Shared<T> keys, int lane,
                                Query query) {
  const int key = lane / 16 * 8 + lane % 8;
  const int column = lane / 8 % 2 * 8;
#pragma unroll
  for (int step = 0; step < kHeadSize / 16; step++) {
    uint32_t q[kRowTiles][4];
#pragma unroll
    for (int r = 0; r < kRowTiles; r++) query(r, step, q[r]);
#pragma unroll
    for (int j = 0; j < kKeys / 16; j++) {
      uint32_t k[4];
      load_matrices(k, keys, (16 * j + key) * tile_pitch<kHeadSize> + 16 * step + column);
#pragma unroll
      for (int r = 0; r < kRowTiles; r++) {
        multiply_add(scores[r][2 * j], q[r], k[0], k[1], T{});
        multiply_add(scores[r][2 * j + 1], q[r], k[2], k[3], T{});
      }
    }
  }
}

// acc[r][j] += weights v for row tile r and columns 8 j to 8 j + 7 of the head.
template <typename T, int kHeadSize, int kKeys, int kRowTiles>
QUIRE_DEVICE void multiply_values(float (&acc)[kRowTiles][kHeadSize / 8][4],
                                  const float (&weights)[kRowTiles][kKeys / 8][4], Shared<T> values,
                                  int lane) {
  const int key = lane / 8 % 2 * 8 + lane % 8;
  const int column = lane / 16 * 8;
#pragma unroll
  for (int step = 0; step < kKeys / 16; step++) {
    uint32_t w[kRowTiles][4];
#pragma unroll
    for (int r = 0; r < kRowTiles; r++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float(&pair)[4] = weights[r][2 * step + i / 2];
        w[r][i] = pack<T>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
      }
    }
#pragma unroll
    for (int j = 0; j < kHeadSize / 16; j++) {
      uint32_t v[4];
      load_matrices_transposed(v, values, (16 * step + key) * tile_pitch<kHeadSize> + 16 * j + column);
#pragma unroll
      for (int r = 0; r < kRowTiles; r++) {
        multiply_add(acc[r][2 * j], w[r], v[0], v[1], T{});
        multiply_add(acc[r][2 * j + 1], w[r], v[2], v[3], T{});
      }
    }
  }
}

// tanh(scores * scale): what is left of a soft cap is a factor, which update() multiplies by.
template <int kTiles>
QUIRE_DEVICE void cap_scores(float (&scores)[kTiles][4], float scale) {
  constexpr float kTwoLog2E = 2.8853900817779268f;
#pragma unroll
  for (int j = 0; j < kTiles; j++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      scores[j][i] = 1 - 2 / (exp2_fast(scores[j][i] * scale * kTwoLog2E) + 1);
    }
  }
}

template <int kTiles>
QUIRE_DEVICE void shrink_rows(float (&acc)[kTiles][4], const float (&shrink)[2]) {
#pragma unroll
  for (int j = 0; j < kTiles; j++) {
#pragma unroll
    for (int i = 0; i < 4; i++) acc[j][i] *= shrink[i / 2];
  }
}

// The running softmax of 16 rows, in powers of two: m the largest score so far, l the sum of 2^(score - m)
// over the columns this lane holds. [0] is row lane / 4, [1] the row 8 below.
struct SoftmaxState {
  float m[2];
  float l[2];

  QUIRE_DEVICE void init() {
    for (int i = 0; i < 2; i++) {
      m[i] = kMinusInfinity;
      l[i] = 0;
    }
  }

  // Scores (times scale: log2 e / sqrt(head size)) become weights; what was added up so far is to shrink by
  // `shrink` to the new maximum.
  template <int kTiles>
  QUIRE_DEVICE void weigh(float (&scores)[kTiles][4], float scale, float (&shrink)[2]) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      float max = m[i];
#pragma unroll
      for (int j = 0; j < kTiles; j++)
        max = fmaxf(max, fmaxf(scores[j][2 * i], scores[j][2 * i + 1]) * scale);
      max = fmaxf(max, shuffle_xor(max, 1));
      max = fmaxf(max, shuffle_xor(max, 2));
      // A row that has seen no key yet keeps -inf out of the subtraction.
      const float base = max == kMinusInfinity ? 0.0f : max;
      shrink[i] = exp2_fast(m[i] - base);
      m[i] = max;
      float sum = 0;
#pragma unroll
      for (int j = 0; j < kTiles; j++) {
        scores[j][2 * i] = exp2_fast(scores[j][2 * i] * scale - base);
        scores[j][2 * i + 1] = exp2_fast(scores[j][2 * i + 1] * scale - base);
        sum += scores[j][2 * i] + scores[j][2 * i + 1];
      }
      l[i] = l[i] * shrink[i] + sum;
    }
  }
  // The same, and acc shrinks.
  template <int kTiles, int kAccumulators>
  QUIRE_DEVICE void update(float (&scores)[kTiles][4], float (&acc)[kAccumulators][4], float scale) {
    float shrink[2];
    weigh(scores, scale, shrink);
    shrink_rows(acc, shrink);
  }

  // l over the whole row.
  QUIRE_DEVICE float row_sum(int i) const {
    const float pair = l[i] + shuffle_xor(l[i], 1);
    return pair + shuffle_xor(pair, 2);
  }
};

}  // namespace quire::cuda
