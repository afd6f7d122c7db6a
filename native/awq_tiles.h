// AutoAWQ's words straight into tiles, so that a matrix of a checkpoint is read once and written once.
#pragma once

#include <cstdint>

#include "tensor.h"
#include "thread_pool.h"

namespace quire {

// Where AutoAWQ's GEMM layout has the number of output i % 8 in a word.
constexpr int kAwqShift[8] = {0, 16, 4, 20, 8, 24, 12, 28};

// Where the tiles of some rows begin (weight_tiles.h); zeros may be null.
struct TileMemory {
  uint8_t* data;
  uint16_t* scales;
  uint8_t* zeros;
};

// A matrix in kAwq as tiles of 4 bits, the rest of the last tile as padding.
void pack_awq_tiles(const Tensor& matrix, const TileMemory& tiles, ThreadPool& pool);

// Whether a zero of a matrix in kAwq is not the middle.
bool awq_needs_zeros(const Tensor& matrix);

}  // namespace quire
