// Activations to 8 bits, a row at a time: one function for matmuls, which round what they are given, and for
// the ops that make activations for nothing but integer matmuls, so that both give the same bits.
#pragma once

#include "cpu/int8_dot.h"
#include "cpu/simd.h"
#include "rounded_activations.h"

namespace quire::QUIRE_VARIANT {

// Row t becomes what `values` gives: values(k) is the kWidth numbers from k on, asked for once, in order.
template <typename Values>
inline void round_row(const RoundedRows& rows, int64_t t, const Values& values) {
  int8_t* q = rows.q + t * rows.cols;
  for (int64_t g = 0; g < rows.num_groups(); g++) {
    const int64_t start = g * rows.group;
    float group[kMostInGroup];
    Vec largest = zero();
    for (int k = 0; k < rows.group; k += kWidth) {
      const Vec v = values(start + k);
      store(group + k, v);
      largest = max(largest, max(v, sub(zero(), v)));
    }
    const float magnitude = max_lane(largest);
    const Vec inverse = broadcast(magnitude > kSmallestMagnitude ? 127.0f / magnitude : 0.0f);
    Sums total = no_sums();
    for (int k = 0; k < rows.group; k += kWidth) {
      const Sums rounded = to_ints(mul(load<F32>(group + k), inverse));
      store_int8(q + start + k, rounded);
      total = add(total, rounded);
    }
    rows.scales[t * rows.num_groups() + g] = magnitude / 127.0f;
    rows.negated_sums[t * rows.num_groups() + g] = -sum(total);
  }
}

}  // namespace quire::QUIRE_VARIANT
