// out = x W^T + b for bf16 weights as they lie in memory and activations rounded to bf16 on the way in, by
// vdpbf16ps: a lane adds two products to an f32 sum.
//
// Bound: one token streams the weights once; many, the dot-product units, at twice the rate of f32. Each
// output is one chain over the inputs in order and one fixed sum of lanes, whatever the shape of the tile.
#pragma once

#include "cpu/simd.h"

#if defined(QUIRE_AVX512)

#include "cpu/pieces.h"
#include "ops.h"
#include "rounded_activations.h"
#include "thread_pool.h"

// The file is compiled without these instructions: what uses them is called only where they are.
#define QUIRE_HAS_BF16 __attribute__((target("avx512bf16")))

namespace quire::QUIRE_VARIANT {

constexpr int kPairWidth = 2 * kWidth;

struct Bf16Rows {
  uint16_t* values;
  int64_t stride;  // rows are padded with zeros to whole vectors
};

QUIRE_HAS_BF16 inline void round_row_to_bf16(uint16_t* out, const float* x, int64_t cols) {
  for (int64_t k = 0; k < cols; k += kWidth) {
    const int n = cols - k < kWidth ? static_cast<int>(cols - k) : kWidth;
    const __m256bh halves = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(first_lanes(n), x + k));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + k), (__m256i)halves);
  }
}

template <int kRows, int kTokens>
QUIRE_HAS_BF16 inline void bf16_tile(const MatmulArgs& a, const Bf16Rows& x, int64_t row, int64_t token) {
  const int64_t cols = a.weight->cols;
  const uint16_t* w = static_cast<const uint16_t*>(a.weight->data) + row * cols;
  const uint16_t* inputs = x.values + token * x.stride;
  Vec acc[kRows][kTokens];
  for (int r = 0; r < kRows; r++) {
    for (int t = 0; t < kTokens; t++) acc[r][t] = zero();
  }
  for (int64_t k = 0; k < cols; k += kPairWidth) {
    const __mmask32 lanes =
        cols - k >= kPairWidth ? ~__mmask32{0} : static_cast<__mmask32>((uint64_t{1} << (cols - k)) - 1);
    __m512i weights[kRows];
    for (int r = 0; r < kRows; r++) weights[r] = _mm512_maskz_loadu_epi16(lanes, w + r * cols + k);
    for (int t = 0; t < kTokens; t++) {
      const __m512i pairs = _mm512_loadu_si512(inputs + t * x.stride + k);
      for (int r = 0; r < kRows; r++) {
        acc[r][t] = _mm512_dpbf16_ps(acc[r][t], (__m512bh)weights[r], (__m512bh)pairs);
      }
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

template <int kRows>
inline void bf16_tokens(const MatmulArgs& a, const Bf16Rows& x, int64_t row, int64_t first, int64_t last) {
  int64_t t = first;
  for (; t + 6 <= last; t += 6) bf16_tile<kRows, 6>(a, x, row, t);
  for (; t + 2 <= last; t += 2) bf16_tile<kRows, 2>(a, x, row, t);
  for (; t < last; t++) bf16_tile<kRows, 1>(a, x, row, t);
}

inline void bf16_matmul(const MatmulArgs& a, ThreadPool& pool) {
  constexpr int64_t kRowsPerPiece = 32;
  const int64_t stride = bf16_stride(a.weight->cols);
  const Bf16Rows x = {reinterpret_cast<uint16_t*>(pool.workspace(bf16_bytes(a.num_tokens, a.weight->cols))),
                      stride};
  for_each_row(pool, a.num_tokens, a.weight->cols, [&](int64_t t) {
    uint16_t* row = x.values + t * stride;
    round_row_to_bf16(row, f32(a.x) + t * a.x_stride, a.weight->cols);
    std::memset(row + a.weight->cols, 0, static_cast<size_t>(stride - a.weight->cols) * 2);
  });
  for_each_piece(a, pool, {kRowsPerPiece, tokens_per_piece(a, sizeof(uint16_t))},
                 [&](int64_t first_row, int64_t last_row, int64_t first, int64_t last) {
                   int64_t row = first_row;
                   // A lone token needs more rows in flight to cover the latency of its chains.
                   for (; last - first == 1 && row + 8 <= last_row; row += 8)
                     bf16_tile<8, 1>(a, x, row, first);
                   for (; row + 4 <= last_row; row += 4) bf16_tokens<4>(a, x, row, first, last);
                   for (; row < last_row; row++) bf16_tokens<1>(a, x, row, first, last);
                   add_bias(a, first_row, last_row, first, last);
                 });
}

}  // namespace quire::QUIRE_VARIANT

#endif
