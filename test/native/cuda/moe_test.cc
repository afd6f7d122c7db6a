#include <cmath>
#include <memory>

#include "cuda/kernels.h"
#include "cuda_cases.h"
#include "device_buffer.h"
#include "moe_cases.h"
#include "thread_pool.h"

namespace quire::test {

namespace {

Routing route_on_device(cuda::Stream& stream, const MoeCase& c, const std::vector<float>& logits,
                        bool renormalises) {
  Routing found(c);
  const DeviceBuffer<float> weights(stream, found.weights.size()), device_logits(stream, logits);
  const DeviceBuffer<int32_t> ids(stream, found.ids.size()), places(stream, found.ids.size()),
      rows(stream, found.ids.size()), starts(stream, found.starts.size());
  cuda::moe_route({weights.get(), ids.get(), places.get(), rows.get(), starts.get(), device_logits.get(),
                   c.tokens, c.experts, c.top_k, renormalises},
                  stream);
  found.weights = weights.read();
  found.ids = ids.read();
  found.places = places.read();
  found.rows = rows.read();
  found.starts = starts.read();
  return found;
}

template <typename T>
void check_experts(Run& run, cuda::Stream& stream, const MoeCase& c, const Routing& routing) {
  ThreadPool pool(1);
  const DType dtype = cuda::DTypeOf<T>::value;
  const int rows = c.tokens * c.top_k, stride = c.outputs + 3;
  std::vector<std::vector<T>> values;
  std::vector<Tensor> weights;
  std::vector<std::unique_ptr<DeviceBuffer<T>>> buffers;
  std::vector<const void*> pointers;
  for (int e = 0; e < c.experts; e++) {
    values.push_back(rounded<T>(run.values(int64_t{c.outputs} * c.inputs)));
    buffers.push_back(std::make_unique<DeviceBuffer<T>>(stream, values.back()));
    weights.push_back({values.back().data(), dtype, c.outputs, c.inputs});
    pointers.push_back(buffers.back()->get());
  }
  const std::vector<T> x = rounded<T>(run.values(int64_t{rows} * c.inputs));
  const std::vector<float> wide = widened(x);
  std::vector<float> expected(int64_t{rows} * stride);
  reference_ops().grouped_matmul(
      {expected.data(), wide.data(), weights.data(), nullptr, routing.starts.data(), c.experts, rows, stride},
      pool);
  const DeviceBuffer<const void*> device_pointers(stream, pointers);
  const DeviceBuffer<int32_t> starts(stream, routing.starts), places(stream, routing.places);
  const DeviceBuffer<float> route_weights(stream, routing.weights);
  const DeviceBuffer<T> device_x(stream, x), out(stream, expected.size());
  cuda::grouped_matmul<T>({out.get(), device_x.get(), weights.data(), device_pointers.get(), starts.get(),
                           c.experts, rows, stride},
                          stream);
  const std::vector<float> found = widened(out.read());
  for (size_t i = 0; i < found.size(); i++) {
    if (static_cast<int>(i % stride) >= c.outputs) {
      run.check(std::isnan(found[i]), "grouped_matmul writes past its columns");
      continue;
    }
    const double tolerance = std::fabs(expected[i]) * rounding<T> * 1.01 + c.inputs * 1e-6;
    run.near(found[i], expected[i], tolerance, "grouped_matmul");
  }
  std::vector<float> sums(int64_t{c.tokens} * c.inputs);
  reference_ops().moe_combine(
      {sums.data(), wide.data(), routing.weights.data(), routing.places.data(), c.tokens, c.top_k, c.inputs},
      pool);
  const DeviceBuffer<T> combined(stream, sums.size());
  cuda::moe_combine<T>(
      {combined.get(), device_x.get(), route_weights.get(), places.get(), c.tokens, c.top_k, c.inputs},
      stream);
  const std::vector<float> sums_found = widened(combined.read());
  for (size_t i = 0; i < sums.size(); i++) {
    run.near(sums_found[i], sums[i], std::fabs(sums[i]) * rounding<T> * 1.01 + 1e-5, "moe_combine");
  }
}

}  // namespace

void test_moe_kernels(Run& run, cuda::Stream& stream) {
  ThreadPool pool(1);
  for (const MoeCase& c : moe_cases()) {
    const bool renormalises = run.below(2) == 0;
    const std::vector<float> logits = router_logits(run, c);
    Routing expected(c);
    expected.route(reference_ops(), c, logits, renormalises, pool);
    const Routing found = route_on_device(stream, c, logits, renormalises);
    run.check(found.places_like(expected), "moe_route");
    for (size_t i = 0; i < found.weights.size(); i++) {
      run.near(found.weights[i], expected.weights[i], 1e-6, "weights of moe_route");
    }
    check_experts<cuda::Half>(run, stream, c, expected);
    check_experts<cuda::BFloat>(run, stream, c, expected);
  }
  // A token of nothing but NaN harms only itself.
  const MoeCase c = {3, 5, 2, 8, 8};
  std::vector<float> logits = router_logits(run, c);
  for (int e = 0; e < 5; e++) logits[5 + e] = std::nanf("");
  const Routing found = route_on_device(stream, c, logits, true);
  run.check(found.starts.back() == 6 && found.ids[2] == 0 && found.ids[3] == 1, "moe_route of NaN");
}

}  // namespace quire::test
