// out = x w^T + bias with weights in e4m3 and a scale for each output: rows of x are rounded to e4m3 with a
// scale of their own, cuBLASLt multiplies, and the sums are scaled in f32. The scales stay out of cuBLASLt,
// which on compute capability 8.9 knows only one for a whole matrix; so its sums are f32, and no 16-bit
// rounding comes before the scales. Bound: the weights' bytes with few rows, the tensor cores with many.

#include "cuda/f8_matmul.h"

#include "cuda/float8.h"
#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/reduce.h"

namespace quire::cuda {

namespace {

constexpr int kThreads = 256;
constexpr float kLargest = 448;

// The scratch: rounded rows, their scales, the sums. kMaxF8Rows of each.
struct Scratch {
  F8* x;
  float* scales;
  float* sums;

  Scratch(void* memory, int64_t inputs) {
    char* at = static_cast<char*>(memory);
    x = reinterpret_cast<F8*>(at);
    scales = reinterpret_cast<float*>(at + kMaxF8Rows * inputs);
    sums = scales + kMaxF8Rows;
  }
};

template <typename T>
__global__ void round_rows_kernel(F8* out, float* scales, const T* x, int64_t x_stride, int size) {
  const int64_t row = blockIdx.x;
  float largest = 0;
  for (int i = threadIdx.x; i < size; i += kThreads) {
    largest = fmaxf(largest, fabsf(to_float(x[row * x_stride + i])));
  }
  largest = block_max(largest, shared_at<float>(0));
  const float inverse = largest > 0 ? kLargest / largest : 1.0f;
  for (int i = threadIdx.x; i < size; i += kThreads) {
    out[row * size + i] = from_float<F8>(to_float(x[row * x_stride + i]) * inverse);
  }
  if (threadIdx.x == 0) scales[row] = largest > 0 ? largest / kLargest : 1.0f;
}

template <typename Out>
QUIRE_DEVICE Out rounded(float value) {
  return from_float<Out>(value);
}
template <>
QUIRE_DEVICE float rounded<float>(float value) {
  return value;
}

template <typename Out>
__global__ void scale_sums_kernel(Out* out, int64_t out_stride, const float* sums, const float* scales,
                                  const float* row_scales, const float* bias, int size) {
  const int n = blockIdx.x * kThreads + threadIdx.x;
  const int64_t row = blockIdx.y;
  if (n >= size) return;
  const float sum = sums[row * size + n] * scales[row] * row_scales[n];
  out[row * out_stride + n] = rounded<Out>(bias != nullptr ? sum + bias[n] : sum);
}

template <typename Out>
void scale_sums(const MatmulArgs& a, int first, int rows, const Scratch& scratch, Stream& stream) {
  const int size = static_cast<int>(a.weight->rows);
  launch("scale_sums", scale_sums_kernel<Out>,
         {static_cast<unsigned>(div_up(size, kThreads)), static_cast<unsigned>(rows)}, kThreads, 0, stream,
         static_cast<Out*>(a.out) + first * a.out_stride, a.out_stride, scratch.sums, scratch.scales,
         a.weight->row_scales, a.bias == nullptr ? nullptr : static_cast<const float*>(a.bias->data), size);
}

}  // namespace

size_t f8_scratch_bytes(int64_t outputs, int64_t inputs) {
  return kMaxF8Rows * (static_cast<size_t>(inputs) + sizeof(float) * static_cast<size_t>(1 + outputs));
}

// Batch-invariant, cuBLASLt is given the same number of rows every time; the last ones may be anything.
template <typename T>
void f8_matmul(const MatmulArgs& a, Stream& stream) {
  const int inputs = static_cast<int>(a.weight->cols);
  const Scratch scratch(stream.scratch(), inputs);
  const int step = stream.is_batch_invariant ? kInvariantRows : kMaxF8Rows;
  for (int first = 0; first < a.num_tokens; first += step) {
    const int rows = a.num_tokens - first < step ? a.num_tokens - first : step;
    launch("round_rows", round_rows_kernel<T>, {static_cast<unsigned>(rows)}, kThreads, kReduceBytes, stream,
           scratch.x, scratch.scales, static_cast<const T*>(a.x) + first * a.x_stride, a.x_stride, inputs);
    dense_f8_matmul({scratch.sums, scratch.x, a.weight, nullptr, stream.is_batch_invariant ? step : rows,
                     inputs, a.weight->rows, true},
                    stream);
    if (a.is_f32_out) {
      scale_sums<float>(a, first, rows, scratch, stream);
    } else {
      scale_sums<T>(a, first, rows, scratch, stream);
    }
  }
}

template void f8_matmul<Half>(const MatmulArgs&, Stream&);
template void f8_matmul<BFloat>(const MatmulArgs&, Stream&);

}  // namespace quire::cuda
