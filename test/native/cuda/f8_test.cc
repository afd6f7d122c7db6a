#include <cmath>

#include "cuda/f8_matmul.h"
#include "cuda/float8.h"
#include "cuda/kernels.h"
#include "cuda_cases.h"
#include "device_buffer.h"
#include "thread_pool.h"

namespace quire::test {

namespace {

struct Case {
  int rows, outputs, inputs;
  bool has_bias, is_f32_out;
};

template <typename T>
void check_case(Run& run, cuda::Stream& stream, const Case& c) {
  const int64_t x_stride = c.inputs + 8, out_stride = c.outputs + 3;
  const std::vector<T> x = rounded<T>(run.values(c.rows * x_stride));
  const std::vector<cuda::F8> w = rounded<cuda::F8>(run.values(int64_t{c.outputs} * c.inputs));
  std::vector<float> scales = run.values(c.outputs);
  const std::vector<float> biases = run.values(c.outputs);
  Tensor weight = {w.data(), DType::kF8, c.outputs, c.inputs};
  weight.row_scales = scales.data();
  Tensor bias = {biases.data(), DType::kF32, 1, c.outputs};
  const std::vector<float> wide_x = widened(x);
  std::vector<float> expected(c.rows * out_stride);
  ThreadPool pool(1);
  reference_ops().matmul(
      {expected.data(), wide_x.data(), &weight, c.has_bias ? &bias : nullptr, c.rows, x_stride, out_stride},
      pool);

  const int rows = stream.is_batch_invariant ? 2 * cuda::kInvariantRows : c.rows;
  const DeviceBuffer<cuda::F8> d_w(stream, w);
  const DeviceBuffer<float> d_scales(stream, scales), d_bias(stream, biases), wide(stream, rows * out_stride);
  const DeviceBuffer<T> d_x(stream, x), narrow(stream, rows * out_stride);
  weight.data = d_w.get();
  weight.row_scales = d_scales.get();
  bias.data = d_bias.get();
  stream.reserve_scratch(cuda::f8_scratch_bytes(c.outputs, c.inputs));
  void* const out = c.is_f32_out ? static_cast<void*>(wide.get()) : narrow.get();
  cuda::matmul<T>(
      {out, d_x.get(), &weight, c.has_bias ? &bias : nullptr, c.rows, x_stride, out_stride, c.is_f32_out},
      stream);
  const std::vector<float> found = c.is_f32_out ? wide.read() : widened(narrow.read());
  // The same rounded numbers are multiplied: f32 sums of as many products, and the result's own rounding.
  const double sums = 1e-6 * c.inputs;
  for (int t = 0; t < c.rows; t++) {
    for (int n = 0; n < c.outputs; n++) {
      const float wanted = expected[t * out_stride + n];
      const double rounds = c.is_f32_out ? 0 : rounding<T> * std::fabs(wanted);
      run.near(found[t * out_stride + n], wanted, sums + rounds, "f8_matmul");
    }
  }
}

}  // namespace

void test_f8(Run& run, cuda::Stream& stream) {
  if (stream.compute_capability < cuda::kF8Capability) return run.check(true, "");
  for (const Case& c : {
           Case{1, 16, 16, false, false},
           Case{3, 48, 272, true, false},
           Case{17, 64, 1040, true, true},
           Case{cuda::kMaxF8Rows + 1, 16, 32, true, false},
       }) {
    check_case<cuda::BFloat>(run, stream, c);
    check_case<cuda::Half>(run, stream, c);
  }
  stream.is_batch_invariant = true;
  check_case<cuda::BFloat>(run, stream, {130, 32, 48, true, false});
  stream.is_batch_invariant = false;
}

}  // namespace quire::test
