#include "weight_panels.h"

#include <cstring>

namespace quire {

namespace {

int64_t num_panels(const Tensor& matrix) { return (matrix.rows + kPanelRows - 1) / kPanelRows; }

// Word is what a row has in one line; `rest` inputs behind the last whole one have no words of their own.
template <typename Word>
void pack_words(void* memory, const char* from, size_t row_bytes, int num_rows) {
  auto* to = static_cast<Word*>(memory);
  const size_t whole = row_bytes / sizeof(Word), rest = row_bytes % sizeof(Word);
  for (int row = 0; row < num_rows; row++) {
    const char* words = from + row * row_bytes;
    for (size_t i = 0; i < whole; i++)
      std::memcpy(to + i * kPanelRows + row, words + i * sizeof(Word), sizeof(Word));
    if (rest > 0) std::memcpy(to + whole * kPanelRows + row, words + whole * sizeof(Word), rest);
  }
}

}  // namespace

size_t panel_bytes(const Tensor& matrix) {
  return static_cast<size_t>(num_panels(matrix) * kPanelRows * panel_cols(matrix)) * dtype_size(matrix.dtype);
}

void pack_panel(const Tensor& matrix, int64_t panel, void* to) {
  const size_t row_bytes = static_cast<size_t>(matrix.cols) * dtype_size(matrix.dtype);
  const int64_t row = panel * kPanelRows;
  const int num_rows = static_cast<int>(matrix.rows - row < kPanelRows ? matrix.rows - row : kPanelRows);
  const char* from = static_cast<const char*>(matrix.data) + static_cast<size_t>(row) * row_bytes;
  if (matrix.dtype == DType::kF16) {
    pack_words<uint16_t>(to, from, row_bytes, num_rows);
  } else {
    pack_words<uint32_t>(to, from, row_bytes, num_rows);
  }
}

void pack_panels(const Tensor& matrix, void* memory, ThreadPool& pool) {
  const size_t bytes = static_cast<size_t>(kPanelRows * panel_cols(matrix)) * dtype_size(matrix.dtype);
  pool.parallel_for(num_panels(matrix), [&](int64_t panel, int) {
    char* to = static_cast<char*>(memory) + static_cast<size_t>(panel) * bytes;
    const bool is_whole = (panel + 1) * kPanelRows <= matrix.rows && panel_cols(matrix) == matrix.cols;
    if (!is_whole) std::memset(to, 0, bytes);
    pack_panel(matrix, panel, to);
  });
}

Tensor panels_at(const Tensor& matrix, const void* memory) {
  Tensor panels = matrix;
  panels.data = memory;
  panels.in_panels = true;
  return panels;
}

}  // namespace quire
