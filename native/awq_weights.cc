// Matrices in 4 bits as AutoAWQ checkpoints hold them, or made up.

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "adapters.h"
#include "awq_tiles.h"
#include "float16.h"
#include "philox.h"
#include "weights.h"

namespace quire {

namespace {

uint32_t awq_word(const char* at) {
  uint32_t word;
  std::memcpy(&word, at, 4);
  return word;
}

// 32 inputs of 8 outputs: a word for each input, file_stride bytes apart, become 16 bytes for each output,
// out_stride bytes apart (tensor.h).
void unpack_awq(uint8_t* out, int64_t out_stride, const char* words, int64_t file_stride) {
  uint32_t inputs[32];
  for (int k = 0; k < 32; k++) inputs[k] = awq_word(words + k * file_stride);
  for (int i = 0; i < 8; i++) {
    const int shift = kAwqShift[i];
    for (int j = 0; j < 16; j++) {
      out[i * out_stride + j] =
          static_cast<uint8_t>((inputs[j] >> shift & 15) | (inputs[16 + j] >> shift & 15) << 4);
    }
  }
}

}  // namespace

// AutoAWQ's GEMM layout: qweight [in, out / 8] and qzeros [in / group, out / 8] are words of eight 4-bit
// numbers, outputs 0 2 4 6 1 3 5 7 from the low end; scales [in / group, out] are f16. (AutoAWQ,
// awq/modules/linear/gemm.py)
Tensor Weights::read_awq(const TensorSource& source, bool goes_into_tiles) {
  const int64_t rows = source.rows, cols = source.cols;
  if (projection_of(source.slot.c_str()) < 0 || source.group < 32 || source.group % 32 != 0 ||
      cols % source.group != 0 || rows % 8 != 0) {
    throw std::runtime_error("tensor " + source_name(source) + " cannot be 4-bit in groups of " +
                             std::to_string(source.group));
  }
  const int64_t groups = cols / source.group;
  if (source.file < 0) return dummy_w4(source, groups);
  const char* qweight = part(source, {source.file, source.offset, source.bytes}, rows * cols / 2);
  const char* qzeros = part(source, source.qzeros, groups * rows / 2);
  const char* file_scales = part(source, source.scales, groups * rows * 2);
  if (goes_into_tiles) {
    const auto* zeros = reinterpret_cast<const uint8_t*>(qzeros);
    return {qweight, DType::kAwq, rows, cols, {nullptr, zeros, source.group, file_scales}};
  }
  auto* data = static_cast<uint8_t*>(allocate(rows * cols / 2));
  auto* scales = static_cast<float*>(allocate(rows * groups * 4));
  auto* zeros = static_cast<uint8_t*>(allocate(rows * groups));
  // A cache line of the file has 16 words, which are 128 rows here.
  constexpr int64_t kRowsPerPiece = 128;
  pool_.parallel_for((rows + kRowsPerPiece - 1) / kRowsPerPiece, [&](int64_t piece, int) {
    const int64_t end = std::min(rows, (piece + 1) * kRowsPerPiece);
    for (int64_t k = 0; k < cols; k += 32) {
      for (int64_t row = piece * kRowsPerPiece; row < end; row += 8) {
        unpack_awq(data + (row * cols + k) / 2, cols / 2, qweight + (k * rows + row) / 2, rows / 2);
      }
    }
    for (int64_t g = 0; g < groups; g++) {
      for (int64_t row = piece * kRowsPerPiece; row < end; row++) {
        scales[row * groups + g] = element(file_scales, DType::kF16, g * rows + row);
        zeros[row * groups + g] =
            static_cast<uint8_t>(awq_word(qzeros + (g * rows + row / 8 * 8) / 2) >> kAwqShift[row % 8] & 15);
      }
    }
  });
  return {data, DType::kW4, rows, cols, {scales, zeros, source.group}};
}

// Seeded random integers around the middle, of kDummyStddev like the others.
Tensor Weights::dummy_w4(const TensorSource& source, int64_t groups) {
  constexpr float kStddevOfUniform = 4.6f;  // of the integers 0 to 15
  const int64_t count = source.rows * source.cols;
  auto* data = static_cast<uint8_t*>(allocate(count / 2));
  auto* scales = static_cast<float*>(allocate(source.rows * groups * 4));
  auto* zeros = static_cast<uint8_t*>(allocate(source.rows * groups));
  const float scale = f16_to_float(float_to_f16(kDummyStddev / kStddevOfUniform));
  const uint64_t stream = stream_of(source);
  pool_.parallel_for(source.rows, [&](int64_t row, int) {
    for (int64_t i = row * source.cols / 2; i < (row + 1) * source.cols / 2; i++) {
      data[i] = static_cast<uint8_t>(philox4x32(0, 0, static_cast<uint64_t>(i), stream).words[0]);
    }
    std::fill(scales + row * groups, scales + (row + 1) * groups, scale);
    std::fill(zeros + row * groups, zeros + (row + 1) * groups, uint8_t{8});
  });
  return {data, DType::kW4, source.rows, source.cols, {scales, zeros, source.group}};
}

}  // namespace quire
