// How fast the kernels are on this GPU, beside its roofs measured in the same run; one JSON line a row.
//
//   cuda_bench [FILTER]
//
// Roofs: a device-to-device copy (read + write bytes a second) and a large bf16 matmul by cuBLASLt. Times are
// medians of many launches between two events, with inputs that exceed the second-level cache taken in turn.

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "cuda/attention_launch.h"
#include "cuda/awq_launch.h"
#include "cuda/awq_matmul.h"
#include "cuda/f8_matmul.h"
#include "cuda/kernels.h"
#include "device_buffer.h"

namespace quire::test {

namespace {

using cuda::BFloat;
using cuda::Stream;

constexpr int kRounds = 20;

// Median milliseconds of body(round).
double milliseconds(Stream& stream, const std::function<void(int)>& body) {
  cudaEvent_t start, end;
  cudaEventCreate(&start);
  cudaEventCreate(&end);
  std::vector<float> times;
  const auto handle = static_cast<cudaStream_t>(stream.handle());
  for (int round = -3; round < kRounds; round++) {
    cudaEventRecord(start, handle);
    body(round + 3);
    cudaEventRecord(end, handle);
    cudaEventSynchronize(end);
    float ms = 0;
    cudaEventElapsedTime(&ms, start, end);
    if (round >= 0) times.push_back(ms);
  }
  cudaEventDestroy(start);
  cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + kRounds / 2, times.end());
  return times[kRounds / 2];
}

void report(const char* name, const std::string& shape, double ms, double amount, const char* unit,
            double roof) {
  const double rate = amount / ms / 1e9;  // of 1e12 a second
  std::printf(
      "{\"name\": \"%s\", \"shape\": \"%s\", \"ms\": %.5f, \"rate\": %.3f, \"unit\": \"%s\", \"ofRoof\": "
      "%.3f}\n",
      name, shape.c_str(), ms, rate, unit, roof > 0 ? rate / roof : 1.0);
  std::fflush(stdout);
}

struct Roofs {
  double copy;    // TB/s
  double matmul;  // TFLOP/s
};

// Random bytes that are small bf16 numbers.
DeviceBuffer<uint16_t> numbers(Stream& stream, size_t count) {
  std::vector<uint16_t> values(count);
  uint32_t state = 1;
  for (uint16_t& value : values) {
    state = state * 1664525 + 1013904223;
    value = static_cast<uint16_t>((state >> 16 & 0x80ff) | 0x3e00);
  }
  return DeviceBuffer<uint16_t>(stream, values);
}

Roofs measure_roofs(Stream& stream) {
  Roofs roofs{};
  const size_t bytes = size_t{1} << 30;
  const DeviceBuffer<char> from(stream, bytes), to(stream, bytes);
  const auto handle = static_cast<cudaStream_t>(stream.handle());
  const double copy_ms = milliseconds(
      stream, [&](int) { cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyDeviceToDevice, handle); });
  roofs.copy = 2.0 * static_cast<double>(bytes) / copy_ms / 1e9;
  report("copy", "1 GiB", copy_ms, 2.0 * static_cast<double>(bytes), "TB/s", 0);
  const int n = 8192;
  const auto a = numbers(stream, size_t{n} * n), b = numbers(stream, size_t{n} * n),
             out = numbers(stream, size_t{n} * n);
  const Tensor weight = {b.get(), DType::kBF16, n, n};
  const double ms = milliseconds(stream, [&](int) {
    cuda::dense_matmul<BFloat>({out.get(), a.get(), &weight, nullptr, n, n, n}, stream);
  });
  roofs.matmul = 2.0 * n * n * n / ms / 1e9;
  report("matmul", "8192^3 bf16", ms, 2.0 * n * n * n, "TFLOP/s", 0);
  return roofs;
}

