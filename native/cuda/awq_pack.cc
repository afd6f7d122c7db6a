#include "cuda/awq_matmul.h"

#include "float16.h"

namespace quire::cuda {

namespace {

// The integer of output `row` and input `col` in tensor.h's form.
uint32_t nibble(const Tensor& w, int64_t row, int64_t col) {
  const uint8_t byte = static_cast<const uint8_t*>(w.data)[row * w.cols / 2 + col / 32 * 16 + col % 16];
  return col % 32 < 16 ? byte & 15 : byte >> 4;
}

// The eight integers of lane `lane` in the tile that begins at (row, col).
uint32_t lane_word(const Tensor& w, int64_t row, int64_t col, int lane) {
  uint32_t word = 0;
  for (int pair = 0; pair < 4; pair++) {
    const int64_t r = row + lane / 4 + 8 * (pair % 2);
    const int64_t c = col + 2 * (lane % 4) + 8 * (pair / 2);
    word |= nibble(w, r, c) << (4 * pair) | nibble(w, r, c + 1) << (4 * (pair + 4));
  }
  return word;
}

}  // namespace

PackedW4 pack_w4(const Tensor& w) {
  PackedW4 packed;
  packed.data.resize(static_cast<size_t>(w.rows * w.cols / 8));
  size_t at = 0;
  for (int64_t row = 0; row < w.rows; row += 16) {
    for (int64_t col = 0; col < w.cols; col += 64) {
      for (int lane = 0; lane < 32; lane++) {
        for (int tile = 0; tile < 4; tile++) packed.data[at++] = lane_word(w, row, col + 16 * tile, lane);
      }
    }
  }
  const int64_t groups = w.cols / w.groups.group;
  packed.scales.resize(static_cast<size_t>(groups * w.rows));
  for (int64_t group = 0; group < groups; group++) {
    for (int64_t row = 0; row < w.rows; row++) {
      const uint32_t scale = float_to_f16(w.groups.scales[row * groups + group]);
      packed.scales[group * w.rows + row] = scale | uint32_t{w.groups.zeros[row * groups + group]} << 16;
    }
  }
  return packed;
}

}  // namespace quire::cuda
