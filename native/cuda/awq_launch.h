// The 4-bit matmuls. Layout of their weights: awq_matmul.h.
#pragma once

#include "cuda/device.h"
#include "cuda/stream.h"

namespace quire::cuda {

// At most kMaxAwqRows rows; the weight is packed (awq_matmul.h), its groups.scales are the packed words.
template <typename T>
void awq_matmul(const MatmulArgs& a, Stream& stream);
size_t awq_scratch_bytes(int64_t outputs, int64_t inputs, int num_multiprocessors);

// Writes the weights out as [outputs, inputs] of T, for a dense matmul of many rows.
template <typename T>
void awq_dequantise(T* out, const Tensor& weight, Stream& stream);

// out = x w^T + bias with w dense, by cuBLASLt.
template <typename T>
void dense_matmul(const MatmulArgs& a, Stream& stream);

}  // namespace quire::cuda