// One step of attention over sequences of one shape.
void bench_attention(Stream& stream, const Roofs& roofs, int head_size, int heads, int kv_heads, int seqs,
                     int queries, int context) {
  const int block_size = 16, blocks = context / block_size;
  std::vector<int32_t> starts(seqs + 1), lens(seqs, context), rows(seqs), table(seqs * blocks);
  for (int s = 0; s < seqs; s++) {
    starts[s + 1] = (s + 1) * queries;
    rows[s] = s;
  }
  // Blocks lie scattered, as they do after a while of serving.
  for (size_t i = 0; i < table.size(); i++) table[i] = static_cast<int32_t>((i * 7919) % table.size()) + 1;
  const size_t cached = (table.size() + 1) * static_cast<size_t>(kv_heads) * block_size * head_size;
  const int64_t stride = int64_t{heads + 2 * kv_heads} * head_size;
  const auto q = numbers(stream, static_cast<size_t>(seqs * queries * stride));
  const auto k = numbers(stream, cached), v = numbers(stream, cached);
  const DeviceBuffer<uint16_t> out(stream, static_cast<size_t>(seqs) * queries * heads * head_size);
  const DeviceBuffer<int32_t> d_starts(stream, starts), d_lens(stream, lens), d_rows(stream, rows),
      d_table(stream, table);
  const KvCache cache = {k.get(),    v.get(),  DType::kBF16, static_cast<int>(table.size()) + 1,
                         block_size, kv_heads, head_size};
  stream.reserve_scratch(cuda::decode_scratch_bytes(seqs, heads, head_size));
  const bool decodes = queries == 1;
  const AttentionArgs args = {out.get(),
                              q.get(),
                              stride,
                              &cache,
                              d_starts.get(),
                              d_lens.get(),
                              d_rows.get(),
                              d_table.get(),
                              blocks,
                              seqs,
                              heads,
                              1 / std::sqrt(static_cast<float>(head_size)),
                              0,
                              decodes ? seqs : 0,
                              queries,
                              context};
  const double ms = milliseconds(stream, [&](int) { cuda::attention<BFloat>(args, stream); });
  const std::string shape = std::to_string(seqs) + " x " + std::to_string(queries) + " of " +
                            std::to_string(context) + ", " + std::to_string(heads) + "/" +
                            std::to_string(kv_heads) + " heads of " + std::to_string(head_size);
  if (decodes) {
    const double bytes = 2.0 * seqs * static_cast<double>(context) * kv_heads * head_size * 2;
    report("paged_attention_decode", shape, ms, bytes, "TB/s", roofs.copy);
  } else {
    const double flops = 4.0 * seqs * heads * head_size * (static_cast<double>(queries) * context / 2);
    report("flash_attention_prefill", shape, ms, flops, "TFLOP/s", roofs.matmul);
    if (stream.compute_capability != 90) return;
    // What this GPU would do without the kernels of its own.
    stream.compute_capability = 80;
    const double plain = milliseconds(stream, [&](int) { cuda::attention<BFloat>(args, stream); });
    stream.compute_capability = 90;
    report("flash_attention_prefill, mma.sync", shape, plain, flops, "TFLOP/s", roofs.matmul);
  }
}

// The 4-bit matmul beside cuBLAS bf16 on the same shape. Enough copies of the weights that none stays in a
// cache.
void bench_awq(Stream& stream, const Roofs& roofs, int outputs, int inputs, int rows) {
  const int copies =
      static_cast<int>(std::max<int64_t>(2, (int64_t{256} << 20) / (int64_t{outputs} * inputs / 2)));
  const size_t words = static_cast<size_t>(outputs) * inputs / 8,
               scales = static_cast<size_t>(inputs) / 128 * outputs;
  const DeviceBuffer<uint32_t> data(stream, std::vector<uint32_t>(words * copies, 0x73625140));
  const DeviceBuffer<uint32_t> d_scales(stream, std::vector<uint32_t>(scales, 0x00072c00));
  const auto x = numbers(stream, static_cast<size_t>(rows) * inputs);
  const DeviceBuffer<uint16_t> out(stream, static_cast<size_t>(rows) * outputs);
  const auto dense = numbers(stream, static_cast<size_t>(outputs) * inputs * 2);
  stream.reserve_scratch(std::max(cuda::awq_scratch_bytes(outputs, inputs, stream.num_multiprocessors()),
                                  static_cast<size_t>(outputs) * inputs * 2));
  const double awq = milliseconds(stream, [&](int round) {
    Tensor w = {data.get() + round % copies * words,
                DType::kW4,
                outputs,
                inputs,
                {reinterpret_cast<const float*>(d_scales.get()), nullptr, 128}};
    cuda::matmul<BFloat>({out.get(), x.get(), &w, nullptr, rows, inputs, outputs}, stream);
  });
  const double plain = milliseconds(stream, [&](int round) {
    const Tensor w = {dense.get() + round % 2 * static_cast<size_t>(outputs) * inputs, DType::kBF16, outputs,
                      inputs};
    cuda::matmul<BFloat>({out.get(), x.get(), &w, nullptr, rows, inputs, outputs}, stream);
  });
  const std::string shape =
      std::to_string(rows) + " rows, " + std::to_string(outputs) + " x " + std::to_string(inputs);
  report("awq_matmul", shape, awq, 0.5 * outputs * inputs + 4.0 * static_cast<double>(scales), "TB/s",
         roofs.copy);
  report("cublas_bf16", shape, plain, 2.0 * outputs * inputs, "TB/s", roofs.copy);
  std::printf("{\"name\": \"awq over cublas\", \"shape\": \"%s\", \"ratio\": %.3f}\n", shape.c_str(),
              plain / awq);
}

