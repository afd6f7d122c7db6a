// How rows and the outputs of matmuls are cut into pieces of work, and what every matmul ends with.
#pragma once

#include "cpu/simd.h"
#include "ops.h"
#include "thread_pool.h"

namespace quire::QUIRE_VARIANT {

// Rows a piece takes, so that a piece is worth handing out.
inline int64_t rows_per_piece(int64_t row_size) { return row_size >= 4096 ? 1 : 1 + 4096 / (row_size + 1); }

template <typename Body>
inline void for_each_row(ThreadPool& pool, int64_t num_rows, int64_t row_size, const Body& body) {
  const int64_t per_piece = rows_per_piece(row_size);
  pool.parallel_for((num_rows + per_piece - 1) / per_piece, [&](int64_t piece, int) {
    const int64_t first = piece * per_piece;
    const int64_t last = first + per_piece < num_rows ? first + per_piece : num_rows;
    for (int64_t row = first; row < last; row++) body(row);
  });
}

struct PieceSize {
  int64_t rows;
  int64_t tokens;
};

// So many tokens that their inputs, of element_bytes each, stay in the second-level cache while the piece's
// weights pass by.
inline int64_t tokens_per_piece(const MatmulArgs& a, int64_t element_bytes) {
  constexpr int64_t kInputBytes = 384 * 1024;
  constexpr int64_t kTokens = 6;  // of a register block
  const int64_t fitting = kInputBytes / (a.weight->cols * element_bytes) / kTokens * kTokens;
  return fitting < kTokens ? kTokens : fitting;
}

// Calls body(first_row, last_row, first_token, last_token) for pieces of the output.
template <typename Body>
inline void for_each_piece(const MatmulArgs& a, ThreadPool& pool, PieceSize size, const Body& body) {
  const int64_t row_pieces = (a.weight->rows + size.rows - 1) / size.rows;
  const int64_t token_pieces = (a.num_tokens + size.tokens - 1) / size.tokens;
  pool.parallel_for(row_pieces * token_pieces, [&](int64_t piece, int) {
    const int64_t row = piece % row_pieces * size.rows;
    const int64_t token = piece / row_pieces * size.tokens;
    const int64_t last_row = row + size.rows < a.weight->rows ? row + size.rows : a.weight->rows;
    const int64_t last = token + size.tokens < a.num_tokens ? token + size.tokens : a.num_tokens;
    body(row, last_row, token, last);
  });
}

// out[t, n] += bias[n] in [first_row, last_row) and [first, last).
inline void add_bias(const MatmulArgs& a, int64_t first_row, int64_t last_row, int64_t first, int64_t last) {
  if (a.bias == nullptr) return;
  with_dtype(a.bias->dtype, [&](auto tag) {
    using B = decltype(tag);
    const auto* bias = static_cast<const typename B::Storage*>(a.bias->data);
    for (int64_t t = first; t < last; t++) {
      float* out = f32(a.out) + t * a.out_stride;
      for_each_vector(static_cast<int>(last_row - first_row), [&](int i, int n) {
        const Vec sum = add(load_up_to<F32>(out + first_row + i, n), load_up_to<B>(bias + first_row + i, n));
        store_up_to(out + first_row + i, sum, n);
      });
    }
  });
}

}  // namespace quire::QUIRE_VARIANT
