// int8_matmul.h for many tokens, by the tile registers of AMX. The packed weights (weight_tiles.h) are what
// the instruction takes: a row of a tile is a step of 16 outputs by 4 inputs.
//
// Bound: per group, two tiles of tokens by two of weights, and then what turns 32 by 32 integers into floats.
// The integers are exact and what follows is int8_matmul.h's, so the numbers are its to the bit.
#pragma once

#include "cpu/int8_matmul.h"
#include "cpu/tile_registers.h"

namespace quire::QUIRE_VARIANT {

static_assert(kWidth == kTileRows, "a row of sums is a vector");

constexpr int kTokensPerPiece = 128;
// Half a tile and more: fewer leave most of the unit idle.
constexpr int kFewestTokens = 8;

// What a thread works in: 32 outputs of a piece's tokens.
struct TileWork {
  alignas(64) float acc[kTokensPerPiece][2][kTileRows];
  alignas(64) uint8_t weights[2][kMostInGroup * kTileRows];
  alignas(64) int32_t sums[2 * kTokenTile][2][kTileRows];
};

// How many inputs one instruction takes.
inline int depth_of(int group) { return group % 64 == 0 ? 64 : 32; }

// Registers 0 to 3 are sums, [token tile][strip]; 4 and 5 tokens; 6 and 7 weights.
inline void shape_int8_tiles(int depth) {
  const TileShape sums = {kTokenTile, kTileBytes}, tokens = {kTokenTile, depth};
  const TileShape weights = {depth / 4, kTileBytes};
  shape_tiles({sums, sums, sums, sums, tokens, tokens, weights, weights});
}

// A strip's group as bytes: where it lies, or unpacked to `memory`.
template <int kBits>
inline const uint8_t* group_bytes(uint8_t* memory, const Strip& strip, int64_t g, int group) {
  const int64_t size = int64_t{group} * kTileRows * kBits / 8;
  const uint8_t* packed = strip.data + g * size;
  if (kBits == 8) return packed;
  uint8_t* to = memory;
  for (int64_t i = 0; i < size; i += Lines<kBits>::kBytes) {
    Lines<kBits> lines;
    lines.load(packed + i);
    for (int step = 0; step < Lines<kBits>::kSteps; step++, to += kTileLine) {
      store_bytes(to, lines.step(step));
    }
  }
  return memory;
}

// A group's products of kTokenTiles tiles of tokens, from q on, and kStrips strips.
template <int kStrips, int kTokenTiles>
inline void multiply_group(TileWork& work, const uint8_t* const* weights, const int8_t* q, int64_t stride,
                           int group) {
  const int depth = depth_of(group);
  clear_tile<0>();
  clear_tile<1>();
  clear_tile<2>();
  clear_tile<3>();
  for (int k = 0; k < group; k += depth) {
    load_tile<6>(weights[0] + k * kTileRows, kTileLine);
    load_tile<4>(q + k, stride);
    dot_int8<0, 4, 6>();
    if constexpr (kStrips == 2) {
      load_tile<7>(weights[1] + k * kTileRows, kTileLine);
      dot_int8<1, 4, 7>();
    }
    if constexpr (kTokenTiles == 2) {
      load_tile<5>(q + kTokenTile * stride + k, stride);
      dot_int8<2, 5, 6>();
      if constexpr (kStrips == 2) dot_int8<3, 5, 7>();
    }
  }
  constexpr int64_t kStride = sizeof(work.sums[0]);
  store_tile<0>(work.sums[0][0], kStride);
  if constexpr (kStrips == 2) store_tile<1>(work.sums[0][1], kStride);
  if constexpr (kTokenTiles == 2) {
    store_tile<2>(work.sums[kTokenTile][0], kStride);
    if constexpr (kStrips == 2) store_tile<3>(work.sums[kTokenTile][1], kStride);
  }
}

// acc[t] += the sums of num_tokens tokens, times the scales of group g.
template <int kBits, int kStrips>
inline void add_group(float (*acc)[2][kTileRows], const TileWork& work, const Strip* strips,
                      const RoundedRows& x, int64_t token, int num_tokens, int64_t g) {
  for (int s = 0; s < kStrips; s++) {
    const Vec scales = load<F16>(strips[s].scales + g * kTileRows);
    const Sums zeros = strips[s].zeros == nullptr ? same_zeros(1 << (kBits - 1))
                                                  : load_zeros(strips[s].zeros + g * kTileRows);
    for (int t = 0; t < num_tokens; t++) {
      const int64_t at = (token + t) * x.num_groups() + g;
      const Sums products = load_bytes(reinterpret_cast<const uint8_t*>(work.sums[t][s]));
      const Sums sums = add(start_sums<kBits>(zeros, x.negated_sums[at]), products);
      const Vec before = g == 0 ? zero() : load<F32>(acc[t][s]);
      store(acc[t][s], fma(to_floats(sums), mul(scales, broadcast(x.scales[at])), before));
    }
  }
}

struct Int8TileMatmul : Int8Matmul {
  // Tokens [first, last) of the piece, for kStrips strips from `row` on.
  template <int kBits, int kStrips>
  void outputs(TileWork& work, int64_t row, int64_t first, int64_t last) const {
    Strip strips[kStrips];
    for (int s = 0; s < kStrips; s++) strips[s] = strip(row + s * kTileRows);
    for (int64_t g = 0; g < x.num_groups(); g++) {
      const uint8_t* bytes[kStrips];
      for (int s = 0; s < kStrips; s++) bytes[s] = group_bytes<kBits>(work.weights[s], strips[s], g, x.group);
      for (int64_t t = first; t < last; t += 2 * kTokenTile) {
        const int8_t* q = x.q + t * x.cols + g * x.group;
        const int left = static_cast<int>(last - t);
        if (left > kTokenTile) {
          multiply_group<kStrips, 2>(work, bytes, q, x.cols, x.group);
        } else {
          multiply_group<kStrips, 1>(work, bytes, q, x.cols, x.group);
        }
        add_group<kBits, kStrips>(work.acc + (t - first), work, strips, x, t,
                                  left < 2 * kTokenTile ? left : 2 * kTokenTile, g);
      }
    }
    for (int64_t t = first; t < last; t++) {
      float* out = f32(args.out) + t * args.out_stride + row;
      for (int s = 0; s < kStrips; s++) {
        const int64_t left = args.weight->rows - row - s * kTileRows;
        store_up_to(out + s * kTileRows, load<F32>(work.acc[t - first][s]),
                    left < kTileRows ? static_cast<int>(left) : kTileRows);
      }
    }
  }