// e4m3 weights and activations beside cuBLAS bf16 on the same shape.
void bench_f8(Stream& stream, const Roofs& roofs, int outputs, int inputs, int rows) {
  const size_t size = static_cast<size_t>(outputs) * inputs;
  // Two of each in turn, so that none stays in a cache.
  const DeviceBuffer<uint8_t> data(stream, std::vector<uint8_t>(2 * size, 0x35));
  const DeviceBuffer<float> scales(stream, std::vector<float>(static_cast<size_t>(outputs), 0.01f));
  const auto dense = numbers(stream, 2 * size), x = numbers(stream, static_cast<size_t>(rows) * inputs);
  const DeviceBuffer<uint16_t> out(stream, static_cast<size_t>(rows) * outputs);
  stream.reserve_scratch(cuda::f8_scratch_bytes(outputs, inputs));
  const double f8 = milliseconds(stream, [&](int round) {
    Tensor w = {data.get() + round % 2 * size, DType::kF8, outputs, inputs};
    w.row_scales = scales.get();
    cuda::matmul<BFloat>({out.get(), x.get(), &w, nullptr, rows, inputs, outputs}, stream);
  });
  const double plain = milliseconds(stream, [&](int round) {
    const Tensor w = {dense.get() + round % 2 * size, DType::kBF16, outputs, inputs};
    cuda::matmul<BFloat>({out.get(), x.get(), &w, nullptr, rows, inputs, outputs}, stream);
  });
  const std::string shape =
      std::to_string(rows) + " rows, " + std::to_string(outputs) + " x " + std::to_string(inputs);
  report("f8_matmul", shape, f8, static_cast<double>(size), "TB/s", roofs.copy);
  std::printf("{\"name\": \"f8 over cublas bf16\", \"shape\": \"%s\", \"ratio\": %.3f}\n", shape.c_str(),
              plain / f8);
}

}  // namespace

}  // namespace quire::test

int main(int argc, char** argv) {
  using namespace quire::test;
  const std::string filter = argc > 1 ? argv[1] : "";
  const auto wanted = [&](const char* name) { return std::string(name).find(filter) != std::string::npos; };
  quire::cuda::Stream stream(0);
  const Roofs roofs = measure_roofs(stream);
  if (wanted("prefill")) {
    for (int head_size : {128, 64}) {
      for (int tokens : {2048, 8192, 16384})
        bench_attention(stream, roofs, head_size, 32, 8, 1, tokens, tokens);
    }
  }
  if (wanted("decode")) {
    bench_attention(stream, roofs, 128, 64, 8, 64, 1, 4096);
    bench_attention(stream, roofs, 128, 64, 8, 256, 1, 1024);
    bench_attention(stream, roofs, 128, 32, 8, 1, 1, 16384);
  }
  if (wanted("awq")) {
    const int shapes[][2] = {{4096, 4096}, {6144, 4096}, {28672, 4096}, {4096, 14336}};  // of Llama-3.1-8B
    for (const auto& [outputs, inputs] : shapes) {
      for (int rows : {1, 16, 64, 256, 2048}) bench_awq(stream, roofs, outputs, inputs, rows);
    }
  }
  if (wanted("f8") && stream.compute_capability >= quire::cuda::kF8Capability) {
    for (int rows : {1, 64, 2048}) bench_f8(stream, roofs, 28672, 4096, rows);
  }
  return 0;
}
