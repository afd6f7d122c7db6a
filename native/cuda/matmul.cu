// The matmul op: 4-bit weights with few rows by awq_matmul, with many written out first; everything else
// densely.

#include "cuda/awq_launch.h"
#include "cuda/awq_matmul.h"
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

}  // namespace

template <typename T>
void matmul(const MatmulArgs& a, Executor& executor) {
  Stream& stream = static_cast<Stream&>(executor);
  const Tensor& w = *a.weight;
  if (w.dtype == DType::kW4 && a.num_tokens <= kMaxAwqRows) return awq_matmul<T>(a, stream);
  MatmulArgs dense = a;
  Tensor written_out = {stream.scratch(), DTypeOf<T>::value, w.rows, w.cols};
  if (w.dtype == DType::kW4) {
    awq_dequantise<T>(static_cast<T*>(stream.scratch()), w, stream);
    dense.weight = &written_out;
  }
  dense_matmul<T>(dense, stream);
  if (a.bias == nullptr) return;
  launch("add_bias", add_bias_kernel<T>,
         {static_cast<unsigned>(div_up(static_cast<int>(w.rows), kThreads)),
          static_cast<unsigned>(a.num_tokens)},
         kThreads, 0, stream, static_cast<T*>(a.out), a.out_stride, static_cast<const float*>(a.bias->data),
         static_cast<int>(w.rows));
}

template void matmul<Half>(const MatmulArgs&, Executor&);
template void matmul<BFloat>(const MatmulArgs&, Executor&);

}  // namespace quire::cuda
