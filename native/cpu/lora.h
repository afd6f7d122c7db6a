// Low-rank updates of adapters (S-LoRA, arXiv 2311.03285), a row at a time: rows of different adapters share
// a call.
//
// Bound: memory, the adapter's A and B are read once a row. A row's arithmetic is its own, in one order:
// first all of A x, then every output as one chain over the rank.
#pragma once

#include "cpu/simd.h"
#include "ops.h"
#include "thread_pool.h"

namespace quire::QUIRE_VARIANT {

// inner[r] = a[r, :] . x for kRows rows from `first`.
template <int kRows>
inline void lora_shrink(float* inner, const LoraMatrix& m, const float* x, int64_t num_inputs, int first) {
  Vec acc[kRows];
  for (int r = 0; r < kRows; r++) acc[r] = zero();
  const float* a = m.a + first * num_inputs;
  for_each_vector(static_cast<int>(num_inputs), [&](int k, int n) {
    const Vec inputs = load_up_to<F32>(x + k, n);
    for (int r = 0; r < kRows; r++) {
      acc[r] = fma(load_up_to<F32>(a + r * num_inputs + k, n), inputs, acc[r]);
    }
  });
  for (int r = 0; r < kRows; r++) inner[first + r] = sum(acc[r]);
}

inline void lora_row(float* out, const float* x, const LoraMatrix& m, const LoraMatmulArgs& args) {
  float inner[kMaxLoraRank];
  int r = 0;
  for (; r + 4 <= m.rank; r += 4) lora_shrink<4>(inner, m, x, args.num_inputs, r);
  for (; r < m.rank; r++) lora_shrink<1>(inner, m, x, args.num_inputs, r);
  for_each_vector(static_cast<int>(args.num_outputs), [&](int i, int n) {
    Vec acc = load_up_to<F32>(out + i, n);
    for (int j = 0; j < m.rank; j++) {
      acc = fma(broadcast(inner[j]), load_up_to<F32>(m.b + j * args.num_outputs + i, n), acc);
    }
    store_up_to(out + i, acc, n);
  });
}

inline void lora_matmul(const LoraMatmulArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.num_tokens, [&](int64_t t, int) {
    if (a.token_slots[t] < 0) return;
    const LoraMatrix& m = a.matrices[a.token_slots[t]];
    if (m.a != nullptr) lora_row(f32(a.out) + t * a.out_stride, f32(a.x) + t * a.x_stride, m, a);
  });
}

}  // namespace quire::QUIRE_VARIANT
