// Sums over a block, in a fixed order: lanes, then warps.
#pragma once

#include "cuda/device.h"

namespace quire::cuda {

// Shared memory that a reduction needs.
constexpr int kReduceBytes = kWarp * static_cast<int>(sizeof(float));

// The result is in every thread; the shared memory is free again. Numbers of at least 0.
QUIRE_DEVICE float block_max(float value, Shared<float> shared) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int num_warps = static_cast<int>(blockDim.x) / kWarp;
  for (int mask = 16; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
  if (lane == 0) shared.store(static_cast<int>(threadIdx.x) / kWarp, value);
  block_sync();
  float largest = lane < num_warps ? shared.load(lane) : 0.0f;
  for (int mask = 16; mask > 0; mask /= 2) largest = fmaxf(largest, shuffle_xor(largest, mask));
  block_sync();
  return largest;
}

// The same.
QUIRE_DEVICE float block_sum(float value, Shared<float> shared) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int num_warps = static_cast<int>(blockDim.x) / kWarp;
  value = warp_sum(value);
  if (lane == 0) shared.store(static_cast<int>(threadIdx.x) / kWarp, value);
  block_sync();
  const float total = warp_sum(lane < num_warps ? shared.load(lane) : 0.0f);
  block_sync();
  return total;
}

}  // namespace quire::cuda
