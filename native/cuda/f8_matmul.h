// Matmul by weights in e4m3, for GPUs that multiply it (compute capability 8.9 and newer).
#pragma once

#include "cuda/device.h"
#include "cuda/stream.h"

namespace quire::cuda {

constexpr int kF8Capability = 89;
// Rows of x that are multiplied at once: what bounds the scratch.
constexpr int kMaxF8Rows = 512;

// What cuBLASLt asks of both sides.
inline bool can_multiply_f8(int64_t outputs, int64_t inputs) { return outputs % 16 == 0 && inputs % 16 == 0; }
size_t f8_scratch_bytes(int64_t outputs, int64_t inputs);

template <typename T>
void f8_matmul(const MatmulArgs& a, Stream& stream);

// out = x w^T with both in e4m3, scales left out and out in f32: cuBLASLt's part.
void dense_f8_matmul(const MatmulArgs& a, Stream& stream);

}  // namespace quire::cuda
