#include "weight_tiles.h"

#include <cstring>
#include <stdexcept>
#include <string>

#include "awq_tiles.h"

namespace quire {

namespace {

int64_t lines(int64_t bytes) { return (bytes + kTileLine - 1) / kTileLine * kTileLine; }

int64_t num_tiles(const Tensor& w) { return (w.rows + kTileRows - 1) / kTileRows; }
int64_t num_groups(const Tensor& w) { return w.cols / w.groups.group; }
int64_t tile_bytes(const Tensor& w) { return kTileRows * w.cols * bits_of(w.dtype) / 8; }
int64_t data_bytes(const Tensor& w) { return lines(num_tiles(w) * tile_bytes(w)); }
int64_t scales_bytes(const Tensor& w) { return lines(num_tiles(w) * kTileRows * num_groups(w) * 2); }
int64_t zeros_bytes(const Tensor& w) { return lines(num_tiles(w) * kTileRows * num_groups(w)); }

uint32_t word_at(const uint8_t* bytes, int64_t word) {
  uint32_t value;
  std::memcpy(&value, bytes + 4 * word, 4);
  return value;
}

void put_word(uint8_t* to, uint32_t value) { std::memcpy(to, &value, 4); }

// 32 inputs of one row, from tensor.h's 16 bytes: four blocks of 64 bytes with two steps each.
void pack_w4_row(uint8_t* to, const uint8_t* from) {
  constexpr uint32_t kLow = 0x0f0f0f0f;
  for (int half = 0; half < 2; half++) {
    for (int pair = 0; pair < 2; pair++) {
      const uint32_t first = word_at(from, 2 * pair) >> (4 * half) & kLow;
      const uint32_t second = word_at(from, 2 * pair + 1) >> (4 * half) & kLow;
      put_word(to + (2 * half + pair) * kTileLine, first | second << 4);
    }
  }
}

// 32 inputs of one row, a byte each: two times three lines with four steps.
void pack_w6_row(uint8_t* to, const uint8_t* from) {
  constexpr uint32_t kLowest = 0x03030303;
  for (int part = 0; part < 2; part++) {
    const uint32_t fourth = word_at(from, 4 * part + 3);
    for (int line = 0; line < 3; line++) {
      const uint32_t above = fourth >> (2 * line) & kLowest;
      put_word(to + (3 * part + line) * kTileLine, word_at(from, 4 * part + line) | above << 6);
    }
  }
}

void pack_w8_row(uint8_t* to, const uint8_t* from) {
  for (int step = 0; step < 8; step++) put_word(to + step * kTileLine, word_at(from, step));
}

void pack_tile(const Tensor& w, int bits, uint8_t* to, int64_t first_row, int num_rows) {
  const auto pack_row = bits == 4 ? pack_w4_row : bits == 6 ? pack_w6_row : pack_w8_row;
  const int64_t input_bits = bits_of(w.dtype);
  const auto* from = static_cast<const uint8_t*>(w.data) + first_row * w.cols * input_bits / 8;
  for (int64_t k = 0; k < w.cols; k += 32) {
    for (int i = 0; i < num_rows; i++) {
      pack_row(to + k * kTileRows * bits / 8 + 4 * i, from + (i * w.cols + k) * input_bits / 8);
    }
  }
}

void pack_groups(const Tensor& w, uint16_t* scales, uint8_t* zeros, int64_t first_row, int num_rows) {
  for (int64_t g = 0; g < num_groups(w); g++) {
    for (int i = 0; i < num_rows; i++) {
      const int64_t from = (first_row + i) * num_groups(w) + g;
      scales[g * kTileRows + i] = float_to_f16(w.groups.scales[from]);
      if (zeros != nullptr) zeros[g * kTileRows + i] = w.groups.zeros[from];
    }
  }
}

}  // namespace

WeightTiles::WeightTiles(const Tensor& w)
    : data(static_cast<const uint8_t*>(w.data)),
      scales(reinterpret_cast<const uint16_t*>(data + data_bytes(w))),
      zeros(w.groups.zeros),
      num_tiles(quire::num_tiles(w)),
      cols(w.cols),
      group(w.groups.group),
      bits(bits_of(w.dtype)) {}

bool needs_zeros(const Tensor& w) {
  if (w.dtype == DType::kAwq) return awq_needs_zeros(w);
  const int middle = 1 << (bits_of(w.dtype) - 1);
  for (int64_t i = 0; i < w.rows * num_groups(w); i++) {
    if (w.groups.zeros[i] != middle) return true;
  }
  return false;
}

TilePacker::TilePacker(const Tensor& shape, int bits, bool has_zeros) : shape_(shape), has_zeros_(has_zeros) {
  if (shape.groups.group > kMostInGroup) {
    throw std::runtime_error("groups of " + std::to_string(shape.groups.group) +
                             " inputs are not supported: up to " + std::to_string(kMostInGroup) + " are");
  }
  shape_.dtype = bits == 4 ? DType::kW4Tiles : bits == 6 ? DType::kW6Tiles : DType::kW8Tiles;
}

size_t TilePacker::bytes() const {
  return static_cast<size_t>(data_bytes(shape_) + scales_bytes(shape_) +
                             (has_zeros_ ? zeros_bytes(shape_) : 0));
}

void TilePacker::pack(const Tensor& part, int64_t first_row, ThreadPool& pool) const {
  const int64_t tile_groups = kTileRows * num_groups(shape_);
  const int64_t tile_bytes = quire::tile_bytes(shape_);
  const int64_t first_tile = first_row / kTileRows;
  uint8_t* data = memory_ + first_tile * tile_bytes;
  auto* scales = reinterpret_cast<uint16_t*>(memory_ + data_bytes(shape_)) + first_tile * tile_groups;
  uint8_t* zeros = memory_ + data_bytes(shape_) + scales_bytes(shape_) + first_tile * tile_groups;
  if (part.dtype == DType::kAwq) {
    pack_awq_tiles(part, {data, scales, has_zeros_ ? zeros : nullptr}, pool);
    return;
  }
  pool.parallel_for(num_tiles(part), [&](int64_t tile, int) {
    const int64_t row = tile * kTileRows;
    const int num_rows = static_cast<int>(part.rows - row < kTileRows ? part.rows - row : kTileRows);
    uint8_t* tile_zeros = has_zeros_ ? zeros + tile * tile_groups : nullptr;
    if (num_rows < kTileRows) {
      std::memset(data + tile * tile_bytes, 0, static_cast<size_t>(tile_bytes));
      std::memset(scales + tile * tile_groups, 0, static_cast<size_t>(tile_groups) * 2);
      if (has_zeros_) std::memset(tile_zeros, 0, static_cast<size_t>(tile_groups));
    }
    pack_tile(part, bits_of(shape_.dtype), data + tile * tile_bytes, row, num_rows);
    pack_groups(part, scales + tile * tile_groups, tile_zeros, row, num_rows);
  });
}

Tensor TilePacker::tiles() const {
  Tensor tiles = shape_;
  tiles.data = memory_;
  tiles.groups.scales = nullptr;
  tiles.groups.half_scales = nullptr;
  tiles.groups.zeros = has_zeros_ ? memory_ + data_bytes(shape_) + scales_bytes(shape_) : nullptr;
  return tiles;
}

}  // namespace quire
