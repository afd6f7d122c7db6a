// Integer weights: with plain activations, and in tiles with activations rounded to 8 bits.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "awq_tiles.h"
#include "integer_rounding.h"
#include "matmul_cases.h"
#include "thread_pool.h"
#include "weight_tiles.h"

namespace quire::test {

namespace {

// A random kW4 or kW8 matrix whose scales f16 has too, with integers of so many bits.
struct IntegerMatrix {
  IntegerMatrix(Run& run, int bits, int rows, int cols, int group, bool has_zeros) {
    const DType dtype = bits == 4 ? DType::kW4 : DType::kW8;
    const int top = 1 << bits;
    data.resize(static_cast<size_t>(rows) * cols / (dtype == DType::kW4 ? 2 : 1));
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(run.below(bits == 6 ? top : 256));
    zeros.resize(static_cast<size_t>(rows) * (cols / group));
    for (uint8_t& zero : zeros) zero = static_cast<uint8_t>(has_zeros ? run.below(top) : top / 2);
    scales = run.values(static_cast<int64_t>(zeros.size()));
    for (float& scale : scales) scale = f16_to_float(float_to_f16(scale));
    tensor = {data.data(), dtype, rows, cols, {scales.data(), zeros.data(), group}};
  }
  IntegerMatrix(const IntegerMatrix&) = delete;

  Tensor tensor;
  std::vector<uint8_t> data, zeros;
  std::vector<float> scales;
};

// A kW4 matrix as AutoAWQ's file has it, each part one byte behind where it would be aligned.
struct AwqMatrix {
  explicit AwqMatrix(const Tensor& w) {
    const int64_t groups = w.cols / w.groups.group;
    std::vector<uint16_t> half_scales;
    for (int64_t g = 0; g < groups; g++) {
      for (int64_t row = 0; row < w.rows; row++) {
        half_scales.push_back(float_to_f16(w.groups.scales[row * groups + g]));
      }
    }
    scales.resize(1 + 2 * half_scales.size());
    std::memcpy(scales.data() + 1, half_scales.data(), scales.size() - 1);
    words = in_words(w.cols, w.rows, [&](int64_t k, int64_t row) { return integer_element(w, row, k); });
    zeros = in_words(groups, w.rows,
                     [&](int64_t g, int64_t row) { return int{w.groups.zeros[row * groups + g]}; });
    const auto* zero_bytes = reinterpret_cast<const uint8_t*>(zeros.data()) + 1;
    tensor = {words.data() + 1,
              DType::kAwq,
              w.rows,
              w.cols,
              {nullptr, zero_bytes, w.groups.group, scales.data() + 1}};
  }

  template <typename At>
  static std::vector<char> in_words(int64_t lines, int64_t rows, const At& at) {
    std::vector<char> bytes(1 + lines * rows / 2);
    for (int64_t line = 0; line < lines; line++) {
      for (int64_t row = 0; row < rows; row += 8) {
        uint32_t word = 0;
        for (int i = 0; i < 8; i++) word |= static_cast<uint32_t>(at(line, row + i)) << kAwqShift[i];
        std::memcpy(bytes.data() + 1 + (line * rows + row) / 2, &word, 4);
      }
    }
    return bytes;
  }

