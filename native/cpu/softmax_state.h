// The running state of a softmax-weighted sum over keys that come tile by tile (FlashAttention-2, arXiv
// 2307.08691): m the largest score so far, l the sum of exp(score - m), acc the sum of exp(score - m) *
// value. [size] values.
#pragma once

#include "cpu/simd.h"

namespace quire::QUIRE_VARIANT {

constexpr float kNegativeInfinity = -__builtin_inff();

struct SoftmaxState {
  float m;
  float l;
  float* acc;
  int size;

  void init() {
    m = kNegativeInfinity;
    l = 0;
    for_each_vector(size, [&](int i, int n) { store_up_to(acc + i, zero(), n); });
  }

  // Makes `tile_max` part of the maximum; what was summed so far shrinks accordingly.
  void raise_max(float tile_max) {
    if (tile_max <= m) return;
    const float shrink = m == kNegativeInfinity ? 0.0f : std::exp(m - tile_max);
    m = tile_max;
    l *= shrink;
    const Vec factor = broadcast(shrink);
    for_each_vector(size,
                    [&](int i, int n) { store_up_to(acc + i, mul(load_up_to<F32>(acc + i, n), factor), n); });
  }

  // out = acc / l. A state that saw no key has l == 0, which causal attention never leaves.
  void normalise(float* out) const {
    const Vec factor = broadcast(1.0f / l);
    for_each_vector(size,
                    [&](int i, int n) { store_up_to(out + i, mul(load_up_to<F32>(acc + i, n), factor), n); });
  }
};

}  // namespace quire::QUIRE_VARIANT
