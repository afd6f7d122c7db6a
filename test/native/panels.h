#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

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

}  // namespace quire::test
