// One vector of floats, three ways. Every kernel is written once against this and compiled once per variant,
// in the namespace QUIRE_VARIANT, so that no symbol of one variant can stand in for another's.
//
// Vec holds kWidth floats. Partial loads fill missing lanes with 0; sums add lanes in one fixed tree, so that
// a result depends on the numbers alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "tensor.h"

#if defined(QUIRE_AVX512) || defined(QUIRE_AVX2)
#include <immintrin.h>
#endif

namespace quire::QUIRE_VARIANT {

// Element types a weight or cache may have.
struct F32 {
  using Storage = float;
};
struct F16 {
  using Storage = uint16_t;
};
struct BF16 {
  using Storage = uint16_t;
};

#if defined(QUIRE_AVX512)

constexpr int kWidth = 16;
using Vec = __m512;

inline Vec zero() { return _mm512_setzero_ps(); }
inline Vec broadcast(float x) { return _mm512_set1_ps(x); }
inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec round(Vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// 2^n for integral n in [-126, 127].
inline Vec power_of_two(Vec n) {
  const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}
inline float sum(Vec a) { return _mm512_reduce_add_ps(a); }
inline float max_lane(Vec a) { return _mm512_reduce_max_ps(a); }

inline Vec from_bf16(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
inline __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1); }

template <typename T>
Vec load(const typename T::Storage* p);
template <>
inline Vec load<F32>(const float* p) {
  return _mm512_loadu_ps(p);
}
template <>
inline Vec load<BF16>(const uint16_t* p) {
  return from_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
template <>
inline Vec load<F16>(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
// kWidth pairs, taken apart.
inline void load_pairs(const uint16_t* p, Vec& first, Vec& second) {
  const __m512i pairs = _mm512_loadu_si512(p);
  first = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
  second = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}
template <typename T>
Vec load_partial(const typename T::Storage* p, int n);
template <>
inline Vec load_partial<F32>(const float* p, int n) {
  return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
template <>
inline Vec load_partial<BF16>(const uint16_t* p, int n) {
  return from_bf16(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}
template <>
inline Vec load_partial<F16>(const uint16_t* p, int n) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}
// (byte >> shift) & mask of kWidth bytes, as numbers.
inline Vec load_bits(const uint8_t* p, int shift, int mask) {
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m512i shifted = _mm512_srl_epi32(bytes, _mm_cvtsi32_si128(shift));
  return _mm512_cvtepi32_ps(_mm512_and_si512(shifted, _mm512_set1_epi32(mask)));
}
inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a); }
inline void store_partial(float* p, Vec a, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), a); }

#else

#if defined(QUIRE_AVX2)

constexpr int kWidth = 8;
using Vec = __m256;

