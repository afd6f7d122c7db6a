// bf16 with coded exponents (coded_bf16.h): every bit comes back, and every op gives what it gives for plain
// panels, to the bit.

#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "backend.h"
#include "coded_bf16.h"
#include "coded_cases.h"
#include "panels.h"

namespace quire::test {

namespace {

// A matrix in bf16 from its bits.
struct Bits {
  Bits(int64_t rows, int64_t cols) : values(static_cast<size_t>(rows * cols)) {
    tensor = {values.data(), DType::kBF16, rows, cols};
  }
  Bits(const Bits&) = delete;

  std::vector<uint16_t> values;
  Tensor tensor;
};

void fill_gaussian(Run& run, Bits& bits) {
  for (uint16_t& value : bits.values) {
    const double radius = std::sqrt(-2 * std::log(run.uniform() + 1e-12));
    value = float_to_bf16(static_cast<float>(0.02 * radius * std::cos(6.283185307179586 * run.uniform())));
  }
}

// Values of any size, at random places and at both ends; without infinities and what is no number if sums are
// to be compared.
void scatter(Run& run, Bits& bits, int count, bool is_finite) {
  const auto size = static_cast<int>(bits.values.size());
  for (int i = 0; i < count; i++) {
    const int place = i == 0 ? 0 : i == 1 ? size - 1 : run.below(size);
    auto value = static_cast<uint16_t>(run.below(1 << 16));
    if (is_finite) value &= 0xbfff;
    bits.values[place] = value;
  }
}

bool comes_back(const Bits& bits) {
  const CodedPanels coded(bits.tensor);
  if (!coded.is_whole) return false;
  const int64_t cols = bits.tensor.cols;
  std::vector<uint16_t> row(static_cast<size_t>(coded_blocks(cols) * kCodedInputs));
  for (int64_t r = 0; r < bits.tensor.rows; r++) {
    read_coded_row(coded.tensor, r, row.data());
    const uint16_t* expected = bits.values.data() + r * cols;
    if (std::memcmp(row.data(), expected, static_cast<size_t>(cols) * 2) != 0) return false;
  }
  return true;
}

void multiply(Run& run, const Ops& ops, int rows, int cols) {
  ThreadPool two(2);
  Bits bits(rows, cols);
  fill_gaussian(run, bits);
  scatter(run, bits, 20, true);
  const Panels panels(bits.tensor);
  const CodedPanels coded(bits.tensor);
  run.check(coded.is_whole, "few exceptions are too many");
  for (int tokens : {1, 2, 5, 12, 13, 24, 25, 49, 200}) {
    const std::vector<float> x = run.values(int64_t{tokens} * cols);
    std::vector<float> expected(static_cast<size_t>(tokens) * rows), found(expected);
    ops.matmul({expected.data(), x.data(), &panels.tensor, nullptr, tokens, cols, rows}, two);
    ops.matmul({found.data(), x.data(), &coded.tensor, nullptr, tokens, cols, rows}, two);
    run.check(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0,
              "matmul of coded panels differs from plain ones'");
  }
}

}  // namespace

void test_coded_round_trip(Run& run, const Ops&) {
  // All 65,536 numbers: 15 exponents, all signs and mantissas, and zeros and denormals beside them.
  for (int base = 0; base < 256; base += 15) {
    Bits bits(16, 256);
    for (size_t i = 0; i < bits.values.size(); i++) {
      const int code = static_cast<int>(i / 256), rest = static_cast<int>(i % 256);
      const int exponent = code == 0 || base + code > 255 ? 0 : base + code;
      bits.values[i] = static_cast<uint16_t>((rest & 0x80) << 8 | exponent << 7 | (rest & 0x7f));
    }
    run.check(comes_back(bits), "a number of bf16 does not come back");
    scatter(run, bits, 40, false);
    run.check(comes_back(bits), "an exception does not come back");
  }
  for (int rows : {1, 15, 16, 17, 50}) {
    for (int cols : {1, 2, 7, 8, 9, 63, 172}) {
      Bits bits(rows, cols);
      fill_gaussian(run, bits);
      run.check(comes_back(bits), "Gaussian weights do not come back");
      scatter(run, bits, 20, false);
      run.check(comes_back(bits), "Gaussian weights with exceptions do not come back");
      for (uint16_t value : {0x0000, 0x8000, 0x7f80, 0xff81, 0x3f80, 0x0001}) {
        bits.values.assign(bits.values.size(), value);
        run.check(comes_back(bits), "equal weights do not come back");
      }
      for (uint16_t& value : bits.values) value = float_to_bf16(static_cast<float>(2 * run.uniform() - 1));
      run.check(comes_back(bits), "uniform weights do not come back");
    }
  }
}

// Random bits are left plain, and multiplied all the same.
void test_coded_refusal(Run& run, const Ops& ops) {
  Bits bits(64, 200);
  scatter(run, bits, 100000, true);
  run.check(!comes_back(bits), "random bits have few exponents");
  ModelOptions options;
  options.threads = 2;
  const std::unique_ptr<Backend> backend = open_cpu_backend(options);
  const Tensor placed = backend->place(bits.tensor);
  run.check(placed.in_panels && !placed.is_coded, "random bits are coded");
  fill_gaussian(run, bits);
  run.check(backend->place(bits.tensor).is_coded, "Gaussian weights are not coded");
  scatter(run, bits, 100000, true);
  ThreadPool one(1);
  const Panels panels(bits.tensor);
  const Tensor again = backend->place(bits.tensor);
  const std::vector<float> x = run.values(200);
  std::vector<float> expected(64), found(64);
  ops.matmul({expected.data(), x.data(), &panels.tensor, nullptr, 1, 200, 64}, one);
  ops.matmul({found.data(), x.data(), &again, nullptr, 1, 200, 64}, one);
  run.check(std::memcmp(found.data(), expected.data(), sizeof(float) * 64) == 0, "plain panels differ");
}

// Numbers from a file that would lead a reader out of the matrix are found.
void test_coded_soundness(Run& run, const Ops&) {
  Bits bits(64, 200);
  fill_gaussian(run, bits);
  bits.values[0] = 0x7f80;  // infinity: an exception in the first panel
  const CodedPanels coded(bits.tensor);
  const void* memory = coded.tensor.data;
  run.check(coded.is_whole && is_sound_coded(bits.tensor, memory), "a matrix as it was packed is not sound");
  auto* exception = const_cast<CodedException*>(coded_panel(coded.tensor, 0).exceptions);
  const CodedException kept = *exception;
  const auto is_refused = [&](CodedException damaged) {
    *exception = damaged;
    const bool is_sound = is_sound_coded(bits.tensor, memory);
    *exception = kept;
    return !is_sound;
  };
  const auto num_blocks = static_cast<uint32_t>(coded_blocks(200));
  run.check(is_refused({num_blocks, kept.place, kept.value}), "an exception behind its panel is sound");
  run.check(is_refused({kept.block, kCodedElements, kept.value}), "an exception behind its block is sound");
  auto* first_exception = reinterpret_cast<uint32_t*>(static_cast<char*>(const_cast<void*>(memory)) + 64);
  *first_exception = 0x7fffffff;
  run.check(!is_sound_coded(bits.tensor, memory), "exceptions behind the list are sound");
}

void test_coded_matmul(Run& run, const Ops& ops) {
  for (int rows : {1, 16, 33, 128, 300}) {
    for (int cols : {1, 7, 8, 64, 255, 257, 600}) multiply(run, ops, rows, cols);
  }
}

void test_coded_embed(Run& run, const Ops& ops) {
  ThreadPool two(2);
  for (int size : {1, 8, 17, 172}) {
    Bits bits(50, size);
    fill_gaussian(run, bits);
    scatter(run, bits, 30, true);
    const CodedPanels coded(bits.tensor);
    std::vector<int32_t> ids(50);
    for (int i = 0; i < 50; i++) ids[i] = i * 7 % 50;
    std::vector<float> expected(50 * size), found(50 * size);
    reference_ops().embed({expected.data(), &bits.tensor, ids.data(), 50}, two);
    ops.embed({found.data(), &coded.tensor, ids.data(), 50}, two);
    run.check(expected == found, "embed from coded panels");
  }
}

}  // namespace quire::test
