// Sums and maxima over a block, in a fixed order: lanes, then warps.
#pragma once

#include "cuda/device.h"

namespace quire::cuda {

// Shared memory that a reduction needs.
constexpr int kReduceBytes = kWarp * static_cast<int>(sizeof(float));

// `combine` folds two values. The result is in every thread; the shared memory is free again.
template <typename Combine>
QUIRE_DEVICE float block_reduce(float value, float identity, Shared<float> shared, Combine combine) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = combine(value, shuffle_xor(value, mask));
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int num_warps = static_cast<int>(blockDim.x) / kWarp;
  if (lane == 0) shared.store(warp, value);
  block_sync();
  float total = lane < num_warps ? shared.load(lane) : identity;
  for (int mask = kWarp / 2; mask > 0; mask /= 2) total = combine(total, shuffle_xor(total, mask));
  block_sync();
  return total;
}

struct Add {
  QUIRE_DEVICE float operator()(float a, float b) const { return a + b; }
};
struct Max {
  QUIRE_DEVICE float operator()(float a, float b) const { return fmaxf(a, b); }
};

QUIRE_DEVICE float block_sum(float value, Shared<float> shared) {
  return block_reduce(value, 0.0f, shared, Add{});
}
QUIRE_DEVICE float block_max(float value, Shared<float> shared) {
  return block_reduce(value, bits_as_float(0xff800000), shared, Max{});
}

}  // namespace quire::cuda
