// Ops that write their rows in 8 bits for the matmuls that read them: to the bit what rounding their floats
// gives, and what a matmul makes of it.

#include "rounded_activations.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "rounded_rows_cases.h"
#include "thread_pool.h"
#include "weight_tiles.h"

namespace quire::test {

namespace {

// Memory for rows of 8 bits, full of what an op must overwrite.
struct RowMemory {
  RowMemory(int tokens, int cols, int group) : bytes(int8_bytes(tokens, cols), '\x55') {
    rows = rounded_rows_at(bytes.data(), tokens, cols, group);
  }
  std::vector<char> bytes;
  RoundedRows rows;
};

// Whether `found` is `values` rounded by the words of rounded_activations.h.
bool is_rounded(const RoundedRows& found, const std::vector<float>& values) {
  for (size_t start = 0; start < values.size(); start += found.group) {
    const float* x = values.data() + start;
    float largest = 0;
    for (int k = 0; k < found.group; k++) largest = std::max(largest, std::fabs(x[k]));
    const float inverse = largest > kSmallestMagnitude ? 127.0f / largest : 0.0f;
    int sum = 0;
    for (int k = 0; k < found.group; k++) {
      const int expected = static_cast<int>(std::nearbyint(x[k] * inverse));
      if (found.q[start + k] != expected) return false;
      sum += expected;
    }
    const size_t g = start / found.group;
    if (found.scales[g] != largest / 127.0f || found.negated_sums[g] != -sum) return false;
  }
  return true;
}

struct Case {
  int tokens, cols, group;
};

// A group of nothing, and one that is far larger than the others.
std::vector<float> uneven_values(Run& run, const Case& c) {
  std::vector<float> values = run.values(c.tokens * c.cols);
  std::fill(values.begin(), values.begin() + c.group, 0.0f);
  values.back() *= 1000;
  return values;
}

void test_norm(Run& run, const Ops& ops, const Case& c, bool has_residual, bool has_x) {
  ThreadPool two(2);
  const Matrix weight(run, 1, c.cols, run.below(2) == 0 ? DType::kF32 : DType::kBF16);
  const std::vector<float> x = uneven_values(run, c);
  std::vector<float> residual = uneven_values(run, c), again = residual, floats(x.size());
  RowMemory memory(c.tokens, c.cols, c.group);
  const auto norm = [&](float* out, std::vector<float>& sums, const RoundedRows* rounded) {
    ops.rms_norm({out, has_residual ? sums.data() : nullptr, has_x ? x.data() : nullptr, &weight.tensor,
                  c.tokens, c.cols, 1e-5f, rounded},
                 two);
  };
  norm(floats.data(), residual, nullptr);
  norm(nullptr, again, &memory.rows);
  run.check(residual == again, "rms_norm in 8 bits leaves the same residual");
  run.check(is_rounded(memory.rows, floats), "rms_norm in 8 bits is its floats rounded");
}

void test_gated(Run& run, const Ops& ops, const Case& c) {
  ThreadPool two(2);
  std::vector<float> gate_up = run.values(c.tokens * 2 * c.cols);
  for (float& value : gate_up) value *= 12;
  std::fill(gate_up.begin(), gate_up.begin() + c.group, 0.0f);
  for (const auto op : {ops.silu_mul, ops.gelu_mul}) {
    std::vector<float> floats(c.tokens * c.cols);
    RowMemory memory(c.tokens, c.cols, c.group);
    op({floats.data(), gate_up.data(), c.tokens, c.cols}, two);
    op({nullptr, gate_up.data(), c.tokens, c.cols, &memory.rows}, two);
    run.check(is_rounded(memory.rows, floats), "an activation in 8 bits is its floats rounded");
  }
}

// The matmul reads what rms_norm wrote as it would round it itself.
void test_matmul_reads(Run& run, const Ops& ops, const Case& c) {
  ThreadPool two(2);
  const int outputs = 37;
  std::vector<uint8_t> data(outputs * c.cols), zeros(data.size() / c.group);
  for (uint8_t& byte : data) byte = static_cast<uint8_t>(run.below(256));
  for (uint8_t& zero : zeros) zero = static_cast<uint8_t>(run.below(256));
  std::vector<float> scales = run.values(static_cast<int64_t>(zeros.size()));
  const Tensor matrix = {data.data(), DType::kW8, outputs, c.cols, {scales.data(), zeros.data(), c.group}};
  TilePacker packer(matrix, 8, true);
  const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(64, packer.bytes()), std::free);
  packer.start(memory.get());
  packer.pack(matrix, 0, two);
  const Tensor tiles = packer.tiles();
  const Matrix weight(run, 1, c.cols, DType::kF32);
  const std::vector<float> x = run.values(c.tokens * c.cols);
  std::vector<float> floats(x.size()), expected(c.tokens * outputs), found(expected);
  RowMemory rows(c.tokens, c.cols, c.group);
  ops.rms_norm({floats.data(), nullptr, x.data(), &weight.tensor, c.tokens, c.cols, 1e-5f}, two);
  ops.rms_norm({nullptr, nullptr, x.data(), &weight.tensor, c.tokens, c.cols, 1e-5f, &rows.rows}, two);
  ops.matmul({expected.data(), floats.data(), &tiles, nullptr, c.tokens, c.cols, outputs}, two);
  ops.matmul({found.data(), nullptr, &tiles, nullptr, c.tokens, c.cols, outputs, false, &rows.rows}, two);
  run.check(found == expected, "a matmul reads 8 bits as it would have rounded the floats");
}

void test_large_groups(Run& run) {
  const Tensor shape = {nullptr, DType::kW8, 16, 256, {nullptr, nullptr, 256}};
  bool is_refused = false;
  try {
    const TilePacker packer(shape, 8, false);
  } catch (const std::runtime_error& error) {
    is_refused = std::strstr(error.what(), "groups of 256") != nullptr;
  }
  run.check(is_refused, "groups of more than kMostInGroup are refused");
}

}  // namespace

void test_rounded_rows(Run& run, const Ops& ops) {
  test_large_groups(run);
  for (const Ops* variant : {&ops, &reference_ops()}) {
    for (int group : {32, 96, 128}) {
      for (int tokens : {1, 2, 7, 17}) {
        const Case c = {tokens, 3 * group, group};
        test_norm(run, *variant, c, true, true);
        test_norm(run, *variant, c, true, false);
        test_norm(run, *variant, c, false, true);
        test_gated(run, *variant, c);
        test_matmul_reads(run, *variant, c);
      }
    }
  }
}

}  // namespace quire::test