inline Vec zero() { return _mm256_setzero_ps(); }
inline Vec broadcast(float x) { return _mm256_set1_ps(x); }
inline Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec round(Vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Vec power_of_two(Vec n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
inline float sum(Vec a) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline Vec load_bits(const uint8_t* p, int shift, int mask) {
  const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m256i shifted = _mm256_srl_epi32(bytes, _mm_cvtsi32_si128(shift));
  return _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(mask)));
}
inline float max_lane(Vec a) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
template <typename T>
Vec load(const typename T::Storage* p);
template <>
inline Vec load<F32>(const float* p) {
  return _mm256_loadu_ps(p);
}
template <>
inline Vec load<BF16>(const uint16_t* p) {
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
template <>
inline Vec load<F16>(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline void load_pairs(const uint16_t* p, Vec& first, Vec& second) {
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  first = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
  second = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
}
inline void store(float* p, Vec a) { _mm256_storeu_ps(p, a); }

#else  // portable

constexpr int kWidth = 8;
struct Vec {
  float lane[kWidth];
};

template <typename F>
inline Vec each(F f) {
  Vec out;
  for (int i = 0; i < kWidth; i++) out.lane[i] = f(i);
  return out;
}
inline Vec zero() {
  return each([](int) { return 0.0f; });
}
inline Vec broadcast(float x) {
  return each([=](int) { return x; });
}
inline Vec add(const Vec& a, const Vec& b) {
  return each([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline Vec mul(const Vec& a, const Vec& b) {
  return each([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline Vec sub(const Vec& a, const Vec& b) {
  return each([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline Vec div(const Vec& a, const Vec& b) {
  return each([&](int i) { return a.lane[i] / b.lane[i]; });
}
inline Vec max(const Vec& a, const Vec& b) {
  return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline Vec min(const Vec& a, const Vec& b) {
  return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline Vec fma(const Vec& a, const Vec& b, const Vec& c) {
  return each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
}
inline Vec round(const Vec& a) {
  // Adding and taking away 1.5 * 2^23 leaves the nearest integer, for |a| < 2^22.
  constexpr float kMagic = 12582912.0f;
  return each([&](int i) {
    volatile float shifted = a.lane[i] + kMagic;
    return shifted - kMagic;
  });
}
inline Vec power_of_two(const Vec& n) {
  return each([&](int i) {
    const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n.lane[i]) + 127) << 23;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  });
}
inline float sum(const Vec& a) {
  const float* v = a.lane;
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}
inline float max_lane(const Vec& a) {
  float best = a.lane[0];
  for (int i = 1; i < kWidth; i++) best = a.lane[i] > best ? a.lane[i] : best;
  return best;
}
inline Vec load_bits(const uint8_t* p, int shift, int mask) {
  return each([=](int i) { return static_cast<float>((p[i] >> shift) & mask); });
}
inline float half_to_float(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  // The exponent's bias is put right by a multiplication, which also normalises subnormals.
  const uint32_t bits = (half & 0x7fffu) << 13;
  float magnitude;
  std::memcpy(&magnitude, &bits, 4);
  magnitude *= 0x1.0p112f;
  uint32_t out;
  std::memcpy(&out, &magnitude, 4);
  if ((half & 0x7c00u) == 0x7c00u) out |= 0x7f800000u;
  out |= sign;
  std::memcpy(&magnitude, &out, 4);
  return magnitude;
}
template <typename T>
Vec load(const typename T::Storage* p);
template <>
inline Vec load<F32>(const float* p) {
  Vec out;
  std::memcpy(out.lane, p, sizeof(out.lane));
  return out;
}
template <>
inline Vec load<BF16>(const uint16_t* p) {
  return each([&](int i) {
    uint32_t bits = uint32_t{p[i]} << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  });
}
template <>
inline Vec load<F16>(const uint16_t* p) {
  return each([&](int i) { return half_to_float(p[i]); });
}
inline void load_pairs(const uint16_t* p, Vec& first, Vec& second) {
  uint16_t halves[2][kWidth];
  for (int i = 0; i < 2 * kWidth; i++) halves[i % 2][i / 2] = p[i];
  first = load<BF16>(halves[0]);
  second = load<BF16>(halves[1]);
}
inline void store(float* p, const Vec& a) { std::memcpy(p, a.lane, sizeof(a.lane)); }

#endif

template <typename T>
inline Vec load_partial(const typename T::Storage* p, int n) {
  typename T::Storage lanes[kWidth] = {};
  std::memcpy(lanes, p, n * sizeof(lanes[0]));
  return load<T>(lanes);
}
inline void store_partial(float* p, const Vec& a, int n) {
  float lanes[kWidth];
  store(lanes, a);
  std::memcpy(p, lanes, n * sizeof(float));
}

#endif

// e^x to about 1 ulp (Cephes' polynomial after x = n ln 2 + r); below -87 it is 0.
inline Vec exp(Vec x) {
  const Vec low = broadcast(-87.0f);
  const Vec clamped = min(max(x, low), broadcast(88.0f));
  const Vec n = round(mul(clamped, broadcast(1.44269504088896341f)));
  Vec r = fma(n, broadcast(-0.693359375f), clamped);
  r = fma(n, broadcast(2.12194440e-4f), r);
  Vec p = broadcast(1.9875691500e-4f);
  p = fma(p, r, broadcast(1.3981999507e-3f));
  p = fma(p, r, broadcast(8.3334519073e-3f));
  p = fma(p, r, broadcast(4.1665795894e-2f));
  p = fma(p, r, broadcast(1.6666665459e-1f));
  p = fma(p, r, broadcast(5.0000001201e-1f));
  p = add(fma(p, mul(r, r), r), broadcast(1.0f));
  const Vec value = mul(p, power_of_two(n));
#if defined(QUIRE_AVX512)
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, low, _CMP_GE_OQ), value);
#elif defined(QUIRE_AVX2)
  return _mm256_and_ps(_mm256_cmp_ps(x, low, _CMP_GE_OQ), value);
#else
  return each([&](int i) { return x.lane[i] >= -87.0f ? value.lane[i] : 0.0f; });
#endif
}

// Calls body(i, n) for i = 0, kWidth, ... with n = kWidth, and once more with what is left.
template <typename Body>
inline void for_each_vector(int size, const Body& body) {
  int i = 0;
  for (; i + kWidth <= size; i += kWidth) body(i, kWidth);
  if (i < size) body(i, size - i);
}

template <typename T>
inline Vec load_up_to(const typename T::Storage* p, int n) {
  return n == kWidth ? load<T>(p) : load_partial<T>(p, n);
}
inline void store_up_to(float* p, Vec a, int n) {
  if (n == kWidth) {
    store(p, a);
  } else {
    store_partial(p, a, n);
  }
}

// cap * tanh(x / cap).
inline Vec soft_capped(Vec x, float cap) {
  const Vec one = broadcast(1.0f);
  const Vec e = exp(mul(x, broadcast(2.0f / cap)));
  return mul(sub(one, div(broadcast(2.0f), add(e, one))), broadcast(cap));
}

// Calls body(tag) with F32, F16 or BF16.
// For vectors and matrices of plain numbers; matmul alone knows integers.
template <typename Body>
inline void with_dtype(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kF32:
      return body(F32{});
    case DType::kF16:
      return body(F16{});
    case DType::kBF16:
      return body(BF16{});
    default:
      return;
  }
}

// Integer weights of a row in tensor.h's forms.
struct Nibbles {
  static int64_t bytes(int64_t cols) { return cols / 2; }
  static Vec load(const uint8_t* row, int64_t k) {
    return load_bits(row + k / 32 * 16 + k % 16, k % 32 < 16 ? 0 : 4, 15);
  }
};
struct WholeBytes {
  static int64_t bytes(int64_t cols) { return cols; }
  static Vec load(const uint8_t* row, int64_t k) { return load_bits(row + k, 0, 255); }
};

}  // namespace quire::QUIRE_VARIANT
