// Keys and values in 8 bits: e4m3 of OCP's "8-bit Floating Point Specification" (OFP8), 4 bits of exponent
// and 3 of mantissa, up to 448, no infinity. The same steps on every GPU: those before sm_89 have no
// instructions for it.
#pragma once

#include "cuda/device.h"

namespace quire::cuda {

struct F8 {
  uint8_t bits;
};
template <>
struct DTypeOf<F8> {
  static constexpr DType value = DType::kF8;
};

// Rounded to nearest even; beyond 448 it stays there.
template <>
QUIRE_DEVICE F8 from_float<F8>(float x) {
  const uint32_t sign = float_as_bits(x) >> 24 & 0x80;
  const float magnitude = fabsf(x);
  if (!(magnitude <= 448)) return {static_cast<uint8_t>(sign | (magnitude > 448 ? 0x7e : 0x7f))};
  // Below 2^-6 the last place stands at 2^-9 whatever the exponent.
  if (magnitude < 0x1.0p-6f) {
    return {static_cast<uint8_t>(sign | static_cast<uint32_t>(rintf(magnitude * 0x1.0p9f)))};
  }
  const uint32_t bits = float_as_bits(magnitude);
  const uint32_t rounded = (bits + 0x7ffff + (bits >> 20 & 1)) >> 20;
  return {static_cast<uint8_t>(sign | (rounded - (120 << 3)))};
}

// Two numbers in 16 bits each from two bytes that lie in bits 0-7 and 16-23: the exponent goes to its place,
// and a product puts its bias right, for subnormals too. NaN, which is never stored, would read as 480.
QUIRE_DEVICE uint32_t widen_pair(uint32_t bytes, Half) {
  const uint32_t moved = (bytes & 0x00800080) << 8 | (bytes & 0x007f007f) << 7;
  return multiply_pair(moved, 0x5c005c00, Half{});  // 2^8
}
QUIRE_DEVICE uint32_t widen_pair(uint32_t bytes, BFloat) {
  const uint32_t moved = (bytes & 0x00800080) << 8 | (bytes & 0x007f007f) << 4;
  return multiply_pair(moved, 0x7b807b80, BFloat{});  // 2^120
}

// Eight numbers in their order.
template <typename T>
QUIRE_DEVICE Words4 widen(uint64_t bytes) {
  Words4 out;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const uint32_t four = static_cast<uint32_t>(bytes >> (32 * half));
    const uint32_t even = widen_pair(four, T{});
    const uint32_t odd = widen_pair(four >> 8, T{});
    out.w[2 * half] = (even & 0xffff) | odd << 16;
    out.w[2 * half + 1] = even >> 16 | (odd & 0xffff0000);
  }
  return out;
}

}  // namespace quire::cuda
