// out = x W^T + b for plain weights in panels (weight_panels.h).
//
// Bound: one token streams the weights once; many, the FMA units, or those of the dot product. A block of
// kPanels panels by kTokens tokens keeps a sum for each output in registers. Each is one chain over the
// inputs in order: blocks of any shape give bitwise the same number.
#pragma once

#include "cpu/pieces.h"
#include "cpu/simd.h"
#include "cpu/tile_product.h"
#include "ops.h"
#include "rounded_activations.h"
#include "thread_pool.h"
#include "weight_panels.h"

namespace quire::QUIRE_VARIANT {

constexpr int kPanelVecs = kPanelRows / kWidth;
// Of a block of registers.
constexpr int kBlockPanels = kWidth == 16 ? 2 : 1;
constexpr int kBlockTokens = kWidth == 16 ? 12 : 6;

// kWidth outputs of one line of a panel, as floats.
template <typename T>
struct PanelLine {
  using Weight = typename T::Storage;
  using Input = float;
  static constexpr int kInputs = 1;
  Vec weights;

  void read(const Weight* line) { weights = load<T>(line); }
  Vec add_to(Vec sum, const float* x) const { return fma(weights, broadcast(x[0]), sum); }
};

template <>
struct PanelLine<BF16> {
  using Weight = uint16_t;
  using Input = float;
  static constexpr int kInputs = 2;
  Vec first, second;

  void read(const Weight* line) { load_pairs(line, first, second); }
  Vec add_to(Vec sum, const float* x) const {
    return fma(second, broadcast(x[1]), fma(first, broadcast(x[0]), sum));
  }
};

#if defined(QUIRE_AVX512_BF16)
// As they are, for activations in bf16 too: a lane adds two products to its sum.
struct DotLine {
  using Weight = uint16_t;
  using Input = uint16_t;
  static constexpr int kInputs = 2;
  __m512i pairs;

  void read(const Weight* line) { pairs = _mm512_loadu_si512(line); }
  Vec add_to(Vec sum, const uint16_t* x) const {
    uint32_t pair;
    std::memcpy(&pair, x, sizeof pair);
    return _mm512_dpbf16_ps(sum, (__m512bh)pairs, (__m512bh)_mm512_set1_epi32(static_cast<int>(pair)));
  }
};
#endif

// Activations, token by token.
template <typename Input>
struct InputRows {
  const Input* values;
  int64_t stride;
};

template <typename Line, int kPanels, int kTokens>
struct PanelBlock {
  static constexpr int kVecs = kPanels * kPanelVecs;
  Vec sums[kVecs][kTokens];

  // One line of each panel; `line` is the first one's, x the inputs of the first token that go with it.
  inline __attribute__((always_inline)) void add(const typename Line::Weight* line, int64_t panel_size,
                                                 const typename Line::Input* x, int64_t stride) {
    Line weights[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; v++) {
      weights[v].read(line + v / kPanelVecs * panel_size + v % kPanelVecs * kWidth * Line::kInputs);
    }
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; t++) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; v++) sums[v][t] = weights[v].add_to(sums[v][t], x + t * stride);
    }
  }
};

// Outputs of kPanels panels, from row on, for kTokens tokens.
template <typename Line, int kPanels, int kTokens>
inline void multiply_block(const MatmulArgs& a, const InputRows<typename Line::Input>& x, int64_t row,
                           int64_t token) {
  using Input = typename Line::Input;
  const int64_t cols = a.weight->cols, panel_size = panel_cols(*a.weight) * kPanelRows;
  const auto* lines =
      static_cast<const typename Line::Weight*>(a.weight->data) + row / kPanelRows * panel_size;
  const Input* inputs = x.values + token * x.stride;
  PanelBlock<Line, kPanels, kTokens> block{};
  int64_t k = 0;
  for (; k + Line::kInputs <= cols; k += Line::kInputs) {
    block.add(lines + k * kPanelRows, panel_size, inputs + k, x.stride);
  }
  if (k < cols) {
    Input last[kTokens * Line::kInputs] = {};
    for (int t = 0; t < kTokens; t++) last[t * Line::kInputs] = inputs[t * x.stride + k];
    block.add(lines + k * kPanelRows, panel_size, last, Line::kInputs);
  }
#pragma GCC unroll 12
  for (int t = 0; t < kTokens; t++) {
    float* out = f32(a.out) + (token + t) * a.out_stride;
#pragma GCC unroll 4
    for (int v = 0; v < PanelBlock<Line, kPanels, kTokens>::kVecs; v++) {
      const int64_t first = row + v * kWidth, left = a.weight->rows - first;
      if (left > 0)
        store_up_to(out + first, block.sums[v][t], left < kWidth ? static_cast<int>(left) : kWidth);
    }
  }
}

template <typename Line, int kPanels>
inline void multiply_panels(const MatmulArgs& a, const InputRows<typename Line::Input>& x, int64_t row,
                            int64_t first, int64_t last) {
  int64_t t = first;
  for (; t + kBlockTokens <= last; t += kBlockTokens)
    multiply_block<Line, kPanels, kBlockTokens>(a, x, row, t);
  if (t == last) return;
  with_count<kBlockTokens - 1>(static_cast<int>(last - t), [&](auto tokens) {
    multiply_block<Line, kPanels, decltype(tokens)::value>(a, x, row, t);
  });
}

template <typename Line>
inline void multiply_in_panels(const MatmulArgs& a, const InputRows<typename Line::Input>& x,
                               ThreadPool& pool) {
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
