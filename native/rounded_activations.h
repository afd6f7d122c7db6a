// Activations rounded for a matmul, by it or by the op that makes them: the CPU's kernels, its backend and
// the model agree on it here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quire {

// Activations of a group that are all smaller become 0: the inverse of their scale must be a number.
constexpr float kSmallestMagnitude = 1e-30f;

// Tile registers take 16 rows at a time: memory is there for whole tiles, whatever it holds.
inline int64_t whole_tiles(int64_t rows) { return (rows + 15) / 16 * 16; }

// Rows in 8 bits, in groups: row t has q[t * cols + k], of which each counts scales[t * groups + k / group],
// and the negated sums of each group's q. A group's scale is max|x| / 127.
struct RoundedRows {
  int8_t* q;
  float* scales;
  int32_t* negated_sums;
  int64_t cols;
  int group;

  int64_t num_groups() const { return cols / group; }
};

// What so many of them take at most.
inline size_t int8_bytes(int64_t rows, int64_t cols) {
  constexpr int64_t kSmallestGroup = 32;
  return static_cast<size_t>(whole_tiles(rows) * (cols + cols / kSmallestGroup * 8));
}

// In int8_bytes(rows, cols) of memory.
inline RoundedRows rounded_rows_at(void* memory, int64_t rows, int64_t cols, int group) {
  RoundedRows made = {nullptr, static_cast<float*>(memory), nullptr, cols, group};
  made.negated_sums = reinterpret_cast<int32_t*>(made.scales + rows * made.num_groups());
  made.q = reinterpret_cast<int8_t*>(made.negated_sums + rows * made.num_groups());
  return made;
}

// Numbers from one row in bf16 to the next: whole vectors, and one more, so that rows do not all fall into
// the same set of the cache.
inline int64_t bf16_stride(int64_t cols) {
  constexpr int64_t kVector = 32;
  return (cols + 2 * kVector - 1) / kVector * kVector;
}

// So many rows in bf16 (cpu/panel_matmul.h).
inline size_t bf16_bytes(int64_t rows, int64_t cols) {
  return static_cast<size_t>(whole_tiles(rows) * bf16_stride(cols) * 2);
}

}  // namespace quire
