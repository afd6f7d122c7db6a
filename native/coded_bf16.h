// bf16 weights in three quarters of their bits, with every one as it was: panels (weight_panels.h) in which
// an exponent is a code.
//
// The exponents of weights say little. Nearly all of a panel's lie within 15 powers of two, so a weight is a
// byte, its sign and mantissa, and a code of 4 bits: c stands for the exponent base + c, with a base for each
// panel, and 0 for the exponent 0, of zeros and denormals. What has another exponent is an exception, kept
// whole in a list. DFloat11 (arXiv 2504.11651) has the same ground and gives exponents Huffman codes, about
// 11 bits a weight; codes of one length take 12, and one instruction looks up 32 of them.
//
// A block is 4 lines of a panel, 8 inputs of 16 outputs, in three lines of the cache:
//   codes  [32] words; element i of line 0 has its code in the lowest 4 bits of word i, of line 3 in the
//          highest
//   rest   [4][32] bytes, signs and mantissas
// One memory holds
//   header, then for each panel where its exceptions begin and its base
//   blocks      [panels][blocks], inputs behind the last are 0
//   exceptions  panel by panel in any order, each panel's in the order of its elements and ended by kNoBlock
// A matrix with more exceptions than there is room for is left as it is, and the header says so.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor.h"
#include "thread_pool.h"

namespace quire {

constexpr int kCodedLines = 4;
constexpr int kCodedInputs = 8;
constexpr int kCodedLine = 32;  // elements of a line
constexpr int kCodedElements = kCodedLines * kCodedLine;
constexpr int kCodedBytes = 192;  // of a block

struct CodedException {
  uint32_t block;  // of its panel
  uint16_t place;  // in the block's lines
  uint16_t value;
};
constexpr uint32_t kNoBlock = 0xffffffff;

struct CodedPanel {
  const uint8_t* blocks;
  const CodedException* exceptions;
  int base;
};

constexpr int64_t coded_blocks(int64_t cols) { return (cols + kCodedInputs - 1) / kCodedInputs; }

// What `code` stands for, in its place.
constexpr uint16_t coded_exponent(int base, int code) {
  return static_cast<uint16_t>(code == 0 ? 0 : (base + code) << 7);
}
// Sign and mantissa, in theirs.
constexpr uint16_t coded_rest(uint8_t rest) {
  return static_cast<uint16_t>(static_cast<int8_t>(rest)) & 0x807f;
}

size_t coded_bytes(const Tensor& matrix);
// `matrix` is row-major and bf16. `memory` has coded_bytes, is zero and aligned to a cache line. Whoever
// changes what lies where adds one to kTileForm (weight_tiles.h).
void pack_coded(const Tensor& matrix, void* memory, ThreadPool& pool);
// Whether the matrix is there: it had few enough exceptions.
bool is_coded_at(const void* memory);
// Whether what lies there, read from a file, keeps its readers inside it, whatever its numbers are.
bool is_sound_coded(const Tensor& matrix, const void* memory);
Tensor coded_at(const Tensor& matrix, const void* memory);

// Of a matrix from coded_at.
CodedPanel coded_panel(const Tensor& matrix, int64_t panel);
// One row's weights, in order; `to` has room for whole blocks.
void read_coded_row(const Tensor& matrix, int64_t row, uint16_t* to);

}  // namespace quire
