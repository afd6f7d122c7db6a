#include <cmath>

#include "cuda/awq_launch.h"
#include "cuda/awq_matmul.h"
#include "cuda_cases.h"
#include "device_buffer.h"
#include "thread_pool.h"

namespace quire::test {

namespace {

// A random 4-bit weight on both sides.
struct Weight {
  std::vector<uint8_t> data, zeros;
  std::vector<float> scales;
  Tensor host;
  cuda::PackedW4 packed;

  Weight(Run& run, int outputs, int inputs, int group)
      : data(outputs * inputs / 2),
        zeros(outputs * inputs / group),
        scales(run.values(outputs * inputs / group)) {
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(run.below(256));
    for (uint8_t& zero : zeros) zero = static_cast<uint8_t>(run.below(16));
    for (float& scale : scales) scale = f16_to_float(float_to_f16(scale));
    host = {data.data(), DType::kW4, outputs, inputs, {scales.data(), zeros.data(), group}};
    packed = cuda::pack_w4(host);
  }
};

template <typename T>
void check_matmul(Run& run, cuda::Stream& stream, const Weight& weight, int rows) {
  const int inputs = static_cast<int>(weight.host.cols), outputs = static_cast<int>(weight.host.rows);
  const std::vector<T> x = rounded<T>(run.values(rows * inputs));
  const std::vector<float> wide = widened(x), bias = run.values(outputs);
  std::vector<float> expected(rows * outputs);
  const Tensor host_bias = {bias.data(), DType::kF32, 1, outputs};
  ThreadPool pool(2);
  reference_ops().matmul({expected.data(), wide.data(), &weight.host, &host_bias, rows, inputs, outputs},
                         pool);

  const DeviceBuffer<uint32_t> data(stream, weight.packed.data), scales(stream, weight.packed.scales);
  const DeviceBuffer<T> device_x(stream, x), out(stream, rows * (outputs + 8)), alone(stream, outputs);
  const DeviceBuffer<float> device_bias(stream, bias);
  Tensor tensor = weight.host;
  tensor.data = data.get();
  tensor.groups.scales = reinterpret_cast<const float*>(scales.get());
  const Tensor bias_tensor = {device_bias.get(), DType::kF32, 1, outputs};
  stream.reserve_scratch(cuda::awq_scratch_bytes(outputs, inputs, stream.num_multiprocessors()) + 16);
  cuda::awq_matmul<T>({out.get(), device_x.get(), &tensor, &bias_tensor, rows, inputs, outputs + 8}, stream);
  const std::vector<float> found = widened(out.read());
  for (int t = 0; t < rows; t++) {
    for (int n = 0; n < outputs; n++) {
      double magnitude = std::fabs(bias[n]);
      for (int k = 0; k < inputs; k++) {
        magnitude += std::fabs(double{wide[t * inputs + k]} * matrix_element(weight.host, n, k));
      }
      const double tolerance =
          std::fabs(expected[t * outputs + n]) * rounding<T> + magnitude * inputs * 0x1.0p-23;
      run.near(found[t * (outputs + 8) + n], expected[t * outputs + n], tolerance, "awq_matmul");
    }
    run.check(std::isnan(found[t * (outputs + 8) + outputs]), "awq_matmul writes past its columns");
  }
  // The last row alone, bit for bit.
  const int last = rows - 1;
  cuda::awq_matmul<T>(
      {alone.get(), device_x.get() + last * inputs, &tensor, &bias_tensor, 1, inputs, outputs}, stream);
  const std::vector<float> one = widened(alone.read());
  for (int n = 0; n < outputs; n++) {
    run.check(one[n] == found[last * (outputs + 8) + n], "a row of awq_matmul depends on its neighbours");
  }
}

template <typename T>
void check_dequantise(Run& run, cuda::Stream& stream, const Weight& weight) {
  const DeviceBuffer<uint32_t> data(stream, weight.packed.data), scales(stream, weight.packed.scales);
  const DeviceBuffer<T> out(stream, static_cast<size_t>(weight.host.rows * weight.host.cols));
  Tensor tensor = weight.host;
  tensor.data = data.get();
  tensor.groups.scales = reinterpret_cast<const float*>(scales.get());
  cuda::awq_dequantise<T>(out.get(), tensor, stream);
  const std::vector<float> found = widened(out.read());
  for (int64_t i = 0; i < weight.host.rows * weight.host.cols; i++) {
    const double expected = matrix_element(weight.host, i / weight.host.cols, i % weight.host.cols);
    run.near(found[i], expected, std::fabs(expected) * rounding<T>, "awq_dequantise");
  }
}

}  // namespace

void test_awq(Run& run, cuda::Stream& stream) {
  const struct {
    int outputs, inputs, group;
  } shapes[] = {{16, 64, 32}, {64, 256, 128}, {80, 320, 64}, {32, 2176, 128}, {48, 1088, 32}};
  for (const auto& [outputs, inputs, group] : shapes) {
    const Weight weight(run, outputs, inputs, group);
    check_dequantise<cuda::Half>(run, stream, weight);
    check_dequantise<cuda::BFloat>(run, stream, weight);
    for (int rows : {1, 8, 9, 17, 40, 70}) {
      check_matmul<cuda::Half>(run, stream, weight, rows);
      check_matmul<cuda::BFloat>(run, stream, weight, rows);
    }
  }
}

}  // namespace quire::test
