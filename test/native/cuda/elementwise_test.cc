#include <cmath>

#include "cuda/float8.h"
#include "cuda/kernels.h"
#include "cuda_cases.h"
#include "device_buffer.h"
#include "thread_pool.h"

namespace quire::test {

namespace {

void check_embed(Run& run, cuda::Stream& stream) {
  ThreadPool pool(1);
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const Matrix table(run, 9, 70, dtype);
    const std::vector<int32_t> ids = {8, 0, 3, 3};
    std::vector<float> expected(4 * 70);
    reference_ops().embed({expected.data(), &table.tensor, ids.data(), 4}, pool);
    // Device memory is aligned, the host's tensor need not be.
    std::vector<char> bytes(9 * 70 * dtype_size(dtype));
    std::memcpy(bytes.data(), table.tensor.data, bytes.size());
    const DeviceBuffer<char> device_table(stream, bytes);
    const DeviceBuffer<int32_t> device_ids(stream, ids);
    const DeviceBuffer<float> out(stream, expected.size());
    Tensor tensor = table.tensor;
    tensor.data = device_table.get();
    cuda::embed({out.get(), &tensor, device_ids.get(), 4}, stream);
    run.check(out.read() == expected, "embed");
  }
}

template <typename T>
void check_rms_norm(Run& run, cuda::Stream& stream, int size, bool adds) {
  ThreadPool pool(1);
  const int rows = 3;
  const std::vector<float> residual = run.values(rows * size), weight = run.values(size);
  const std::vector<T> x = rounded<T>(run.values(rows * size));
  std::vector<float> wide = widened(x), expected_residual = residual, expected(rows * size);
  const Tensor host_weight = {weight.data(), DType::kF32, 1, size};
  reference_ops().rms_norm({expected.data(), expected_residual.data(), adds ? wide.data() : nullptr,
                            &host_weight, rows, size, 1e-5f},
                           pool);
  const DeviceBuffer<float> device_residual(stream, residual), device_weight(stream, weight);
  const DeviceBuffer<T> device_x(stream, x), out(stream, x.size());
  const Tensor tensor = {device_weight.get(), DType::kF32, 1, size};
  cuda::rms_norm<T>(
      {out.get(), device_residual.get(), adds ? device_x.get() : nullptr, &tensor, rows, size, 1e-5f},
      stream);
  const std::vector<float> found = widened(out.read()), found_residual = device_residual.read();
  for (size_t i = 0; i < found.size(); i++) {
    run.near(found_residual[i], expected_residual[i], 1e-6, "rms_norm's residual");
    run.near(found[i], expected[i], std::fabs(expected[i]) * rounding<T> * 1.01 + 1e-5, "rms_norm");
  }
}

template <typename T>
void check_rms_norm_alone(Run& run, cuda::Stream& stream, int size) {
  ThreadPool pool(1);
  const std::vector<float> weight = run.values(size);
  const std::vector<T> x = rounded<T>(run.values(2 * size));
  const std::vector<float> wide = widened(x);
  std::vector<float> expected(wide.size());
  const Tensor host_weight = {weight.data(), DType::kF32, 1, size};
  reference_ops().rms_norm({expected.data(), nullptr, wide.data(), &host_weight, 2, size, 1e-5f}, pool);
  const DeviceBuffer<float> device_weight(stream, weight);
  const DeviceBuffer<T> in_place(stream, x);
  const Tensor tensor = {device_weight.get(), DType::kF32, 1, size};
  cuda::rms_norm<T>({in_place.get(), nullptr, in_place.get(), &tensor, 2, size, 1e-5f}, stream);
  const std::vector<float> found = widened(in_place.read());
  for (size_t i = 0; i < found.size(); i++) {
    run.near(found[i], expected[i], std::fabs(expected[i]) * rounding<T> * 1.01 + 1e-5, "rms_norm in place");
  }
}

void check_soft_cap(Run& run, cuda::Stream& stream, int count) {
  ThreadPool pool(1);
  std::vector<float> values = run.values(count);
  for (float& value : values) value *= 90;
  const DeviceBuffer<float> device(stream, values);
  reference_ops().soft_cap({values.data(), count, 30}, pool);
  cuda::soft_cap({device.get(), count, 30}, stream);
  const std::vector<float> found = device.read();
  for (int i = 0; i < count; i++) run.near(found[i], values[i], 30 * 1e-6, "soft_cap");
}

template <typename T>
void check_gated(Run& run, cuda::Stream& stream, int size) {
  ThreadPool pool(1);
  std::vector<float> values = run.values(2 * 2 * size);
  for (float& value : values) value *= 8;
  const std::vector<T> gate_up = rounded<T>(values);
  const std::vector<float> wide = widened(gate_up);
  for (bool is_gelu : {false, true}) {
    std::vector<float> expected(2 * size);
    (is_gelu ? reference_ops().gelu_mul : reference_ops().silu_mul)({expected.data(), wide.data(), 2, size},
                                                                    pool);
    const DeviceBuffer<T> device(stream, gate_up), out(stream, expected.size());
    const GatedActivationArgs args = {out.get(), device.get(), 2, size};
    is_gelu ? cuda::gelu_mul<T>(args, stream) : cuda::silu_mul<T>(args, stream);
    const std::vector<float> found = widened(out.read());
    for (size_t i = 0; i < found.size(); i++) {
      run.near(found[i], expected[i], std::fabs(expected[i]) * rounding<T> * 1.01 + 2e-5, "gated activation");
    }
  }
}

// C is the cache's form.
template <typename T, typename C>
void check_rope_and_cache(Run& run, cuda::Stream& stream, int head_size, int num_freqs, bool has_norms) {
  ThreadPool pool(1);
  const int heads = 3, kv_heads = 2, tokens = 5, block_size = 8, blocks = 3;
  const int64_t row = int64_t{heads + 2 * kv_heads} * head_size;
  const std::vector<T> qkv = rounded<T>(run.values(tokens * row));
  std::vector<float> expected = widened(qkv), inv_freq(num_freqs), table(tokens * 2 * num_freqs);
  for (int i = 0; i < num_freqs; i++) inv_freq[i] = std::pow(10000.0f, -static_cast<float>(i) / num_freqs);
  const std::vector<int32_t> positions = {0, 1, 40, 7, 3000}, slots = {3, -1, 8, 23, 16};
  reference_ops().rope_table({table.data(), positions.data(), inv_freq.data(), tokens, num_freqs}, pool);
  const std::vector<float> q_norm = run.values(head_size), k_norm = run.values(head_size);
  const Tensor q_tensor = {q_norm.data(), DType::kF32, 1, head_size},
               k_tensor = {k_norm.data(), DType::kF32, 1, head_size};
  const DType dtype = cuda::DTypeOf<C>::value;
  const size_t cached = size_t{blocks} * kv_heads * block_size * head_size;
  std::vector<C> k(cached, C{0}), v(cached, C{0});
  const KvCache host = {k.data(), v.data(), dtype, blocks, block_size, kv_heads, head_size};
  reference_ops().rope_and_cache(
      {expected.data(), &host, slots.data(), table.data(), has_norms ? &q_tensor : nullptr,
       has_norms ? &k_tensor : nullptr, 1e-6f, tokens, heads, num_freqs},
      pool);
  const DeviceBuffer<T> device_qkv(stream, qkv);
  const DeviceBuffer<C> device_k(stream, std::vector<C>(cached, C{0})),
      device_v(stream, std::vector<C>(cached, C{0}));
  const DeviceBuffer<int32_t> device_slots(stream, slots), device_positions(stream, positions);
  const DeviceBuffer<float> device_freq(stream, inv_freq), device_table(stream, table.size()),
      device_qn(stream, q_norm), device_kn(stream, k_norm);
  cuda::rope_table({device_table.get(), device_positions.get(), device_freq.get(), tokens, num_freqs},
                   stream);
  const std::vector<float> found_table = device_table.read();
  for (size_t i = 0; i < table.size(); i++) run.near(found_table[i], table[i], 2e-7, "rope_table");
  KvCache cache = host;
  cache.k = device_k.get();
  cache.v = device_v.get();
  const Tensor qn = {device_qn.get(), DType::kF32, 1, head_size},
               kn = {device_kn.get(), DType::kF32, 1, head_size};
  cuda::rope_and_cache<T>(
      {device_qkv.get(), &cache, device_slots.get(), device_table.get(), has_norms ? &qn : nullptr,
       has_norms ? &kn : nullptr, 1e-6f, tokens, heads, num_freqs},
      stream);
  const auto compare = [&](const std::vector<float>& found, const std::vector<float>& wanted,
                           const char* what) {
    for (size_t i = 0; i < wanted.size(); i++) {
      run.near(found[i], wanted[i], std::fabs(wanted[i]) * rounding<T> * 1.01 + 1e-5, what);
    }
  };
  compare(widened(device_qkv.read()), expected, "rope_and_cache");
  // The reference rounds what it had not rounded before: one more half step.
  const std::vector<float> found_k = widened(device_k.read()), found_v = widened(device_v.read());
  const std::vector<float> wanted_k = widened(k), wanted_v = widened(v);
  for (size_t i = 0; i < cached; i++) {
    run.near(found_k[i], wanted_k[i], std::fabs(wanted_k[i]) * rounding<C> * 2.1 + 1e-5,
             "keys of rope_and_cache");
    run.check(found_v[i] == wanted_v[i], "values of rope_and_cache");
  }
}

template <typename T>
void check_lora(Run& run, cuda::Stream& stream) {
  ThreadPool pool(1);
  const int inputs = 70, outputs = 45, rank = 5, tokens = 6;
  const std::vector<float> a = run.values(rank * inputs), b = run.values(rank * outputs);
  const std::vector<int32_t> slots = {0, -1, 1, 0, 2, 0};
  const std::vector<T> x = rounded<T>(run.values(tokens * inputs)),
                       base = rounded<T>(run.values(tokens * outputs));
  const std::vector<LoraMatrix> host = {{a.data(), b.data(), rank}, {a.data(), b.data(), 2}, {}};
  const std::vector<float> wide = widened(x);
  std::vector<float> expected = widened(base);
  reference_ops().lora_matmul(
      {expected.data(), wide.data(), host.data(), slots.data(), tokens, inputs, outputs, inputs, outputs},
      pool);
  const DeviceBuffer<float> device_a(stream, a), device_b(stream, b);
  const DeviceBuffer<LoraMatrix> matrices(
      stream, {{device_a.get(), device_b.get(), rank}, {device_a.get(), device_b.get(), 2}, {}});
  const DeviceBuffer<int32_t> device_slots(stream, slots);
  const DeviceBuffer<T> device_x(stream, x), out(stream, base);
  stream.reserve_scratch(tokens * kMaxLoraRank * sizeof(float));
  cuda::lora_matmul<T>({out.get(), device_x.get(), matrices.get(), device_slots.get(), tokens, inputs,
                        outputs, inputs, outputs},
                       stream);
  const std::vector<float> found = widened(out.read());
  for (size_t i = 0; i < found.size(); i++) {
    run.near(found[i], expected[i], std::fabs(expected[i]) * rounding<T> * 1.01 + 1e-4, "lora_matmul");
  }
}

void check_moves(Run& run, cuda::Stream& stream) {
  const std::vector<float> x = run.values(5 * 33);
  const DeviceBuffer<float> device_x(stream, x), out(stream, 2 * 33);
  const DeviceBuffer<int32_t> rows(stream, std::vector<int32_t>{4, 1});
  cuda::gather_rows({out.get(), device_x.get(), rows.get(), 2, 33, 4}, stream);
  const std::vector<float> found = out.read();
  for (int i = 0; i < 33; i++)
    run.check(found[i] == x[4 * 33 + i] && found[33 + i] == x[33 + i], "gather_rows");

  const int block = 2 * 8 * 32;
  std::vector<cuda::BFloat> k = rounded<cuda::BFloat>(run.values(4 * block)),
                            v = rounded<cuda::BFloat>(run.values(4 * block));
  const DeviceBuffer<cuda::BFloat> device_k(stream, k), device_v(stream, v);
  const KvCache cache = {device_k.get(), device_v.get(), DType::kBF16, 4, 8, 2, 32};
  const DeviceBuffer<int32_t> pairs(stream, std::vector<int32_t>{3, 0, 1, 2});
  cuda::copy_blocks({&cache, pairs.get(), 2}, stream);
  const auto found_k = device_k.read(), found_v = device_v.read();
  for (int i = 0; i < block; i++) {
    run.check(found_k[i].bits == k[3 * block + i].bits && found_v[i].bits == v[3 * block + i].bits &&
                  found_k[2 * block + i].bits == k[block + i].bits,
              "copy_blocks");
  }
}

}  // namespace

