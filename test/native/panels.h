#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "coded_bf16.h"
#include "thread_pool.h"
#include "weight_panels.h"

namespace quire::test {

// A matrix of plain numbers once more, as the CPU's kernels read it. What lies behind it is no number.
class Panels {
 public:
  explicit Panels(const Tensor& matrix) : memory_(panel_bytes(matrix) + 2 * kLine, '\xff') {
    ThreadPool pool(1);
    char* start = memory_.data();
    start += (kLine - reinterpret_cast<uintptr_t>(start) % kLine) % kLine;
    pack_panels(matrix, start, pool);
    tensor = panels_at(matrix, start);
  }
  Panels(const Panels&) = delete;

  Tensor tensor;

 private:
  static constexpr size_t kLine = 64;
  std::vector<char> memory_;
};

// The same of one in bf16 with coded exponents, if it can be.
class CodedPanels {
 public:
  explicit CodedPanels(const Tensor& matrix) : memory_(coded_bytes(matrix) + kLine) {
    ThreadPool pool(2);
    char* start = memory_.data();
    start += (kLine - reinterpret_cast<uintptr_t>(start) % kLine) % kLine;
    pack_coded(matrix, start, pool);
    is_whole = is_coded_at(start);
    tensor = coded_at(matrix, start);
  }
  CodedPanels(const CodedPanels&) = delete;

  bool is_whole;
  Tensor tensor;

 private:
  static constexpr size_t kLine = 64;
  std::vector<char> memory_;
};

}  // namespace quire::test
