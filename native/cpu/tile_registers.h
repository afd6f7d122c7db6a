// The tile registers of AMX (Intel's Architecture Software Developer's Manual, volume 2): eight of up to 16
// rows of up to 64 bytes. One instruction multiplies two of them and adds to a third.
//
// Written out because g++ 12's intrinsics do not say that a load reads memory.
#pragma once

#include <cstdint>

namespace quire::QUIRE_VARIANT {

constexpr int kTiles = 8;
constexpr int kTileBytes = 64;  // of a row, at most
constexpr int kTokenTile = 16;

struct TileShape {
  int rows;  // 0: the register is not used
  int row_bytes;
};

// For this thread, until release_tiles(). Clears them.
inline void shape_tiles(const TileShape (&shapes)[kTiles]) {
  struct {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  static_assert(sizeof(config) == 64, "as the instruction reads it");
  for (int i = 0; i < kTiles; i++) {
    config.row_bytes[i] = static_cast<uint16_t>(shapes[i].row_bytes);
    config.rows[i] = static_cast<uint8_t>(shapes[i].rows);
  }
  asm volatile("ldtilecfg %0" : : "m"(config));
}
// Otherwise the system goes on saving them.
inline void release_tiles() { asm volatile("tilerelease"); }

template <int kTile>
inline void clear_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
// Rows lie `stride` bytes apart.
template <int kTile>
inline void load_tile(const void* rows, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
inline void store_tile(void* rows, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
}
// sums[m][n] += the products of row m of x, signed bytes, and column n of w, unsigned ones: four for each row
// of w.
template <int kSums, int kX, int kW>
inline void dot_int8() {
  asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kX), "i"(kW));
}
// The same in f32 for pairs of bf16. Even and odd inputs are two chains of fused multiply-adds, added up and
// then to the sum; numbers below the normal ones are 0.
template <int kSums, int kA, int kB>
inline void dot_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kA), "i"(kB));
}

}  // namespace quire::QUIRE_VARIANT
