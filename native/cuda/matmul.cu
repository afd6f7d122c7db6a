// The matmul op: 4-bit weights with few rows by awq_matmul, with many written out first; e4m3 by f8_matmul;
// everything else densely.
//
// cuBLASLt picks its algorithm, and with it the order of additions, by the number of rows. Batch-invariant,
// it gets the same number every time: as many rows as a GPU multiplies in the time it takes to read the
// weights. awq_matmul's order does not depend on the rows.

#include "cuda/awq_launch.h"
#include "cuda/awq_matmul.h"
#include "cuda/f8_matmul.h"
#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace quire::cuda {

namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void add_bias_kernel(T* out, int64_t out_stride, const float* bias, int size) {
  const int n = blockIdx.x * kThreads + threadIdx.x;
  if (n >= size) return;
  T& value = out[blockIdx.y * out_stride + n];
  value = from_float<T>(to_float(value) + bias[n]);
}

template <typename T>
void add_bias(const MatmulArgs& a, Stream& stream) {
  if (a.bias == nullptr) return;
  const int size = static_cast<int>(a.weight->rows);
  launch("add_bias", add_bias_kernel<T>,
         {static_cast<unsigned>(div_up(size, kThreads)), static_cast<unsigned>(a.num_tokens)}, kThreads, 0,
         stream, static_cast<T*>(a.out), a.out_stride, static_cast<const float*>(a.bias->data), size);
}

template <typename T>
void multiply_densely(const MatmulArgs& a, Stream& stream) {
  if (!dense_matmul<T>(a, stream)) add_bias<T>(a, stream);
}

template <typename T>
MatmulArgs from_row(const MatmulArgs& a, int first, int rows) {
  MatmulArgs part = a;
  const int64_t out_size = a.is_f32_out ? sizeof(float) : sizeof(T);
  part.out = static_cast<char*>(a.out) + first * a.out_stride * out_size;
  part.x = static_cast<const T*>(a.x) + first * a.x_stride;
  part.num_tokens = rows;
  return part;
}

template <typename T>
void matmul_invariant(const MatmulArgs& a, Stream& stream) {
  const bool is_w4 = a.weight->dtype == DType::kW4;
  const int step = is_w4 ? kMaxAwqRows : kInvariantRows;
  for (int first = 0; first < a.num_tokens; first += step) {
    const int left = a.num_tokens - first;
    if (is_w4) {
      awq_matmul<T>(from_row<T>(a, first, left < step ? left : step), stream);
    } else {
      multiply_densely<T>(from_row<T>(a, first, step), stream);
    }
  }
}

}  // namespace

template <typename T>
void matmul(const MatmulArgs& a, Executor& executor) {
  Stream& stream = static_cast<Stream&>(executor);
  const Tensor& w = *a.weight;
  if (w.dtype == DType::kF8) return f8_matmul<T>(a, stream);
  if (stream.is_batch_invariant) return matmul_invariant<T>(a, stream);
  if (w.dtype == DType::kW4 && a.num_tokens <= kMaxAwqRows) return awq_matmul<T>(a, stream);
  MatmulArgs dense = a;
  Tensor written_out = {stream.scratch(), DTypeOf<T>::value, w.rows, w.cols};
  if (w.dtype == DType::kW4) {
    awq_dequantise<T>(static_cast<T*>(stream.scratch()), w, stream);
    dense.weight = &written_out;
  }
  multiply_densely<T>(dense, stream);
}

template void matmul<Half>(const MatmulArgs&, Executor&);
template void matmul<BFloat>(const MatmulArgs&, Executor&);

}  // namespace quire::cuda
