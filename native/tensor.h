// A weight or cache as it lies in memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quire {

// kW4, kW8 and kAwq are for matrices only: see Groups. The tiles, of 4, 6 and 8 bits, are what the CPU's
// integer kernels read (weight_tiles.h). kF8 (e4m3) is for keys and values, and for matrices of a GPU that
// multiplies it; kI8 (see KvCache) is for keys and values only.
enum class DType : uint8_t { kF32, kF16, kBF16, kF8, kI8, kW4, kW8, kAwq, kW4Tiles, kW6Tiles, kW8Tiles };

// Whether weights are integers in groups.
constexpr bool is_integer(DType dtype) { return dtype >= DType::kW4; }
constexpr bool has_4_bits(DType dtype) {
  return dtype == DType::kW4 || dtype == DType::kAwq || dtype == DType::kW4Tiles;
}
// Of one integer of a weight that has them.
constexpr int bits_of(DType dtype) { return has_4_bits(dtype) ? 4 : dtype == DType::kW6Tiles ? 6 : 8; }
constexpr bool is_tiled(DType dtype) { return dtype >= DType::kW4Tiles; }

// Of one element; integer weights have none.
constexpr size_t dtype_size(DType dtype) {
  return dtype == DType::kF32 ? 4 : dtype == DType::kF8 || dtype == DType::kI8 ? 1 : 2;
}

// Integer weights in groups of `group` inputs: weight = (q - zero) * scale, q and zero unsigned. group and
// cols are multiples of 32, group at most kMostInGroup. kW8 has a byte for each q. kW4 has 16 bytes for each
// 32 inputs of a row: byte j holds input j in its low half and input 16 + j in its high half. kAwq is on its
// way into tiles, where AutoAWQ's file has it, its rows across: words of eight numbers each, data [cols, rows
// / 8] and zeros [cols / group, rows / 8], and half_scales instead of scales; no more than a byte is aligned.
struct Groups {
  const float* scales = nullptr;   // [rows, cols / group], numbers that f16 has too
  const uint8_t* zeros = nullptr;  // [rows, cols / group]
  int group = 0;
  const char* half_scales = nullptr;  // of kAwq: [cols / group, rows] f16
};

constexpr int kMostInGroup = 128;

// A matrix [rows, cols], row-major (a weight is [out, in]), or a vector with rows == 1. Not owned. Elements
// are aligned to their own size, no more.
struct Tensor {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  Groups groups = {};  // of integer weights
  // [rows], of a matrix in kF8: a weight is its element times its row's scale.
  const float* row_scales = nullptr;
  // A matrix of plain numbers that lies as weight_panels.h says, and not row by row.
  bool in_panels = false;
  // The same in bf16, as coded_bf16.h says.
  bool is_coded = false;
  explicit operator bool() const { return data != nullptr; }
};

// What one head's keys, or values, of one block take. kI8 (vLLM's int8_per_token_head) has integers from -127
// to 127, and behind the block's rows a scale for each of its tokens, f32 [block_size]:
// value = integer * scale.
constexpr int64_t kv_head_block_bytes(DType dtype, int block_size, int head_size) {
  const int64_t row = head_size * static_cast<int64_t>(dtype_size(dtype));
  return block_size * (row + (dtype == DType::kI8 ? static_cast<int64_t>(sizeof(float)) : 0));
}

// K and V of one layer, each [num_blocks, num_kv_heads, block_size, head_size]: the keys of one head in one
// block are contiguous, and with kI8 followed by their scales (kv_head_block_bytes). Token slot s lies in
// block s / block_size at offset s % block_size. dtype is any but kF8 on the CPU, the activations' or kF8 on
// a GPU.
struct KvCache {
  void* k = nullptr;
  void* v = nullptr;
  DType dtype = DType::kF32;
  int num_blocks = 0;
  int block_size = 0;
  int num_kv_heads = 0;
  int head_size = 0;

  int64_t head_block_bytes() const { return kv_head_block_bytes(dtype, block_size, head_size); }
  // Where the keys (or values) of one head in one block start.
  char* at(void* data, int64_t block, int kv_head) const {
    return static_cast<char*>(data) + (block * num_kv_heads + kv_head) * head_block_bytes();
  }
  // Behind them, with kI8: [block_size].
  float* scales_at(void* data, int64_t block, int kv_head) const {
    return reinterpret_cast<float*>(at(data, block, kv_head) + int64_t{block_size} * head_size);
  }
};

// Activations as the CPU has them.
inline float* f32(void* activations) { return static_cast<float*>(activations); }
inline const float* f32(const void* activations) { return static_cast<const float*>(activations); }

}  // namespace quire