void test_elementwise(Run& run, cuda::Stream& stream) {
  check_embed(run, stream);
  check_moves(run, stream);
  for (int size : {1, 64, 255, 257, 1000}) {
    for (bool adds : {false, true}) {
      check_rms_norm<cuda::Half>(run, stream, size, adds);
      check_rms_norm<cuda::BFloat>(run, stream, size, adds);
    }
    check_rms_norm_alone<cuda::Half>(run, stream, size);
    check_rms_norm_alone<cuda::BFloat>(run, stream, size);
    check_soft_cap(run, stream, size);
    check_gated<cuda::Half>(run, stream, size);
    check_gated<cuda::BFloat>(run, stream, size);
  }
  for (bool has_norms : {false, true}) {
    check_rope_and_cache<cuda::Half, cuda::Half>(run, stream, 32, 4, has_norms);
    check_rope_and_cache<cuda::BFloat, cuda::BFloat>(run, stream, 64, 32, has_norms);
    check_rope_and_cache<cuda::BFloat, cuda::BFloat>(run, stream, 80, 40, has_norms);
    check_rope_and_cache<cuda::BFloat, cuda::F8>(run, stream, 80, 40, has_norms);
    check_rope_and_cache<cuda::Half, cuda::F8>(run, stream, 128, 64, has_norms);
    check_rope_and_cache<cuda::BFloat, cuda::BFloat>(run, stream, 256, 64, has_norms);
  }
  check_lora<cuda::Half>(run, stream);
  check_lora<cuda::BFloat>(run, stream);
}

}  // namespace quire::test
