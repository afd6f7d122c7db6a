// What cuBLASLt does on a GPU, plainly.
#include "cuda/awq_launch.h"
#include "cuda/f8_matmul.h"
#include "float16.h"

namespace quire::cuda {

namespace {

// A bias comes in the activations' form.
void multiply(const MatmulArgs& a, const Tensor& w, const void* bias, DType dtype) {
  for (int64_t t = 0; t < a.num_tokens; t++) {
    for (int64_t n = 0; n < w.rows; n++) {
      float sum = 0;
      for (int64_t k = 0; k < w.cols; k++) {
        sum += element(a.x, dtype, t * a.x_stride + k) * element(w.data, dtype, n * w.cols + k);
      }
      if (bias != nullptr) sum += element(bias, dtype, n);
      if (a.is_f32_out) {
        f32(a.out)[t * a.out_stride + n] = sum;
      } else {
        set_element(a.out, dtype, t * a.out_stride + n, sum);
      }
    }
  }
}

}  // namespace

template <typename T>
bool dense_matmul(const MatmulArgs& a, Stream& stream) {
  const bool adds_bias = a.bias != nullptr && !a.is_f32_out;
  const void* bias =
      adds_bias ? static_cast<const char*>(a.bias->data) + narrow_copy(a.weight->rows) : nullptr;
  stream.enqueue([a, bias, weight = *a.weight] { multiply(a, weight, bias, DTypeOf<T>::value); });
  return adds_bias || a.bias == nullptr;
}

void dense_f8_matmul(const MatmulArgs& a, Stream& stream) {
  stream.enqueue([a, weight = *a.weight] { multiply(a, weight, nullptr, DType::kF8); });
}

template bool dense_matmul<Half>(const MatmulArgs&, Stream&);
template bool dense_matmul<BFloat>(const MatmulArgs&, Stream&);

}  // namespace quire::cuda
