// The memory that batch.h describes: one allocation, every array on a cache line of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "batch.h"

namespace quire {

// One array of the arena, for the binding to hand out. `field` is its name in engine/native.ts.
struct ArenaArray {
  enum class Type { kInt32, kUint32, kFloat32 };
  const char* field;
  Type type;
  void* data;
  int64_t length;  // elements, all of 4 bytes
};

class Arena {
 public:
  explicit Arena(const BatchSizes& sizes);

  const Batch& batch() const { return batch_; }
  const std::vector<ArenaArray>& arrays() const { return arrays_; }
  int64_t bytes() const { return bytes_; }
  // The arrays of a number for each token or sequence lie together at the front, and behind them those of a
  // number for each row.
  int64_t token_bytes() const { return bytes_before(batch_.hidden_rows); }
  int64_t row_bytes() const { return bytes_before(batch_.block_table) - token_bytes(); }
  int64_t token_count_capacity() const { return token_count_capacity_; }

  // Room for at least `entries` token counts. The new arrays replace the old, which stay alive as long as the
  // shared pointers that `memory` and `token_count_memory` gave out.
  void reserve_token_counts(int64_t entries);

  // Keeps the memory alive for views that outlive the model.
  std::shared_ptr<void> memory() const { return memory_; }
  std::shared_ptr<void> token_count_memory() const { return token_count_memory_; }
  ArenaArray token_count_ids() const;
  ArenaArray token_counts() const;

 private:
  int64_t bytes_before(const int32_t* array) const {
    return reinterpret_cast<const char*>(array) - static_cast<const char*>(memory_.get());
  }

  Batch batch_{};
  std::vector<ArenaArray> arrays_;
  std::shared_ptr<void> memory_;
  std::shared_ptr<void> token_count_memory_;
  int64_t bytes_ = 0;
  int64_t token_count_capacity_ = 0;
};

}  // namespace quire
