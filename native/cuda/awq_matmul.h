// 4-bit weights on the GPU: how they lie, and the kernel for few rows.
//
// W4 as the host has it (tensor.h) becomes, once at load, tiles of 16 outputs by 16 inputs, each in the order
// in which the lanes of a warp need it as the left operand of mma.m16n8k16: 32 words, word l for lane l. Four
// tiles that follow each other along the inputs (64 inputs) are interleaved, so that a lane reads 16 bytes.
// Nibble i of a word is the low half, nibble i + 4 the high half of the lane's pair i: (row l / 4, columns 2
// (l % 4)), (row + 8), (columns + 8), (both).
//   data: [outputs / 16, inputs / 64, 32 lanes, 4 tiles] words
//   scales: [inputs / group, outputs] words, the scale as f16 in the low half, the zero in the high half
// outputs and inputs are multiples of 16 and 64; others stay dense.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor.h"

namespace quire::cuda {

struct PackedW4 {
  std::vector<uint32_t> data;
  std::vector<uint32_t> scales;
};

constexpr bool can_pack(int64_t outputs, int64_t inputs, int group) {
  return outputs % 16 == 0 && inputs % 64 == 0 && inputs % group == 0 && group % 32 == 0;
}

// Rows above which it is cheaper to write the weights out once and multiply them densely.
constexpr int kMaxAwqRows = 256;

// From the host's form. Scales are rounded to f16, which is what AutoAWQ stores.
PackedW4 pack_w4(const Tensor& weight);

}  // namespace quire::cuda
