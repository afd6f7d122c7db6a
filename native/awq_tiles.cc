#include "awq_tiles.h"

#include <algorithm>
#include <cstring>

#include "weight_tiles.h"

namespace quire {

namespace {

// Inputs of a line of a tile.
constexpr int kLineInputs = 8;
// The tiles of 16 words, which are a cache line of the file.
constexpr int64_t kPieceTiles = 8;
// How far ahead a line of the file is asked for: they lie too far apart for the processor to guess.
constexpr int64_t kInputsAhead = 32;
constexpr uint64_t kLowHalves = 0x0f0f0f0f0f0f0f0f;

// The two words of 16 outputs, nothing where the matrix has but eight more.
uint64_t words_at(const char* at, int num_rows) {
  uint64_t words = 0;
  std::memcpy(&words, at, static_cast<size_t>(num_rows) / 2);
  return words;
}

// Which row of the tile byte i of the low halves of two words belongs to; the high halves' is 2 more.
constexpr int kRowOfByte[8] = {0, 4, 1, 5, 8, 12, 9, 13};

void pack_line(uint8_t* line, const uint64_t* inputs) {
  for (int j = 0; j < 4; j++) {
    const uint64_t first = inputs[j], second = inputs[4 + j];
    const uint64_t low = (first & kLowHalves) | (second & kLowHalves) << 4;
    const uint64_t high = (first >> 4 & kLowHalves) | (second & ~kLowHalves);
    for (int i = 0; i < 8; i++) {
      line[4 * kRowOfByte[i] + j] = static_cast<uint8_t>(low >> (8 * i));
      line[4 * (kRowOfByte[i] + 2) + j] = static_cast<uint8_t>(high >> (8 * i));
    }
  }
}

void pack_zeros(uint8_t* zeros, uint64_t words, int num_rows) {
  for (int i = 0; i < num_rows; i++) {
    zeros[i] = static_cast<uint8_t>(words >> (i / 8 * 32 + kAwqShift[i % 8]) & 15);
  }
}

}  // namespace

void pack_awq_tiles(const Tensor& w, const TileMemory& tiles, ThreadPool& pool) {
  const int64_t num_tiles = (w.rows + kTileRows - 1) / kTileRows;
  const int64_t groups = w.cols / w.groups.group;
  const int64_t line_stride = w.rows / 2;
  const auto* words = static_cast<const char*>(w.data);
  const auto* zero_words = reinterpret_cast<const char*>(w.groups.zeros);
  const auto rows_of = [&](int64_t tile) {
    return static_cast<int>(std::min<int64_t>(kTileRows, w.rows - tile * kTileRows));
  };
  pool.parallel_for((num_tiles + kPieceTiles - 1) / kPieceTiles, [&](int64_t piece, int) {
    const int64_t first = piece * kPieceTiles, last = std::min(num_tiles, first + kPieceTiles);
    for (int64_t k = 0; k < w.cols; k += kLineInputs) {
      const char* from = words + k * line_stride + first * kTileRows / 2;
      const int64_t ahead = std::min(kInputsAhead, w.cols - kLineInputs - k);
      for (int j = 0; j < kLineInputs; j++) __builtin_prefetch(from + (ahead + j) * line_stride);
      for (int64_t tile = first; tile < last; tile++) {
        uint64_t inputs[kLineInputs];
        for (int j = 0; j < kLineInputs; j++) {
          inputs[j] = words_at(from + j * line_stride + (tile - first) * kTileRows / 2, rows_of(tile));
        }
        pack_line(tiles.data + (tile * w.cols + k) * kTileRows / 2, inputs);
      }
    }
    for (int64_t tile = first; tile < last; tile++) {
      const int num_rows = rows_of(tile);
      for (int64_t g = 0; g < groups; g++) {
        const int64_t to = (tile * groups + g) * kTileRows, from = g * w.rows + tile * kTileRows;
        std::memset(tiles.scales + to, 0, kTileRows * sizeof(uint16_t));
        std::memcpy(tiles.scales + to, w.groups.half_scales + 2 * from, 2 * static_cast<size_t>(num_rows));
        if (tiles.zeros == nullptr) continue;
        std::memset(tiles.zeros + to, 0, kTileRows);
        pack_zeros(tiles.zeros + to, words_at(zero_words + from / 2, num_rows), num_rows);
      }
    }
  });
}

bool awq_needs_zeros(const Tensor& w) {
  constexpr uint8_t kMiddles = 0x88;
  const int64_t bytes = w.rows * (w.cols / w.groups.group) / 2;
  return std::any_of(w.groups.zeros, w.groups.zeros + bytes, [](uint8_t two) { return two != kMiddles; });
}

}  // namespace quire
