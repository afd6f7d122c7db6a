// residual += x; out = residual / rms(residual) * weight, or without a residual x / rms(x) * weight. One
// block a row. Bound: memory bandwidth: the row is read twice, the second time from cache. The sum of squares
// is added in one order whatever the grid: each thread its elements, then the warp, then the warps.

#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/reduce.h"

namespace quire::cuda {

namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void rms_norm_kernel(T* out, float* residual, const T* x, const float* weight, int size,
                                float eps) {
  const int64_t first = int64_t{blockIdx.x} * size;
  float squares = 0;
  for (int i = threadIdx.x; i < size; i += kThreads) {
    float value = residual != nullptr ? residual[first + i] : 0.0f;
    if (x != nullptr) value += to_float(x[first + i]);
    if (x != nullptr && residual != nullptr) residual[first + i] = value;
    squares += value * value;
  }
  const float sum = block_sum(squares, shared_at<float>(0));
  const float scale = rsqrtf(sum / static_cast<float>(size) + eps);
  for (int i = threadIdx.x; i < size; i += kThreads) {
    const float value = residual != nullptr ? residual[first + i] : to_float(x[first + i]);
    out[first + i] = from_float<T>(value * scale * weight[i]);
  }
}

}  // namespace

template <typename T>
void rms_norm(const RmsNormArgs& a, Executor& stream) {
  launch("rms_norm", rms_norm_kernel<T>, {static_cast<unsigned>(a.num_tokens)}, kThreads, kReduceBytes,
         static_cast<Stream&>(stream), static_cast<T*>(a.out), a.residual, static_cast<const T*>(a.x),
         static_cast<const float*>(a.weight->data), a.size, a.eps);
}

template void rms_norm<Half>(const RmsNormArgs&, Executor&);
template void rms_norm<BFloat>(const RmsNormArgs&, Executor&);

}  // namespace quire::cuda
