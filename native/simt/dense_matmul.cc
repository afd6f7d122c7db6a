// What cuBLASLt does on a GPU, plainly.
#include "cuda/awq_launch.h"
#include "float16.h"

namespace quire::cuda {

namespace {

template <typename T>
void multiply(const MatmulArgs& a, const Tensor& w) {
  const DType dtype = DTypeOf<T>::value;
  for (int64_t t = 0; t < a.num_tokens; t++) {
    for (int64_t n = 0; n < w.rows; n++) {
      float sum = 0;
      for (int64_t k = 0; k < w.cols; k++) {
        sum += element(a.x, dtype, t * a.x_stride + k) * element(w.data, dtype, n * w.cols + k);
      }
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
void dense_matmul(const MatmulArgs& a, Stream& stream) {
  stream.enqueue([a, weight = *a.weight] { multiply<T>(a, weight); });
}

template void dense_matmul<Half>(const MatmulArgs&, Stream&);
template void dense_matmul<BFloat>(const MatmulArgs&, Stream&);

}  // namespace quire::cuda