  template <int kBits>
  void piece(int64_t first_row, int64_t last_row, int64_t first, int64_t last) const {
    TileWork work;
    shape_int8_tiles(depth_of(x.group));
    int64_t row = first_row;
    for (; row + kTileRows < last_row; row += 2 * kTileRows) outputs<kBits, 2>(work, row, first, last);
    if (row < last_row) outputs<kBits, 1>(work, row, first, last);
    release_tiles();
    add_bias(args, first_row, last_row, first, last);
  }
};

inline bool takes_tiles(const MatmulArgs& a) {
  return is_tiled(a.weight->dtype) && a.num_tokens >= kFewestTokens;
}

inline void int8_tile_matmul(const MatmulArgs& a, ThreadPool& pool) {
  constexpr int64_t kRowsPerPiece = 64;
  const Int8TileMatmul matmul = {{a, WeightTiles(*a.weight), rounded_inputs(a, pool)}};
  const PieceSize size = {kRowsPerPiece, kTokensPerPiece};
  for_each_piece(a, pool, size, [&](int64_t row, int64_t last_row, int64_t first, int64_t last) {
    if (matmul.weight.bits == 4) {
      matmul.piece<4>(row, last_row, first, last);
    } else if (matmul.weight.bits == 6) {
      matmul.piece<6>(row, last_row, first, last);
    } else {
      matmul.piece<8>(row, last_row, first, last);
    }
  });
}

}  // namespace quire::QUIRE_VARIANT
