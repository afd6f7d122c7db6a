// The running state of a softmax-weighted sum over keys that come tile by tile (FlashAttention-2, arXiv
// 2307.08691): m the largest score so far, l the sum of exp(score - m), acc the sum of exp(score - m) *
// value. [size] values.
#pragma once

#include "cpu/simd.h"

namespace quire::QUIRE_VARIANT {

constexpr float kNegativeInfinity = -__builtin_inff();

// A vector of it, from any place, has infinities of one sign, then of the other.
struct Edge {
  alignas(64) float lanes[3 * kWidth];
  constexpr Edge() : lanes() {
    for (int i = 0; i < 3 * kWidth; i++) lanes[i] = i / kWidth == 1 ? -kNegativeInfinity : kNegativeInfinity;
  }
};

// -infinity in all lanes but [first, last).
inline Vec keep_lanes(Vec x, int first, int last) {
  static constexpr Edge kEdge;
  if (first > 0) x = min(x, load<F32>(kEdge.lanes + kWidth - first));
  if (last < kWidth) x = min(x, load<F32>(kEdge.lanes + 2 * kWidth - last));
  return x;
}

// e^x of one number, with the bits that a lane of exp gives.
inline float exp_of(float x) {
  float lanes[kWidth];
  store(lanes, exp(broadcast(x)));
  return lanes[0];
}

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

  // Scores [first, last) become the weights exp(score - m) and part of m and l. They lie in whole vectors,
  // whose other lanes become 0. Returns what acc is to be multiplied by before their values are added.
  float add_scores(float* scores, int first, int last) {
    const int start = first / kWidth * kWidth;
    Vec best = broadcast(kNegativeInfinity);
    for (int i = start; i < last; i += kWidth) {
      Vec score = load<F32>(scores + i);
      if (i < first || i + kWidth > last) {
        score = keep_lanes(score, i < first ? first - i : 0, last - i < kWidth ? last - i : kWidth);
        store(scores + i, score);
      }
      best = max(best, score);
    }
    float factor = 1;
    if (const float tile_max = max_lane(best); tile_max > m) {
      factor = m == kNegativeInfinity ? 0.0f : exp_of(m - tile_max);
      m = tile_max;
    }
    const Vec most = broadcast(m);
    Vec total = zero();
    for (int i = start; i < last; i += kWidth) {
      const Vec weight = exp(sub(load<F32>(scores + i), most));
      store(scores + i, weight);
      total = add(total, weight);
    }
    l = l * factor + sum(total);
    return factor;
  }

  // Adds what was summed over later keys.
  void merge(const SoftmaxState& later) {
    if (later.m == kNegativeInfinity) return;
    const float most = later.m > m ? later.m : m;
    const float own = m == kNegativeInfinity ? 0.0f : exp_of(m - most);
    const float other = exp_of(later.m - most);
    m = most;
    l = l * own + later.l * other;
    const Vec own_factor = broadcast(own), other_factor = broadcast(other);
    for_each_vector(size, [&](int i, int n) {
      const Vec kept = mul(load_up_to<F32>(acc + i, n), own_factor);
      store_up_to(acc + i, fma(load_up_to<F32>(later.acc + i, n), other_factor, kept), n);
    });
  }

  // out = acc / l. A state that saw no key has l == 0, which causal attention never leaves.
  void normalise(float* out) const {
    const Vec factor = broadcast(1.0f / l);
    for_each_vector(size,
                    [&](int i, int n) { store_up_to(out + i, mul(load_up_to<F32>(acc + i, n), factor), n); });
  }
};

}  // namespace quire::QUIRE_VARIANT
