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

// Throw std::runtime_error naming the array, the index and the value that is out of bounds: the one in what
// the layers read, the other in what is read by the rows.
void check_inputs(const Batch& batch, const BatchBounds& bounds, const BatchSizes& sizes);
void check_rows(const Batch& batch, const BatchBounds& bounds, const BatchSizes& sizes);

}  // namespace quire
