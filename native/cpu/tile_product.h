// out[r, :] = a[r, :] b, or out[r, :] * factors[r] + a[r, :] b, for the few rows and columns of a tile: both
// products of attention.
//
// Every output is one chain of fused multiply-adds along the depth, so its bits do not depend on the rows it
// was computed with. Bound: the FMA units; a block of kRowBlock by kVecBlock vectors stays in registers.
#pragma once

#include <type_traits>

#include "cpu/simd.h"

namespace quire::QUIRE_VARIANT {

constexpr int kRowBlock = kWidth == 16 ? 4 : 6;
constexpr int kVecBlock = kWidth == 16 ? 4 : 2;

struct TileProduct {
  float* out;
  int64_t out_stride;
  const float* factors;  // [rows]; null: out starts at 0
  const float* a;        // [rows, depth]
  int64_t a_stride;
};

// b as floats in memory, [depth, columns].
struct FloatColumns {
  const float* b;
  int64_t stride;
  Vec at(int k, int column) const { return load<F32>(b + k * stride + column); }
  void ask(int) const {}
};

// Calls body with n, in [1, kMax], as a constant.
template <int kMax, typename Body>
inline void with_count(int n, const Body& body) {
  if constexpr (kMax > 1) {
    if (n < kMax) return with_count<kMax - 1>(n, body);
  }
  body(std::integral_constant<int, kMax>{});
}

// b.at(k, column): kWidth columns of b's row k. b.ask(k) is called once on the way to it.
template <int kRows, int kVecs, typename Columns>
inline void product_block(const TileProduct& p, const Columns& b, int column, int depth) {
  Vec acc[kRows][kVecs];
  float* out = p.out + column;
  for (int r = 0; r < kRows; r++) {
    for (int v = 0; v < kVecs; v++) {
      acc[r][v] = p.factors == nullptr
                      ? zero()
                      : mul(load<F32>(out + r * p.out_stride + v * kWidth), broadcast(p.factors[r]));
    }
  }
  for (int k = 0; k < depth; k++) {
    if (column == 0) b.ask(k);
    Vec columns[kVecs];
    for (int v = 0; v < kVecs; v++) columns[v] = b.at(k, column + v * kWidth);
    for (int r = 0; r < kRows; r++) {
      const Vec factor = broadcast(p.a[r * p.a_stride + k]);
      for (int v = 0; v < kVecs; v++) acc[r][v] = fma(factor, columns[v], acc[r][v]);
    }
  }
  for (int r = 0; r < kRows; r++) {
    for (int v = 0; v < kVecs; v++) store(out + r * p.out_stride + v * kWidth, acc[r][v]);
  }
}

// num_rows in [1, kRowBlock].
template <typename Columns>
inline void tile_product(const TileProduct& p, const Columns& b, int num_rows, int num_vecs, int depth) {
  with_count<kRowBlock>(num_rows, [&](auto rows) {
    for (int v = 0; v < num_vecs; v += kVecBlock) {
      const int left = num_vecs - v;
      with_count<kVecBlock>(left < kVecBlock ? left : kVecBlock, [&](auto vecs) {
        product_block<decltype(rows)::value, decltype(vecs)::value>(p, b, v * kWidth, depth);
      });
    }
  });
}

}  // namespace quire::QUIRE_VARIANT
