// out = x W^T + b for weights as they lie in memory, [out, in] in f32, f16, bf16 or integers, converted in
// registers. Integers in tiles are int8_matmul.h's.
//
// Bound: one token streams the weights once, so memory bandwidth; many tokens, the FMA units. A tile of kRows
// weight rows by kTokens tokens keeps one accumulator vector per output. Each output is one chain of fused
// multiply-adds over the inputs in order and one fixed sum of lanes: tiles of any shape give bitwise the same
// number.
#pragma once

#include "cpu/bf16_matmul.h"
#include "cpu/int8_matmul.h"
#include "cpu/pieces.h"
#include "cpu/simd.h"
#include "ops.h"
#include "thread_pool.h"

namespace quire::QUIRE_VARIANT {

// One row of a weight, read kWidth inputs at a time.
template <typename T>
struct WeightRow {
  const typename T::Storage* data;

  WeightRow() = default;
  WeightRow(const Tensor& weight, int64_t row)
      : data(static_cast<const typename T::Storage*>(weight.data) + row * weight.cols) {}
  Vec at(int64_t k) const { return load<T>(data + k); }
  Vec last(int64_t k, int n) const { return load_partial<T>(data + k, n); }
};

// Integer weights become numbers in registers. Their rows are whole vectors.
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
  Vec last(int64_t, int) const { return zero(); }
};
template <>
struct WeightRow<Nibbles> : IntegerRow<Nibbles> {
  using IntegerRow::IntegerRow;
};
template <>
struct WeightRow<WholeBytes> : IntegerRow<WholeBytes> {
  using IntegerRow::IntegerRow;
};

template <typename T, int kRows, int kTokens>
inline void matmul_tile(const MatmulArgs& a, int64_t row, int64_t token) {
  const int64_t num_inputs = a.weight->cols;
  WeightRow<T> w[kRows];
  for (int r = 0; r < kRows; r++) w[r] = WeightRow<T>(*a.weight, row + r);
  const float* x = f32(a.x) + token * a.x_stride;
  Vec acc[kRows][kTokens];
  for (int r = 0; r < kRows; r++) {
    for (int t = 0; t < kTokens; t++) acc[r][t] = zero();
  }
  int64_t k = 0;
  for (; k + kWidth <= num_inputs; k += kWidth) {
    Vec weights[kRows];
    for (int r = 0; r < kRows; r++) weights[r] = w[r].at(k);
    for (int t = 0; t < kTokens; t++) {
      const Vec inputs = load<F32>(x + t * a.x_stride + k);
      for (int r = 0; r < kRows; r++) acc[r][t] = fma(weights[r], inputs, acc[r][t]);
    }
  }
  if (const int rest = static_cast<int>(num_inputs - k); rest > 0) {
    for (int t = 0; t < kTokens; t++) {
      const Vec inputs = load_partial<F32>(x + t * a.x_stride + k, rest);
      for (int r = 0; r < kRows; r++) acc[r][t] = fma(w[r].last(k, rest), inputs, acc[r][t]);
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

inline void matmul(const MatmulArgs& a, ThreadPool& pool) {
  constexpr int64_t kRowsPerPiece = 32;
  if (is_tiled(a.weight->dtype)) return int8_matmul(a, pool);
  const auto run = [&](auto tag) {
    for_each_piece(a, pool, {kRowsPerPiece, tokens_per_piece(a, sizeof(float))},
                   [&](int64_t row, int64_t last_row, int64_t first, int64_t last) {
                     matmul_block<decltype(tag)>(a, row, last_row, first, last);
                   });
  };
  switch (a.weight->dtype) {
    case DType::kW4:
      return run(Nibbles{});
    case DType::kW8:
      return run(WholeBytes{});
    default:
      return with_dtype(a.weight->dtype, run);
  }
}

using MatmulOp = void (*)(const MatmulArgs&, ThreadPool&);

#if defined(QUIRE_AVX512)
inline void matmul_in_bf16(const MatmulArgs& a, ThreadPool& pool) {
  return a.weight->dtype == DType::kBF16 ? bf16_matmul(a, pool) : matmul(a, pool);
}
#endif

}  // namespace quire::QUIRE_VARIANT
