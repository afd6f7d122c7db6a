// What the op tests share: seeded numbers, counted checks, weights and paged caches in every form.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "float16.h"
#include "philox.h"
#include "tensor.h"

namespace quire::test {

// One group's checks and its random numbers, all from the seed.
class Run {
 public:
  explicit Run(uint64_t seed, bool prints = true) : seed_(seed), prints_(prints) {}

  uint64_t seed() const { return seed_; }
  int64_t passed() const { return passed_; }
  int64_t failed() const { return failed_; }

  double uniform() {
    return philox_uniform(static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32), counter_++);
  }
  int below(int limit) { return static_cast<int>(uniform() * limit); }
  // In [-1, 1].
  std::vector<float> values(int64_t count) {
    std::vector<float> out(count);
    for (float& value : out) value = static_cast<float>(2 * uniform() - 1);
    return out;
  }

  void check(bool holds, const char* what) {
    (holds ? passed_ : failed_)++;
    if (!holds && prints_ && failed_ <= 5) std::printf("  FAILED: %s\n", what);
  }
  void near(double found, double expected, double tolerance, const char* what) {
    const bool holds = std::fabs(found - expected) <= tolerance;
    (holds ? passed_ : failed_)++;
    if (!holds && prints_ && failed_ <= 5) {
      std::printf("  FAILED: %s: found %.9g, expected %.9g within %.3g\n", what, found, expected, tolerance);
    }
  }

 private:
  uint64_t seed_;
  bool prints_;
  uint64_t counter_ = 0;
  int64_t passed_ = 0;
  int64_t failed_ = 0;
};

// A random weight in a given form, aligned to its element size and no more.
class Matrix {
 public:
  Matrix(Run& run, int64_t rows, int64_t cols, DType dtype) : memory_((rows * cols + 1) * dtype_size(dtype)) {
    tensor = {memory_.data() + dtype_size(dtype), dtype, rows, cols};
    for (int64_t i = 0; i < rows * cols; i++) {
      set_element(memory_.data() + dtype_size(dtype), dtype, i, static_cast<float>(2 * run.uniform() - 1));
    }
  }
  Matrix(const Matrix&) = delete;

  double at(int64_t i) const { return element(tensor.data, tensor.dtype, i); }

  Tensor tensor;

 private:
  std::vector<char> memory_;
};

class PagedCache {
 public:
  PagedCache(int num_blocks, int kv_heads, int block_size, int head_size, DType dtype)
      : shape_{nullptr, nullptr, dtype, num_blocks, block_size, kv_heads, head_size},
        k_(size() * dtype_size(dtype)),
        v_(k_.size()) {}

  int64_t size() const {
    return int64_t{shape_.num_blocks} * shape_.num_kv_heads * shape_.block_size * shape_.head_size;
  }
  void fill(Run& run) {
    for (int64_t i = 0; i < size(); i++) {
      set_element(k_.data(), shape_.dtype, i, static_cast<float>(2 * run.uniform() - 1));
      set_element(v_.data(), shape_.dtype, i, static_cast<float>(2 * run.uniform() - 1));
    }
  }
  KvCache view() {
    KvCache cache = shape_;
    cache.k = k_.data();
    cache.v = v_.data();
    return cache;
  }
  double k_at(int64_t i) const { return element(k_.data(), shape_.dtype, i); }
  double v_at(int64_t i) const { return element(v_.data(), shape_.dtype, i); }

 private:
  KvCache shape_;
  std::vector<char> k_;
  std::vector<char> v_;
};

}  // namespace quire::test
