// panel_matmul.h's products of bf16 by the tile registers of AMX, for any number of tokens: a row's bits must
// not depend on how many there are. The first factor is the rounded activations as they lie, 16 tokens by 32
// inputs; the second is 16 lines of a panel, pairs of inputs by 16 outputs.
//
// Bound: one token streams the weights once; many, the tile unit. An output is one chain over the inputs, 32
// at a time, in order.
#pragma once

#include "cpu/panel_matmul.h"
#include "cpu/simd_kv.h"
#include "cpu/tile_registers.h"

namespace quire::QUIRE_VARIANT {

constexpr int kDepth = 32;  // inputs that one instruction takes
constexpr int kMostTokenTiles = 4;

static_assert(kPanelRows * 2 * sizeof(uint16_t) == kTileBytes, "a line of a panel is a row of a tile");

// Registers 0 to 3 are sums, one for each tile of tokens; 4 weights; 5 to 7 tokens.
inline void shape_bf16_tiles() {
  const TileShape whole = {kTokenTile, kTileBytes};
  shape_tiles({whole, whole, whole, whole, whole, whole, whole, whole});
}

// One step along the inputs, with the weights in place.
template <int kTokenTiles>
inline void multiply_step(const InputRows<uint16_t>& x, int64_t token, int64_t k) {
  for_constants<kTokenTiles>([&](auto tile) __attribute__((always_inline)) {
    constexpr int kTile = decltype(tile)::value, kTokens = 5 + kTile % 3;
    load_tile<kTokens>(x.values + (token + kTile * kTokenTile) * x.stride + k, x.stride * 2);
    dot_bf16<kTile, kTokens, 4>();
  });
}

// One panel from row on, with its weights in place step by step.
template <int kTokenTiles>
inline void multiply_plain_panel(const Tensor& weight, const InputRows<uint16_t>& x, int64_t row,
                                 int64_t token) {
  const int64_t cols = panel_cols(weight);
  const uint16_t* lines = static_cast<const uint16_t*>(weight.data) + row * cols;
  int64_t k = 0;
  for (; k + kDepth <= cols; k += kDepth) {
    load_tile<4>(lines + k * kPanelRows, kTileBytes);
    multiply_step<kTokenTiles>(x, token, k);
  }
  if (k < cols) {
    // What lies behind a panel is the next one, or nobody's.
    alignas(64) uint16_t rest[kDepth * kPanelRows] = {};
    std::memcpy(rest, lines + k * kPanelRows, static_cast<size_t>((cols - k) * kPanelRows) * 2);
    load_tile<4>(rest, kTileBytes);
    multiply_step<kTokenTiles>(x, token, k);
  }
}

template <int kTokenTiles>
inline void multiply_coded_panel(const Tensor& weight, const InputRows<uint16_t>& x, int64_t row,
                                 int64_t token) {
  constexpr int kBlocks = kDepth / kCodedInputs;
  CodedReader reader(coded_panel(weight, row / kPanelRows), 4 * kBlocks);
  for (int64_t k = 0; k < weight.cols; k += kDepth) {
    alignas(64) uint16_t lines[kDepth * kPanelRows] = {};
    const int64_t left = coded_blocks(weight.cols - k);
    reader.read(left < kBlocks ? left : kBlocks, lines);
    load_tile<4>(lines, kTileBytes);
    multiply_step<kTokenTiles>(x, token, k);
  }
}

// Outputs of one panel, from row on, of kTokenTiles tiles of tokens.
template <int kTokenTiles>
inline void bf16_tiles(const MatmulArgs& a, const InputRows<uint16_t>& x, int64_t row, int64_t token) {
  for_constants<kTokenTiles>([](auto tile) { clear_tile<decltype(tile)::value>(); });
  if (a.weight->is_coded) {
    multiply_coded_panel<kTokenTiles>(*a.weight, x, row, token);
  } else {
    multiply_plain_panel<kTokenTiles>(*a.weight, x, row, token);
  }
  const int64_t left = a.weight->rows - row;
  for_constants<kTokenTiles>([&](auto tile) {
    alignas(64) float sums[kTokenTile][kPanelRows];
    store_tile<decltype(tile)::value>(sums, kTileBytes);
    const int64_t first = token + decltype(tile)::value * kTokenTile;
    for (int t = 0; t < kTokenTile && first + t < a.num_tokens; t++) {
      store_up_to(f32(a.out) + (first + t) * a.out_stride + row, load<F32>(sums[t]),
                  left < kPanelRows ? static_cast<int>(left) : kPanelRows);
    }
  });
}

template <int kTokenTiles>
inline void bf16_token_tiles(const MatmulArgs& a, const InputRows<uint16_t>& x, int64_t row, int64_t first,
                             int64_t last) {
  int64_t t = first;
  for (; t + (kTokenTiles - 1) * kTokenTile < last; t += kTokenTiles * kTokenTile) {
    bf16_tiles<kTokenTiles>(a, x, row, t);
  }
  if constexpr (kTokenTiles > 1) {
    if (t < last) bf16_token_tiles<kTokenTiles - 1>(a, x, row, t, last);
  }
}

inline void bf16_tile_matmul(const MatmulArgs& a, ThreadPool& pool) {
  const InputRows<uint16_t> x = rounded_to_bf16(a, pool);
  constexpr PieceSize kSize = {2 * kPanelRows, 2 * kMostTokenTiles * kTokenTile};
  for_each_piece(a, pool, kSize, [&](int64_t first_row, int64_t last_row, int64_t first, int64_t last) {
    shape_bf16_tiles();
    for (int64_t row = first_row; row < last_row; row += kPanelRows) {
      bf16_token_tiles<kMostTokenTiles>(a, x, row, first, last);
    }
    release_tiles();
    add_bias(a, first_row, last_row, first, last);
  });
}

}  // namespace quire::QUIRE_VARIANT
