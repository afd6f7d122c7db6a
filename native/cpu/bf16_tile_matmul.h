// bf16_matmul.h by the tile registers of AMX, for any number of tokens: a row's bits must not depend on how
// many there are. Weights are the first factor as they lie in memory, 16 outputs by 32 inputs; the
// activations are rounded and put into the order of the second, pairs of inputs by 16 tokens.
//
// Bound: one token streams the weights once; many, the tile unit. An output is one chain over the inputs, 32
// at a time, in order.
#pragma once

#include "cpu/pieces.h"
#include "cpu/simd_kv.h"
#include "cpu/tile_registers.h"
#include "ops.h"
#include "rounded_activations.h"
#include "thread_pool.h"

namespace quire::QUIRE_VARIANT {

constexpr int kOutputTile = 16;
constexpr int kDepth = 32;  // inputs that one instruction takes
constexpr int kMostTokenTiles = 4;

static_assert(kWidth == kOutputTile, "a row of a tile is a vector");

// Rounded activations of tiles of 16 tokens, each [cols / 2][16][2] and filled up with zeros.
struct PairTiles {
  uint16_t* values;
  int64_t padded_cols;

  uint16_t* at(int64_t token, int64_t k) const {
    return values + token / kWidth * padded_cols * kWidth + k * kWidth;
  }
};

// n inputs of a row, n <= 32.
inline Vec rounded_pairs(const float* x, int n) {
  const auto half = [&](int first) {
    const int count = n - first < 0 ? 0 : n - first < kWidth ? n - first : kWidth;
    return _mm512_maskz_loadu_ps(first_lanes(count), x + first);
  };
  return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(half(kWidth), half(0)));
}

inline void round_tokens(const PairTiles& tiles, const MatmulArgs& a, int64_t first) {
  for (int64_t k = 0; k < tiles.padded_cols; k += kDepth) {
    const int64_t left = a.weight->cols - k;
    Vec words[kWidth];
    for (int t = 0; t < kWidth; t++) {
      words[t] = first + t >= a.num_tokens ? zero()
                                           : rounded_pairs(f32(a.x) + (first + t) * a.x_stride + k,
                                                           static_cast<int>(left < kDepth ? left : kDepth));
    }
    transpose(words);
    for (int p = 0; p < kWidth; p++) {
      store(reinterpret_cast<float*>(tiles.at(first, k + 2 * p)), words[p]);
    }
  }
}

// Registers 0 to 3 are sums, one for each tile of tokens; 4 weights; 5 to 7 tokens.
inline void shape_bf16_tiles(int num_rows) {
  const TileShape sums = {num_rows, kTileBytes}, weights = {num_rows, kTileBytes};
  const TileShape tokens = {kDepth / 2, kTileBytes};
  shape_tiles({sums, sums, sums, sums, weights, tokens, tokens, tokens});
}

// One step along the inputs; the weights are in place.
template <int kTokenTiles>
inline void multiply_step(const PairTiles& x, int64_t token, int64_t k) {
  for_constants<kTokenTiles>([&](auto tile) __attribute__((always_inline)) {
    constexpr int kTile = decltype(tile)::value, kTokens = 5 + kTile % 3;
    load_tile<kTokens>(x.at(token + kTile * kWidth, k), kTileBytes);
    dot_bf16<kTile, 4, kTokens>();
  });
}

// Outputs [row, row + num_rows), at most 16, of kTokenTiles tiles of tokens.
template <int kTokenTiles>
inline void bf16_tiles(const MatmulArgs& a, const PairTiles& x, int64_t row, int num_rows, int64_t token) {
  const int64_t cols = a.weight->cols;
  const uint16_t* w = static_cast<const uint16_t*>(a.weight->data) + row * cols;
  for_constants<kTokenTiles>([](auto tile) { clear_tile<decltype(tile)::value>(); });
  int64_t k = 0;
  for (; k + kDepth <= cols; k += kDepth) {
    load_tile<4>(w + k, cols * 2);
    multiply_step<kTokenTiles>(x, token, k);
  }
  if (k < cols) {
    // What lies behind a row is the next one, or nobody's.
    alignas(64) uint16_t rest[kOutputTile][kDepth] = {};
    for (int r = 0; r < num_rows; r++) std::memcpy(rest[r], w + r * cols + k, (cols - k) * 2);
    load_tile<4>(rest, kTileBytes);
    multiply_step<kTokenTiles>(x, token, k);
  }
  for_constants<kTokenTiles>([&](auto tile) {
    alignas(64) float sums[kOutputTile][kWidth] = {};
    store_tile<decltype(tile)::value>(sums, kTileBytes);
    Vec tokens[kWidth];
    for (int r = 0; r < kOutputTile; r++) tokens[r] = load<F32>(sums[r]);
    transpose(tokens);
    const int64_t first = token + decltype(tile)::value * kWidth;
    for (int t = 0; t < kWidth && first + t < a.num_tokens; t++) {
      store_up_to(f32(a.out) + (first + t) * a.out_stride + row, tokens[t], num_rows);
    }
  });
}

template <int kTokenTiles>
inline void bf16_token_tiles(const MatmulArgs& a, const PairTiles& x, int64_t row, int num_rows,
                             int64_t first, int64_t last) {
  int64_t t = first;
  for (; t + (kTokenTiles - 1) * kWidth < last; t += kTokenTiles * kWidth) {
    bf16_tiles<kTokenTiles>(a, x, row, num_rows, t);
  }
  if constexpr (kTokenTiles > 1) {
    if (t < last) bf16_token_tiles<kTokenTiles - 1>(a, x, row, num_rows, t, last);
  }
}

inline void bf16_tile_matmul(const MatmulArgs& a, ThreadPool& pool) {
  const int64_t cols = a.weight->cols;
  const PairTiles x = {reinterpret_cast<uint16_t*>(pool.workspace(bf16_bytes(a.num_tokens, cols))),
                       (cols + kDepth - 1) / kDepth * kDepth};
  pool.parallel_for((a.num_tokens + kWidth - 1) / kWidth,
                    [&](int64_t tile, int) { round_tokens(x, a, tile * kWidth); });
  constexpr PieceSize kSize = {2 * kOutputTile, 2 * kMostTokenTiles * kWidth};
  for_each_piece(a, pool, kSize, [&](int64_t first_row, int64_t last_row, int64_t first, int64_t last) {
    for (int64_t row = first_row; row < last_row; row += kOutputTile) {
      const int num_rows = static_cast<int>(last_row - row < kOutputTile ? last_row - row : kOutputTile);
      shape_bf16_tiles(num_rows);
      bf16_token_tiles<kMostTokenTiles>(a, x, row, num_rows, first, last);
    }
    release_tiles();
    add_bias(a, first_row, last_row, first, last);
  });
}

}  // namespace quire::QUIRE_VARIANT
