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

// out = x w^T + bias with w dense, by cuBLASLt. Whether the bias is added: where cuBLASLt cannot, it is left
// out.
template <typename T>
bool dense_matmul(const MatmulArgs& a, Stream& stream);

// A vector of the model is there twice: in f32, and from this byte on in the activations' form, in which
// cuBLASLt adds a bias.
constexpr size_t narrow_copy(int64_t size) {
  return (static_cast<size_t>(size) * sizeof(float) + 15) / 16 * 16;
}

}  // namespace quire::cuda
