// Matrices in e4m3 with a scale for the whole or for each row, as "fp8" checkpoints hold them, and what
// becomes of a form that a backend has no kernels for.

#include <cmath>
#include <stdexcept>

#include "float16.h"
#include "philox.h"
#include "weights.h"

namespace quire {

Tensor Weights::read_f8(const TensorSource& source) {
  const int64_t rows = source.rows, cols = source.cols;
  Tensor matrix = {nullptr, DType::kF8, rows, cols};
  auto* row_scales = static_cast<float*>(allocate(rows * static_cast<int64_t>(sizeof(float))));
  matrix.row_scales = row_scales;
  if (source.file < 0) {
    // Seeded random bytes but NaN: their root mean square is 100.
    constexpr float kScale = 0.02f / 100;
    auto* data = static_cast<uint8_t*>(allocate(rows * cols));
    pool_.parallel_for(rows, [&](int64_t row, int) {
      row_scales[row] = f16_to_float(float_to_f16(kScale));
      for (int64_t i = row * cols; i < (row + 1) * cols; i++) {
        const uint32_t word = philox4x32(0, 0, static_cast<uint64_t>(i), 8).words[0];
        data[i] = static_cast<uint8_t>((word & 0x7f) == 0x7f ? word & 0x80 : word & 0xff);
      }
    });
    matrix.data = data;
    return matrix;
  }
  const int64_t count = source.has_row_scales ? rows : 1;
  const int64_t scale_bytes = count * static_cast<int64_t>(dtype_size(source.scale_dtype));
  const char* scales = part(source, source.scales, scale_bytes);
  matrix.data = part(source, {source.file, source.offset, source.bytes}, rows * cols);
  for (int64_t row = 0; row < rows; row++) {
    row_scales[row] = element(scales, source.scale_dtype, source.has_row_scales ? row : 0);
    if (!std::isfinite(row_scales[row])) {
      throw std::runtime_error("tensor " + source.slot + " of layer " + std::to_string(source.layer) +
                               " has a scale that is no number");
    }
  }
  return matrix;
}

Tensor Weights::widen(const Tensor& matrix, const ModelOptions& options) {
  const DType dtype = options.keep_dtype ? DType::kBF16 : options.dtype;
  void* data = allocate(matrix.rows * matrix.cols * static_cast<int64_t>(dtype_size(dtype)));
  pool_.parallel_for(matrix.rows, [&](int64_t row, int) {
    for (int64_t col = 0; col < matrix.cols; col++) {
      set_element(data, dtype, row * matrix.cols + col, matrix_element(matrix, row, col));
    }
  });
  return {data, dtype, matrix.rows, matrix.cols};
}

}  // namespace quire
