// Matrices of plain numbers rounded to 8 bits while a model opens, as GGUF's Q8_0 does: groups of 32 inputs,
// scale = max|w| / 127, zero in the middle.
#pragma once

#include <cstdint>

#include "tensor.h"
#include "thread_pool.h"

namespace quire {

constexpr int kInt8Group = 32;

inline bool can_round_to_int8(const Tensor& matrix) {
  return !is_integer(matrix.dtype) && matrix.rows > 1 && matrix.cols % kInt8Group == 0;
}

// Rows [first_row, first_row + out.rows) of the matrix into the memory that `out`, a kW8 matrix, points to.
void round_to_int8(const Tensor& matrix, int64_t first_row, const Tensor& out, ThreadPool& pool);

}  // namespace quire
