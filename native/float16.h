// bf16, f16 and e4m3 as scalars. Kernels convert whole vectors; this is for tails, the reference and loading.
#pragma once

#include <cstdint>
#include <cstring>

#include "tensor.h"

namespace quire {

static inline float bits_to_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

static inline uint32_t float_to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

static inline float bf16_to_float(uint16_t half) { return bits_to_float(uint32_t{half} << 16); }

// Round to nearest even; NaN stays NaN.
static inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = float_to_bits(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static inline float f16_to_float(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = (half >> 10) & 0x1f;
  const uint32_t mantissa = half & 0x3ff;
  if (exponent == 0x1f) return bits_to_float(sign | 0x7f800000 | mantissa << 13);
  if (exponent != 0) return bits_to_float(sign | (exponent + 112) << 23 | mantissa << 13);
  // Subnormal: mantissa * 2^-24, exact in f32.
  const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24f;
  return sign != 0 ? -magnitude : magnitude;
}

// Round to nearest even; too large becomes infinite; NaN stays NaN.
static inline uint16_t float_to_f16(float value) {
  const uint32_t bits = float_to_bits(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude < 0x38800000) {
    // Adding 0.5 puts the f16 subnormal's last place at the f32's: the hardware rounds for us.
    const float rounded = bits_to_float(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (float_to_bits(rounded) - 0x3f000000));
  }
  const uint32_t odd = (magnitude >> 13) & 1;
  return static_cast<uint16_t>(sign | ((magnitude + 0xfff + odd - 0x38000000) >> 13));
}

static inline float f8_to_float(uint8_t bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  if ((bits & 0x7f) == 0x7f) return bits_to_float(0x7fc00000);
  // Subnormal: mantissa * 2^-9.
  const float magnitude = exponent == 0 ? static_cast<float>(mantissa) * 0x1.0p-9f
                                        : bits_to_float(static_cast<uint32_t>(exponent + 120) << 23 |
                                                        static_cast<uint32_t>(mantissa) << 20);
  return bits & 0x80 ? -magnitude : magnitude;
}

// Round to nearest even; beyond 448 it stays there; NaN stays NaN.
static inline uint8_t float_to_f8(float value) {
  const float magnitude = value < 0 ? -value : value;
  const uint32_t sign = float_to_bits(value) >> 24 & 0x80;
  if (!(magnitude <= 448)) return static_cast<uint8_t>(sign | (magnitude > 448 ? 0x7e : 0x7f));
  // The nearest of the 127, found by halving: plain, for this is the specification.
  int low = 0, high = 0x7e;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (f8_to_float(static_cast<uint8_t>(middle)) <= magnitude ? low : high) = middle;
  }
  const float below = magnitude - f8_to_float(static_cast<uint8_t>(low));
  const float above = f8_to_float(static_cast<uint8_t>(high)) - magnitude;
  const bool goes_up = below > above || (below == above && low % 2 == 1);
  return static_cast<uint8_t>(sign | static_cast<uint32_t>(goes_up ? high : low));
}

// Element i of a tensor's memory, whatever its form. Memory need not be aligned.
static inline float element(const void* data, DType dtype, int64_t i) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, static_cast<const char*>(data) + i * 4, 4);
    return value;
  }
  if (dtype == DType::kF8) return f8_to_float(static_cast<const uint8_t*>(data)[i]);
  uint16_t half;
  std::memcpy(&half, static_cast<const char*>(data) + i * 2, 2);
  return dtype == DType::kBF16 ? bf16_to_float(half) : f16_to_float(half);
}

// Element i of one head's key (or value) at token `offset` of a block, in any form.
static inline float kv_element(const KvCache& cache, void* data, int64_t block, int kv_head, int offset,
                               int i) {
  const char* rows = cache.at(data, block, kv_head);
  const int64_t at = int64_t{offset} * cache.head_size + i;
  if (cache.dtype != DType::kI8) return element(rows, cache.dtype, at);
  return static_cast<float>(static_cast<int8_t>(rows[at])) * cache.scales_at(data, block, kv_head)[offset];
}

// The integer of [row, col] of a kW4 or kW8 matrix.
static inline int integer_element(const Tensor& m, int64_t row, int64_t col) {
  const auto* data = static_cast<const uint8_t*>(m.data);
  if (m.dtype == DType::kW8) return data[row * m.cols + col];
  const uint8_t byte = data[row * m.cols / 2 + col / 32 * 16 + col % 16];
  return col % 32 < 16 ? byte & 15 : byte >> 4;
}

// Element [row, col] of a matrix of any form but tiles.
static inline float matrix_element(const Tensor& m, int64_t row, int64_t col) {
  if (!is_integer(m.dtype)) {
    const float value = element(m.data, m.dtype, row * m.cols + col);
    return m.row_scales == nullptr ? value : value * m.row_scales[row];
  }
  const int64_t group = row * (m.cols / m.groups.group) + col / m.groups.group;
  return static_cast<float>(integer_element(m, row, col) - m.groups.zeros[group]) * m.groups.scales[group];
}

static inline void set_element(void* data, DType dtype, int64_t i, float value) {
  if (dtype == DType::kF32) {
    std::memcpy(static_cast<char*>(data) + i * 4, &value, 4);
    return;
  }
  if (dtype == DType::kF8) {
    static_cast<uint8_t*>(data)[i] = float_to_f8(value);
    return;
  }
  const uint16_t half = dtype == DType::kBF16 ? float_to_bf16(value) : float_to_f16(value);
  std::memcpy(static_cast<char*>(data) + i * 2, &half, 2);
}

}  // namespace quire
