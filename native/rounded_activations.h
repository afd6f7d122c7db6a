// What activations take when a matmul rounds them on their way in: the CPU's kernels and its backend agree on
// it here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quire {

// Activations of a group that are all smaller become 0: the inverse of their scale must be a number.
constexpr float kSmallestMagnitude = 1e-30f;

// Tile registers take 16 rows at a time: memory is there for whole tiles, whatever it holds.
inline int64_t whole_tiles(int64_t rows) { return (rows + 15) / 16 * 16; }

// So many rows in 8 bits, with a scale and a sum for each group (cpu/int8_matmul.h).
inline size_t int8_bytes(int64_t rows, int64_t cols) {
  constexpr int64_t kSmallestGroup = 32;
  return static_cast<size_t>(whole_tiles(rows) * (cols + cols / kSmallestGroup * 8));
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
