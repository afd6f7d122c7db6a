// out = x W^T + b for plain weights in panels (weight_panels.h), bf16 with coded exponents (coded_bf16.h).
//
// Bound: one token streams the weights once; many, the FMA units, or those of the dot product. A block of
// kPanels panels by kTokens tokens keeps a sum for each output in registers. Each is one chain over the
// inputs in order: blocks of any shape give bitwise the same number, and so do weights in either form.
#pragma once

#include "cpu/coded_panel_matmul.h"
#include "cpu/panel_block.h"
#include "cpu/pieces.h"
#include "rounded_activations.h"
#include "thread_pool.h"

namespace quire::QUIRE_VARIANT {

// Outputs of kPanels panels, from row on.
template <typename Line, int kPanels>
inline void multiply_panels(const MatmulArgs& a, const InputRows<typename Line::Input>& x, int64_t row,
                            int64_t first, int64_t last) {
  const int64_t cols = a.weight->cols, panel_size = panel_cols(*a.weight) * kPanelRows;
  const auto* lines =
      static_cast<const typename Line::Weight*>(a.weight->data) + row / kPanelRows * panel_size;
  for_each_token_block(first, last, [&](auto count, int64_t token) {
    PanelBlock<Line, kPanels, decltype(count)::value> block{};
    block.add_all(lines, panel_size, x.values + token * x.stride, x.stride, cols);
    block.store(a, row, token);
  });
}

template <typename Line>
inline void multiply_in_panels(const MatmulArgs& a, const InputRows<typename Line::Input>& x,
                               ThreadPool& pool) {
  if constexpr (Line::kInputs == 2) {
    if (a.weight->is_coded) return multiply_in_coded_panels<Line>(a, x, pool);
  }
  constexpr int64_t kBlockRows = kBlockPanels * kPanelRows;
  for_each_piece(a, pool, {kBlockRows, tokens_per_piece(a, sizeof(typename Line::Input))},
                 [&](int64_t row, int64_t last_row, int64_t first, int64_t last) {
                   if (last_row - row > kPanelRows * (kBlockPanels - 1)) {
                     multiply_panels<Line, kBlockPanels>(a, x, row, first, last);
                   } else {
                     multiply_panels<Line, 1>(a, x, row, first, last);
                   }
                   add_bias(a, row, last_row, first, last);
                 });
}

inline void panel_matmul(const MatmulArgs& a, ThreadPool& pool) {
  with_dtype(a.weight->dtype, [&](auto tag) {
    multiply_in_panels<PanelLine<decltype(tag)>>(a, {f32(a.x), a.x_stride}, pool);
  });
}

#if defined(QUIRE_AVX512_BF16)
inline void round_row_to_bf16(uint16_t* out, const float* x, int64_t cols) {
  for_each_vector(static_cast<int>(cols), [&](int i, int n) {
    const __m256bh halves = _mm512_cvtneps_pbh(load_up_to<F32>(x + i, n));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), (__m256i)halves);
  });
}

// Activations of all tokens in bf16, in the pool's workspace, filled up with zeros to whole vectors.
inline InputRows<uint16_t> rounded_to_bf16(const MatmulArgs& a, ThreadPool& pool) {
  const int64_t cols = a.weight->cols, stride = bf16_stride(cols);
  auto* values = reinterpret_cast<uint16_t*>(pool.workspace(bf16_bytes(a.num_tokens, cols)));
  for_each_row(pool, a.num_tokens, cols, [&](int64_t t) {
    round_row_to_bf16(values + t * stride, f32(a.x) + t * a.x_stride, cols);
    std::memset(values + t * stride + cols, 0, static_cast<size_t>(stride - cols) * sizeof(uint16_t));
  });
  return {values, stride};
}

inline void bf16_panel_matmul(const MatmulArgs& a, ThreadPool& pool) {
  multiply_in_panels<DotLine>(a, rounded_to_bf16(a, pool), pool);
}
#endif

}  // namespace quire::QUIRE_VARIANT
