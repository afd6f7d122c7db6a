// Integer weights as the CPU's integer kernels read them, packed once when a model opens.
//
// A tile is kTileRows outputs by all inputs; its last rows may be padding, with scales of 0. One memory block
// holds, each aligned to a cache line:
//   data    [tiles][cols / 4][16][4] bytes, input 4 * step + j of row i at [step][i][j]: what one dot-product
//           instruction (vpdpbusd) takes is contiguous. kW4Tiles has two steps in a byte, [tiles][cols / 8],
//           step 2 * s in the low halves and 2 * s + 1 in the high ones.
//   scales  [tiles][groups][16] f16
//   zeros   [tiles][groups][16] bytes; left out where all are the middle (8 or 128)
// So a step of 16 outputs streams through memory in one direction, and no sum ever runs across lanes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "float16.h"
#include "tensor.h"
#include "thread_pool.h"

namespace quire {

constexpr int kTileRows = 16;

// A view of a tensor of tiles.
struct WeightTiles {
  const uint8_t* data;
  const uint16_t* scales;
  const uint8_t* zeros;  // null: all are the middle
  int64_t num_tiles;
  int64_t cols;
  int group;
  int bits;

  explicit WeightTiles(const Tensor& tensor);

  int64_t num_groups() const { return cols / group; }
  int64_t tile_bytes() const { return cols * kTileRows * bits / 8; }
  int middle() const { return 1 << (bits - 1); }

  // One at a time, for the reference and tests.
  int integer(int64_t row, int64_t col) const {
    const uint8_t* tile = data + row / kTileRows * tile_bytes();
    const int64_t step = col / 4, at = row % kTileRows * 4 + col % 4;
    if (bits == 8) return tile[step * kTileRows * 4 + at];
    return tile[step / 2 * kTileRows * 4 + at] >> (step % 2 * 4) & 15;
  }
  int zero(int64_t row, int64_t index) const {
    return zeros == nullptr ? middle() : zeros[place_of(row, index)];
  }
  float scale(int64_t row, int64_t index) const { return f16_to_float(scales[place_of(row, index)]); }

 private:
  int64_t place_of(int64_t row, int64_t index) const {
    return (row / kTileRows * num_groups() + index) * kTileRows + row % kTileRows;
  }
};

// Packs one matrix, some rows at a time.
class TilePacker {
 public:
  // `shape` is a kW4 or kW8 matrix; its data is not looked at.
  TilePacker(const Tensor& shape, bool has_zeros);

  size_t bytes() const;
  // Memory of bytes(), aligned to a cache line, that the tiles go to.
  void start(void* memory) { memory_ = static_cast<uint8_t*>(memory); }
  // `part` is rows [first_row, first_row + part.rows) of the matrix; first_row is a multiple of kTileRows.
  void pack(const Tensor& part, int64_t first_row, ThreadPool& pool) const;
  Tensor tiles() const;

 private:
  Tensor shape_;
  bool has_zeros_;
  uint8_t* memory_ = nullptr;
};

// Whether a zero of the matrix is not the middle.
bool needs_zeros(const Tensor& matrix);

}  // namespace quire
