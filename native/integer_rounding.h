// Matrices of plain numbers rounded to 8 or 6 bits while a model opens: groups of 128 inputs, or of 64 or 32
// where those do not divide the row; scale = max|w| / 127, or / 31, zero in the middle.
#pragma once

#include <cstdint>

#include "tensor.h"
#include "thread_pool.h"

namespace quire {

// 0 when no group divides a row of so many inputs.
constexpr int rounding_group(int64_t cols) {
  return cols % 128 == 0 ? 128 : cols % 64 == 0 ? 64 : cols % 32 == 0 ? 32 : 0;
}

inline bool can_be_rounded(const Tensor& matrix) {
  return !is_integer(matrix.dtype) && matrix.rows > 1 && rounding_group(matrix.cols) > 0;
}

// Rows [first_row, first_row + out.rows) of the matrix into the memory that `out`, a kW8 matrix with groups
// of rounding_group, points to.
void round_to_integers(const Tensor& matrix, int bits, int64_t first_row, const Tensor& out,
                       ThreadPool& pool);

}  // namespace quire