  Tensor tensor;
  std::vector<char> words, zeros, scales;
};

struct Tiles {
  Tiles(const Tensor& matrix, int bits, bool has_zeros, ThreadPool& pool) : memory(nullptr, std::free) {
    TilePacker packer(matrix, bits, has_zeros);
    memory.reset(std::aligned_alloc(64, packer.bytes()));
    std::memset(memory.get(), 0xff, packer.bytes());
    packer.start(memory.get());
    packer.pack(matrix, 0, pool);
    tensor = packer.tiles();
  }
  std::unique_ptr<void, decltype(&std::free)> memory;
  Tensor tensor;
};

// sum_k |x[k] * w[n, k]|.
double magnitude_of(const Tensor& weight, int64_t n, const float* x) {
  double magnitude = 0;
  for (int64_t k = 0; k < weight.cols; k++) {
    magnitude += std::fabs(double{x[k]} * matrix_element(weight, n, k));
  }
  return magnitude;
}

// What rounding x to 8 bits can add to an output: half a step of every input.
double rounding_of(const Tensor& weight, int64_t n, const float* x) {
  double error = 0;
  for (int64_t start = 0; start < weight.cols; start += weight.groups.group) {
    double largest = 0, weights = 0;
    for (int64_t k = start; k < start + weight.groups.group; k++) {
      largest = std::fmax(largest, std::fabs(x[k]));
      weights += std::fabs(matrix_element(weight, n, k));
    }
    error += weights * largest / 127 / 2;
  }
  return error;
}

void check_tiles(Run& run, const IntegerMatrix& matrix, const WeightTiles& tiles) {
  bool is_same = true;
  for (int64_t n = 0; n < matrix.tensor.rows; n++) {
    for (int64_t k = 0; k < tiles.cols; k++) {
      const int64_t g = k / tiles.group, at = n * tiles.num_groups() + g;
      is_same = is_same && tiles.integer(n, k) == integer_element(matrix.tensor, n, k) &&
                tiles.scale(n, g) == matrix.scales[at] && tiles.zero(n, g) == matrix.zeros[at];
    }
  }
  run.check(is_same, "tiles hold the matrix");
}

struct Case {
  int bits, group, groups, outputs, tokens;
};

void test_plain(Run& run, const Ops& ops, const Case& c) {
  ThreadPool one(1), three(3);
  const int inputs = c.group * c.groups;
  const IntegerMatrix matrix(run, c.bits, c.outputs, inputs, c.group, true);
  const std::vector<float> x = run.values(c.tokens * inputs);
  std::vector<float> expected(c.tokens * c.outputs), found(expected), again(expected);
  const Tensor& w = matrix.tensor;
  reference_ops().matmul({expected.data(), x.data(), &w, nullptr, c.tokens, inputs, c.outputs}, one);
  ops.matmul({found.data(), x.data(), &w, nullptr, c.tokens, inputs, c.outputs}, three);
  for (int t = 0; t < c.tokens; t++) {
    ops.matmul({again.data() + t * c.outputs, x.data() + t * inputs, &w, nullptr, 1, inputs, c.outputs}, one);
  }
  run.check(found == again, "a row of the integer matmul depends on its neighbours");
  for (int i = 0; i < c.tokens * c.outputs; i++) {
    const double magnitude = magnitude_of(w, i % c.outputs, x.data() + i / c.outputs * inputs);
    run.near(found[i], expected[i], (inputs + 1) * 0x1.0p-23 * magnitude, "integer matmul");
  }
}

void test_tiles(Run& run, const Ops& ops, const Case& c) {
  ThreadPool one(1), three(3);
  const int inputs = c.group * c.groups, x_stride = inputs + 5, stride = c.outputs + 3;
  const bool has_zeros = run.below(2) == 0;
  const IntegerMatrix matrix(run, c.bits, c.outputs, inputs, c.group, has_zeros);
  run.check(c.bits == 6 || has_zeros || !needs_zeros(matrix.tensor), "zeros in the middle are left out");
  const Tiles tiles(matrix.tensor, c.bits, has_zeros, three);
  check_tiles(run, matrix, WeightTiles(tiles.tensor));
  if (c.bits == 4 && c.outputs % 8 == 0) {
    const AwqMatrix awq(matrix.tensor);
    run.check(needs_zeros(awq.tensor) == has_zeros, "zeros of an AWQ file in the middle are left out");
    check_tiles(run, matrix, WeightTiles(Tiles(awq.tensor, c.bits, has_zeros, three).tensor));
  }
  const Matrix bias(run, 1, c.outputs, DType::kF32);
  const Tensor* b = run.below(2) == 0 ? &bias.tensor : nullptr;
  std::vector<float> x = run.values(c.tokens * x_stride);
  for (int k = 0; k < c.group; k++) x[k] = 0;
  x[c.tokens * x_stride - 6] *= 1000;
  const Tensor& w = tiles.tensor;
  std::vector<float> expected(c.tokens * stride, -1.0f), found(expected), again(expected);
  reference_ops().matmul({expected.data(), x.data(), &w, b, c.tokens, x_stride, stride}, one);
  ops.matmul({found.data(), x.data(), &w, b, c.tokens, x_stride, stride}, three);
  for (int t = 0; t < c.tokens; t++) {
    ops.matmul({again.data() + t * stride, x.data() + t * x_stride, &w, b, 1, x_stride, stride}, one);
  }
  // Without a fused multiply-add there is one more rounding.
  const bool is_fused = std::strstr(ops.name, "portable") == nullptr;
  run.check(!is_fused || found == expected, "matmul of tiles is the reference's to the bit");
  run.check(found == again, "a row of the matmul of tiles depends on its neighbours");
  std::vector<float> exact(expected);
  reference_ops().matmul({exact.data(), x.data(), &matrix.tensor, b, c.tokens, x_stride, stride}, one);
  for (int t = 0; t < c.tokens; t++) {
    for (int n = 0; n < c.outputs; n++) {
      const float* row = x.data() + t * x_stride;
      run.near(found[t * stride + n], exact[t * stride + n],
               rounding_of(matrix.tensor, n, row) + 1e-5 * (1 + magnitude_of(matrix.tensor, n, row)),
               "rounding activations costs no more than half a step");
    }
  }
}

// The largest sums there are: where an instruction adds in 16 bits, they are to fit.
void test_extremes(Run& run, const Ops& ops, int bits, bool is_top, float sign) {
  ThreadPool one(1);
  constexpr int kInputs = 256, kOutputs = 16, kTokens = 3;
  IntegerMatrix matrix(run, bits, kOutputs, kInputs, 128, true);
  const auto byte = static_cast<uint8_t>(bits == 6 ? 63 : 255), top = static_cast<uint8_t>((1 << bits) - 1);
  std::fill(matrix.data.begin(), matrix.data.end(), is_top ? byte : uint8_t{0});
  std::fill(matrix.zeros.begin(), matrix.zeros.end(), is_top ? uint8_t{0} : top);
  const Tiles tiles(matrix.tensor, bits, true, one);
  const std::vector<float> x(kTokens * kInputs, sign);
  std::vector<float> expected(kTokens * kOutputs), found(expected);
  reference_ops().matmul({expected.data(), x.data(), &tiles.tensor, nullptr, kTokens, kInputs, kOutputs},
                         one);
  ops.matmul({found.data(), x.data(), &tiles.tensor, nullptr, kTokens, kInputs, kOutputs}, one);
  for (size_t i = 0; i < found.size(); i++) {
    const double magnitude = magnitude_of(matrix.tensor, static_cast<int64_t>(i) % kOutputs, x.data());
    run.near(found[i], expected[i], 0x1.0p-22 * magnitude, "the largest sums");
  }
}

void check_rounding(Run& run, DType dtype, int bits, int cols) {
  ThreadPool two(2);
  const int rows = 5, first = 2, group = rounding_group(cols);
  const Matrix matrix(run, rows, cols, dtype);
  std::vector<uint8_t> data((rows - first) * cols), zeros((rows - first) * cols / group);
  std::vector<float> scales(zeros.size());
  const Tensor out = {data.data(), DType::kW8, rows - first, cols, {scales.data(), zeros.data(), group}};
  round_to_integers(matrix.tensor, bits, first, out, two);
  for (int64_t row = 0; row < out.rows; row++) {
    for (int64_t col = 0; col < cols; col++) {
      const double step = scales[(row * cols + col) / group];
      // Half a step, and what the largest loses when the scale is rounded to f16.
      run.near(matrix_element(out, row, col), matrix.at((row + first) * cols + col), step * (0.5 + 0.07),
               "a rounded weight");
      run.check(integer_element(out, row, col) < 1 << bits, "a rounded weight has its bits");
    }
  }
}

}  // namespace

void test_integer_matmul(Run& run, const Ops& ops) {
  for (int bits : {4, 6, 8}) {
    for (bool is_top : {false, true}) {
      for (float sign : {1.0f, -1.0f}) test_extremes(run, ops, bits, is_top, sign);
    }
    for (int group : {32, 64, 96, 128}) {
      for (int groups : {1, 3}) {
        for (int outputs : {1, 8, 16, 33, 70, 136}) {
          for (int tokens : {1, 2, 5, 6, 7, 15, 16, 17}) {
            const Case c = {bits, group, groups, outputs, tokens};
            if (bits != 6) test_plain(run, ops, c);
            test_tiles(run, ops, c);
          }
        }
      }
      // More than one piece of tokens, the last of three tiles.
      test_tiles(run, ops, {bits, group, 2, 40, 173});
    }
  }
}

void test_integer_rounding(Run& run, const Ops&) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (int bits : {6, 8}) {
      for (int cols : {96, 320, 384}) check_rounding(run, dtype, bits, cols);
    }
  }
}

}  // namespace quire::test
