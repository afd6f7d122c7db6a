// Validation of every index of a batch, compiled into builds with NATIVE_CHECKS=1.
#pragma once

#include <cstdint>

#include "batch.h"

namespace quire {

struct BatchBounds {
  int num_tokens;
  int num_seqs;
  int num_logits_rows;
  int num_hidden_rows;
  int vocab_size;
  int num_blocks;
  int block_size;
  int64_t token_count_capacity;
  int num_earlier_rows;  // of the step before, whose samples may be taken
};

// Throws std::runtime_error naming the array, the index and the value that is out of bounds.
void check_batch(const Batch& batch, const BatchBounds& bounds, const BatchSizes& sizes);

}  // namespace quire
