// Plain weights as the CPU's float kernels read them, packed once when a model opens.
//
// A panel is kPanelRows outputs by all inputs; the last one may be filled up with zeros:
//   f32, f16  [panels][cols][16]
//   bf16      [panels][cols / 2][16][2], what one dot-product instruction (vdpbf16ps) takes is contiguous; an
//   odd
//             last input is followed by 0
// So a step of 16 outputs streams through memory in one direction, and no sum ever runs across lanes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor.h"
#include "thread_pool.h"

namespace quire {

constexpr int kPanelRows = 16;

constexpr int inputs_per_line(DType dtype) { return dtype == DType::kBF16 ? 2 : 1; }

// Of a panel's rows.
inline int64_t panel_cols(const Tensor& matrix) {
  const int per_line = inputs_per_line(matrix.dtype);
  return (matrix.cols + per_line - 1) / per_line * per_line;
}

// Which element of the panels [row, col] is.
inline int64_t panel_place(const Tensor& matrix, int64_t row, int64_t col) {
  const int per_line = inputs_per_line(matrix.dtype);
  const int64_t line = row / kPanelRows * panel_cols(matrix) + col / per_line * per_line;
  return line * kPanelRows + row % kPanelRows * per_line + col % per_line;
}

size_t panel_bytes(const Tensor& matrix);

// One panel, into memory that is zero where rows or the last input's other half are missing.
void pack_panel(const Tensor& matrix, int64_t panel, void* to);

// `matrix` is row-major, in f32, f16 or bf16. `memory` has panel_bytes and is aligned to a cache line.
// Whoever changes what lies where adds one to kTileForm (weight_tiles.h).
void pack_panels(const Tensor& matrix, void* memory, ThreadPool& pool);
// The matrix whose panels are there.
Tensor panels_at(const Tensor& matrix, const void* memory);

}  // namespace quire
