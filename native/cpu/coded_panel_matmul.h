// out = x W^T + b for bf16 in panels with coded exponents (coded_bf16.h): panel_matmul.h's sums, bit for bit,
// of lines that are expanded on the way.
//
// Bound: one token streams three quarters of the bytes; many, the units of the dot product.
#pragma once

#include "cpu/coded_lines.h"
#include "cpu/panel_block.h"
#include "cpu/pieces.h"
#include "thread_pool.h"

namespace quire::QUIRE_VARIANT {

// Readers of neighbouring panels.
template <int kPanels>
class CodedReaders {
 public:
  // `ahead`: how many blocks in front of itself each asks memory for.
  CodedReaders(const Tensor& weight, int64_t row, int ahead) {
    for (int p = 0; p < kPanels; p++) {
      readers_[p] = CodedReader(coded_panel(weight, row / kPanelRows + p), ahead);
    }
  }
  // The next blocks of each, panel_size elements from panel to panel.
  inline __attribute__((always_inline)) void read(int64_t num_blocks, uint16_t* lines, int64_t panel_size) {
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; p++) readers_[p].read(num_blocks, lines + p * panel_size);
  }

 private:
  CodedReader readers_[kPanels];
};

// A few tokens need a line once.
template <typename Line, int kPanels, int kTokens>
inline void stream_coded_panels(const MatmulArgs& a, const InputRows<typename Line::Input>& x, int64_t row,
                                int64_t token) {
  constexpr int kAhead = 128 / kPanels;
  const int64_t cols = a.weight->cols;
  const typename Line::Input* inputs = x.values + token * x.stride;
  alignas(64) uint16_t lines[kPanels * kCodedElements];
  CodedReaders<kPanels> readers(*a.weight, row, kAhead);
  PanelBlock<Line, kPanels, kTokens> block{};
  int64_t k = 0;
  for (; k + kCodedInputs <= cols; k += kCodedInputs) {
    readers.read(1, lines, kCodedElements);
#pragma GCC unroll 4
    for (int i = 0; i < kCodedInputs; i += Line::kInputs) {
      block.add(lines + i * kPanelRows, kCodedElements, inputs + k + i, x.stride);
    }
  }
  if (k < cols) {
    readers.read(1, lines, kCodedElements);
    block.add_all(lines, kCodedElements, inputs + k, x.stride, cols - k);
  }
  block.store(a, row, token);
}

constexpr int64_t kCodedTokens = 192;  // of a piece

// Many: so many lines at a time that they, and the sums so far, stay in the first-level cache.
template <typename Line, int kPanels>
inline void multiply_coded_panels(const MatmulArgs& a, const InputRows<typename Line::Input>& x, int64_t row,
                                  int64_t first, int64_t last) {
  constexpr int64_t kInputs = 256, kSize = kInputs * kPanelRows;
  constexpr int kVecs = kPanels * kPanelVecs;
  const int64_t cols = a.weight->cols;
  alignas(64) uint16_t lines[kPanels * kSize];
  Vec sums[kCodedTokens * kVecs];
  CodedReaders<kPanels> readers(*a.weight, row, kInputs / kCodedInputs);
  for (int64_t k = 0; k < cols; k += kInputs) {
    const int64_t left = cols - k, count = left < kInputs ? left : kInputs;
    readers.read(coded_blocks(count), lines, kSize);
    for_each_token_block(first, last, [&](auto tokens, int64_t token) {
      using Block = PanelBlock<Line, kPanels, decltype(tokens)::value>;
      Vec* kept = sums + (token - first) * kVecs;
      Block block{};
      if (k > 0) block.take(kept);
      block.add_all(lines, kSize, x.values + token * x.stride + k, x.stride, count);
      if (left > count) {
        block.keep(kept);
      } else {
        block.store(a, row, token);
      }
    });
  }
}

template <typename Line, int kPanels>
inline void multiply_coded_tokens(const MatmulArgs& a, const InputRows<typename Line::Input>& x, int64_t row,
                                  int64_t first, int64_t last) {
  if (last - first > 2 * kBlockTokens) {
    return multiply_coded_panels<Line, kPanels>(a, x, row, first, last);
  }
  for_each_token_block(first, last, [&](auto tokens, int64_t token) {
    stream_coded_panels<Line, kPanels, decltype(tokens)::value>(a, x, row, token);
  });
}

template <typename Line>
inline void multiply_in_coded_panels(const MatmulArgs& a, const InputRows<typename Line::Input>& x,
                                     ThreadPool& pool) {
  // A lone token has one chain for each vector: more of them hide what an addition takes.
  constexpr int kLonePanels = 4 * kBlockPanels;
  const int64_t rows = kPanelRows * (a.num_tokens == 1 ? kLonePanels : kBlockPanels);
  const PieceSize size = {rows, kCodedTokens};
  for_each_piece(a, pool, size, [&](int64_t row, int64_t last_row, int64_t first, int64_t last) {
    if (last - first == 1 && last_row - row == kPanelRows * kLonePanels) {
      stream_coded_panels<Line, kLonePanels, 1>(a, x, row, first);
    } else {
      constexpr int64_t kRows = kPanelRows * kBlockPanels;
      for (int64_t r = row; r < last_row; r += kRows) {
        if (last_row - r > kPanelRows * (kBlockPanels - 1)) {
          multiply_coded_tokens<Line, kBlockPanels>(a, x, r, first, last);
        } else {
          multiply_coded_tokens<Line, 1>(a, x, r, first, last);
        }
      }
    }
    add_bias(a, row, last_row, first, last);
  });
}

}  // namespace quire::QUIRE_VARIANT
