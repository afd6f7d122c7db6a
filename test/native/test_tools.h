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

// The values that bf16 has nearest to these.
inline std::vector<float> rounded_to_bf16(std::vector<float> values) {
  for (float& value : values) value = bf16_to_float(float_to_bf16(value));
  return values;
}

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

// Elements are counted over [num_blocks, kv_heads, block_size, head_size].
class PagedCache {
 public:
  PagedCache(int num_blocks, int kv_heads, int block_size, int head_size, DType dtype)
      : shape_{nullptr, nullptr, dtype, num_blocks, block_size, kv_heads, head_size},
        k_(num_blocks * kv_heads * shape_.head_block_bytes()),
        v_(k_.size()) {}

  int64_t size() const {
    return int64_t{shape_.num_blocks} * shape_.num_kv_heads * shape_.block_size * shape_.head_size;
  }
  void fill(Run& run) {
    for (int block = 0; block < shape_.num_blocks; block++) {
      for (int offset = 0; offset < shape_.block_size; offset++) fill(run, block, offset);
    }
  }
  // One token's keys and values of all heads, in [-1, 1].
  void fill(Run& run, int block, int offset) {
    for (int head = 0; head < shape_.num_kv_heads; head++) {
      for (std::vector<char>* memory : {&k_, &v_}) {
        if (shape_.dtype == DType::kI8) {
          shape_.scales_at(memory->data(), block, head)[offset] = static_cast<float>(run.uniform() / 127);
        }
        for (int i = 0; i < shape_.head_size; i++) {
          char* rows = shape_.at(memory->data(), block, head);
          const int at = offset * shape_.head_size + i;
          if (shape_.dtype == DType::kI8) {
            rows[at] = static_cast<char>(run.below(255) - 127);
          } else {
            set_element(rows, shape_.dtype, at, static_cast<float>(2 * run.uniform() - 1));
          }
        }
      }
    }
  }
  KvCache view() {
    KvCache cache = shape_;
    cache.k = k_.data();
    cache.v = v_.data();
    return cache;
  }
  double k_at(int64_t i) { return at(k_, i); }
  double v_at(int64_t i) { return at(v_, i); }
  // With kI8, what the integers of element i's token count.
  double k_scale_at(int64_t i) { return scale(k_, i); }
  double v_scale_at(int64_t i) { return scale(v_, i); }

 private:
  double at(std::vector<char>& memory, int64_t i) {
    const int64_t token = i / shape_.head_size, head = token / shape_.block_size;
    return kv_element(shape_, memory.data(), head / shape_.num_kv_heads,
                      static_cast<int>(head % shape_.num_kv_heads),
                      static_cast<int>(token % shape_.block_size), static_cast<int>(i % shape_.head_size));
  }
  double scale(std::vector<char>& memory, int64_t i) {
    const int64_t token = i / shape_.head_size, head = token / shape_.block_size;
    return shape_.scales_at(memory.data(), head / shape_.num_kv_heads,
                            static_cast<int>(head % shape_.num_kv_heads))[token % shape_.block_size];
  }

  KvCache shape_;
  std::vector<char> k_;
  std::vector<char> v_;
};

}  // namespace quire::test
