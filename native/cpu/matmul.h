// out = x W^T + b: which kernel takes a weight. Here is the one for integers that lie row by row, [out, in],
// and become floats in registers, for activations that are not rounded.
//
// Bound: one token streams the weights once; many, the FMA units. A tile of kRows weight rows by kTokens
// tokens keeps one accumulator vector per output. Each output is one chain of fused multiply-adds over the
// inputs in order and one fixed sum of lanes: tiles of any shape give bitwise the same number.
#pragma once

#include "cpu/int8_matmul.h"
#include "cpu/panel_matmul.h"
#include "cpu/pieces.h"
#include "cpu/simd.h"
#include "ops.h"
#include "thread_pool.h"

namespace quire::QUIRE_VARIANT {

// One row of integer weights, kWidth inputs at a time as numbers. A row is whole vectors.
template <typename T>
struct IntegerRow {
  const uint8_t* data;
  const float* scales;
  const uint8_t* zeros;
  int group;

  IntegerRow() = default;
  IntegerRow(const Tensor& weight, int64_t row)
      : data(static_cast<const uint8_t*>(weight.data) + row * T::bytes(weight.cols)),
        scales(weight.groups.scales + row * (weight.cols / weight.groups.group)),
        zeros(weight.groups.zeros + row * (weight.cols / weight.groups.group)),
        group(weight.groups.group) {}
  Vec at(int64_t k) const {
    return mul(sub(T::load(data, k), broadcast(zeros[k / group])), broadcast(scales[k / group]));
  }
};

template <typename T, int kRows, int kTokens>
inline void matmul_tile(const MatmulArgs& a, int64_t row, int64_t token) {
  const int64_t num_inputs = a.weight->cols;
  IntegerRow<T> w[kRows];
  for (int r = 0; r < kRows; r++) w[r] = IntegerRow<T>(*a.weight, row + r);
  const float* x = f32(a.x) + token * a.x_stride;
  Vec acc[kRows][kTokens];
  for (int r = 0; r < kRows; r++) {
    for (int t = 0; t < kTokens; t++) acc[r][t] = zero();
  }
  for (int64_t k = 0; k < num_inputs; k += kWidth) {
    Vec weights[kRows];
    for (int r = 0; r < kRows; r++) weights[r] = w[r].at(k);
    for (int t = 0; t < kTokens; t++) {
      const Vec inputs = load<F32>(x + t * a.x_stride + k);
      for (int r = 0; r < kRows; r++) acc[r][t] = fma(weights[r], inputs, acc[r][t]);
    }
  }
  // Unrolled, the accumulators have no addresses and stay in registers.
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; t++) {
    float* out = f32(a.out) + (token + t) * a.out_stride + row;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) out[r] = sum(acc[r][t]);
  }
}

// All tokens of [first, last) for kRows rows.
template <typename T, int kRows>
inline void matmul_rows(const MatmulArgs& a, int64_t row, int64_t first, int64_t last) {
  constexpr int kTokens = kWidth == 16 ? 6 : 3;
  int64_t t = first;
  for (; t + kTokens <= last; t += kTokens) matmul_tile<T, kRows, kTokens>(a, row, t);
  for (; t + 2 <= last; t += 2) matmul_tile<T, kRows, 2>(a, row, t);
  for (; t < last; t++) matmul_tile<T, kRows, 1>(a, row, t);
}

template <typename T>
inline void matmul_block(const MatmulArgs& a, int64_t first_row, int64_t last_row, int64_t first,
                         int64_t last) {
  int64_t row = first_row;
  // A lone token needs more rows in flight to cover the latency of its chains.
  if (last - first == 1) {
    for (; row + 8 <= last_row; row += 8) matmul_tile<T, 8, 1>(a, row, first);
  }
  for (; row + 4 <= last_row; row += 4) matmul_rows<T, 4>(a, row, first, last);
  for (; row < last_row; row++) matmul_rows<T, 1>(a, row, first, last);
  add_bias(a, first_row, last_row, first, last);
}

template <typename T>
inline void matmul_in_rows(const MatmulArgs& a, ThreadPool& pool) {
  constexpr int64_t kRowsPerPiece = 32;
  for_each_piece(a, pool, {kRowsPerPiece, tokens_per_piece(a, sizeof(float))},
                 [&](int64_t row, int64_t last_row, int64_t first, int64_t last) {
                   matmul_block<T>(a, row, last_row, first, last);
                 });
}

inline void matmul(const MatmulArgs& a, ThreadPool& pool) {
  if (is_tiled(a.weight->dtype)) return int8_matmul(a, pool);
  if (a.weight->dtype == DType::kW4) return matmul_in_rows<Nibbles>(a, pool);
  if (a.weight->dtype == DType::kW8) return matmul_in_rows<WholeBytes>(a, pool);
  panel_matmul(a, pool);
}

using MatmulOp = void (*)(const MatmulArgs&, ThreadPool&);

}  // namespace quire::QUIRE_VARIANT
