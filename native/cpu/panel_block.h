// What the products of panels (weight_panels.h) are made of: a block of outputs by tokens, whose sums are
// kept in registers while lines of the panels pass by.
#pragma once

#include <cstring>
#include <type_traits>

#include "cpu/simd.h"
#include "cpu/tile_product.h"
#include "ops.h"
#include "weight_panels.h"

namespace quire::QUIRE_VARIANT {

constexpr int kPanelVecs = kPanelRows / kWidth;
// Of a block of registers for many tokens.
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
#pragma GCC unroll 8
    for (int v = 0; v < kVecs; v++) {
      weights[v].read(line + v / kPanelVecs * panel_size + v % kPanelVecs * kWidth * Line::kInputs);
    }
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; t++) {
#pragma GCC unroll 8
      for (int v = 0; v < kVecs; v++) sums[v][t] = weights[v].add_to(sums[v][t], x + t * stride);
    }
  }

  // The lines of `cols` inputs.
  inline __attribute__((always_inline)) void add_all(const typename Line::Weight* lines, int64_t panel_size,
                                                     const typename Line::Input* x, int64_t stride,
                                                     int64_t cols) {
    int64_t k = 0;
    for (; k + Line::kInputs <= cols; k += Line::kInputs) {
      add(lines + k * kPanelRows, panel_size, x + k, stride);
    }
    if (k < cols) {
      typename Line::Input last[kTokens * Line::kInputs] = {};
      for (int t = 0; t < kTokens; t++) last[t * Line::kInputs] = x[t * stride + k];
      add(lines + k * kPanelRows, panel_size, last, Line::kInputs);
    }
  }

  // Its sums, to go on with another time.
  inline __attribute__((always_inline)) void keep(Vec* kept) const {
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; t++) {
#pragma GCC unroll 8
      for (int v = 0; v < kVecs; v++) kept[t * kVecs + v] = sums[v][t];
    }
  }
  inline __attribute__((always_inline)) void take(const Vec* kept) {
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; t++) {
#pragma GCC unroll 8
      for (int v = 0; v < kVecs; v++) sums[v][t] = kept[t * kVecs + v];
    }
  }

  // Outputs from row on of the tokens from `token` on.
  inline __attribute__((always_inline)) void store(const MatmulArgs& a, int64_t row, int64_t token) const {
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; t++) {
      float* out = f32(a.out) + (token + t) * a.out_stride;
#pragma GCC unroll 8
      for (int v = 0; v < kVecs; v++) {
        const int64_t first = row + v * kWidth, left = a.weight->rows - first;
        if (left > 0) store_up_to(out + first, sums[v][t], left < kWidth ? static_cast<int>(left) : kWidth);
      }
    }
  }
};

// Calls body(count, token), count a constant, for the blocks of tokens in [first, last).
template <typename Body>
inline void for_each_token_block(int64_t first, int64_t last, const Body& body) {
  int64_t t = first;
  for (; t + kBlockTokens <= last; t += kBlockTokens) {
    body(std::integral_constant<int, kBlockTokens>{}, t);
  }
  if (t == last) return;
  with_count<kBlockTokens - 1>(static_cast<int>(last - t), [&](auto count) { body(count, t); });
}

}  // namespace quire::QUIRE_VARIANT
