// Integer weights as the CPU's integer kernels read them, packed once when a model opens.
//
// A tile is kTileRows outputs by all inputs; its last rows may be padding, with scales of 0. One memory block
// holds, each aligned to a cache line:
//   data    [tiles][cols / 4][16][4] bytes, input 4 * step + j of row i at [step][i][j]: what one dot-product
//           instruction (vpdpbusd) takes is contiguous. Fewer bits put more steps into the same lines of 64:
//           kW4Tiles two into one, the first in the low halves of the bytes and the second in the high ones;
//           kW6Tiles four into three, of which each has a step in its low 6 bits, and above them 2 bits of
//           the fourth step, its lowest in the first line.
//   scales  [tiles][groups][16] f16
//   zeros   [tiles][groups][16] bytes; left out where all are the middle (8, 32 or 128)
// So a step of 16 outputs streams through memory in one direction, and no sum ever runs across lanes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "float16.h"
#include "tensor.h"
#include "thread_pool.h"

namespace quire {

constexpr int kTileRows = 16;
// Counts the forms that tiles have had. Whoever changes what lies where, or how numbers are rounded on their
// way into tiles, adds one: files of packed weights (packed_cache.h) are of one form.
constexpr uint32_t kTileForm = 2;
// Four bytes of each row.
constexpr int64_t kTileLine = kTileRows * 4;

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
    if (bits == 4) return tile[step / 2 * kTileLine + at] >> (step % 2 * 4) & 15;
    if (bits == 8) return tile[step * kTileLine + at];
    const uint8_t* line = tile + step / 4 * 3 * kTileLine + at;
    if (step % 4 < 3) return line[step % 4 * kTileLine] & 63;
    return line[0] >> 6 | line[kTileLine] >> 6 << 2 | line[2 * kTileLine] >> 6 << 4;
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
  // `shape` is a kW4 or kW8 matrix; its data is not looked at. 6 bits are those of a kW8 matrix with integers
  // below 64.
  TilePacker(const Tensor& shape, int bits, bool has_zeros);

  size_t bytes() const;
  // Memory of bytes(), aligned to a cache line, that the tiles go to.
  void start(void* memory) { memory_ = static_cast<uint8_t*>(memory); }
  // `part`, in kW4, kW8 or kAwq, is rows [first_row, first_row + part.rows) of the matrix; first_row is a
  // multiple of kTileRows.
  void pack(const Tensor& part, int64_t first_row, ThreadPool& pool) const;
  Tensor tiles() const;

 private:
  Tensor shape_;  // with the form of the tiles
  bool has_zeros_;
  uint8_t* memory_ = nullptr;
};

// Whether a zero of the matrix is not the middle.
bool needs_zeros(const Tensor& matrix);

}  // namespace quire
