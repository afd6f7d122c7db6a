// What keys and values need beside simd.h: 8-bit integers, f16 stores, and a square of rows turned into
// columns.
//
// Rows are transposed as 32-bit words, whatever they hold (one f32, two halves, four bytes): moving words is
// what costs, and a word's parts become floats afterwards, a whole vector at a time.
#pragma once

#include <type_traits>
#include <utility>

#include "cpu/simd.h"
#include "float16.h"

namespace quire::QUIRE_VARIANT {

struct I8 {
  using Storage = int8_t;
};

// Numbers of form T in a word.
template <typename T>
constexpr int kPerWord = 4 / static_cast<int>(sizeof(typename T::Storage));

// __builtin_prefetch's way to the second-level cache: far more lines can be on their way there than to the
// first. (In a function of its own g++ takes a prefetch for nothing and drops it.)
constexpr int kSecondLevel = 2;

#if defined(QUIRE_AVX512)

template <>
inline Vec load<I8>(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
template <>
inline Vec load_partial<I8>(const int8_t* p, int n) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first_lanes(n), p)));
}
inline void store_f16(uint16_t* p, Vec a, int n) {
  const __m256i halves = _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_mask_storeu_epi16(p, first_lanes(n), halves);
}

// `bytes` of 4 * kWidth, the rest 0.
inline Vec load_words(const char* p, int bytes) {
  if (bytes == 64) return _mm512_loadu_ps(p);
  return _mm512_castsi512_ps(_mm512_maskz_loadu_epi8((uint64_t{1} << bytes) - 1, p));
}

[[gnu::always_inline]] inline void transpose(Vec (&rows)[kWidth]) {
  Vec pairs[kWidth], quads[kWidth];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
  }
  const auto unpack = [](Vec a, Vec b, bool high) {
    const __m512d x = _mm512_castps_pd(a), y = _mm512_castps_pd(b);
    return _mm512_castpd_ps(high ? _mm512_unpackhi_pd(x, y) : _mm512_unpacklo_pd(x, y));
  };
  // quads[4 g + c]: in each quarter q, column 4 q + c of rows 4 g to 4 g + 3.
  for (int g = 0; g < 16; g += 4) {
    quads[g] = unpack(pairs[g], pairs[g + 2], false);
    quads[g + 1] = unpack(pairs[g], pairs[g + 2], true);
    quads[g + 2] = unpack(pairs[g + 1], pairs[g + 3], false);
    quads[g + 3] = unpack(pairs[g + 1], pairs[g + 3], true);
  }
  for (int c = 0; c < 4; c++) {
    const Vec low_even = _mm512_shuffle_f32x4(quads[c], quads[4 + c], 0x88);
    const Vec low_odd = _mm512_shuffle_f32x4(quads[c], quads[4 + c], 0xdd);
    const Vec high_even = _mm512_shuffle_f32x4(quads[8 + c], quads[12 + c], 0x88);
    const Vec high_odd = _mm512_shuffle_f32x4(quads[8 + c], quads[12 + c], 0xdd);
    rows[c] = _mm512_shuffle_f32x4(low_even, high_even, 0x88);
    rows[4 + c] = _mm512_shuffle_f32x4(low_odd, high_odd, 0x88);
    rows[8 + c] = _mm512_shuffle_f32x4(low_even, high_even, 0xdd);
    rows[12 + c] = _mm512_shuffle_f32x4(low_odd, high_odd, 0xdd);
  }
}

// Part `part` of each word as a number.
template <typename T>
Vec unpack(Vec words, int part);
template <>
inline Vec unpack<F32>(Vec words, int) {
  return words;
}
template <>
inline Vec unpack<BF16>(Vec words, int part) {
  const __m512i bits = _mm512_castps_si512(words);
  return _mm512_castsi512_ps(part == 0 ? _mm512_slli_epi32(bits, 16)
                                       : _mm512_and_si512(bits, _mm512_set1_epi32(-65536)));
}
template <>
inline Vec unpack<F16>(Vec words, int part) {
  const __m512i bits = _mm512_castps_si512(words);
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(part == 0 ? bits : _mm512_srli_epi32(bits, 16)));
}
template <>
inline Vec unpack<I8>(Vec words, int part) {
  const __m128i up = _mm_cvtsi32_si128(24 - 8 * part);
  const __m512i high = _mm512_sll_epi32(_mm512_castps_si512(words), up);
  return _mm512_cvtepi32_ps(_mm512_srai_epi32(high, 24));
}

#else

inline Vec load_words(const char* p, int bytes) {
  float words[kWidth] = {};
  std::memcpy(words, p, bytes);
  return load<F32>(words);
}

#if defined(QUIRE_AVX2)

template <>
inline Vec load<I8>(const int8_t* p) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}
inline void store_f16(uint16_t* p, Vec a, int n) {
  const __m128i halves = _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  std::memcpy(p, &halves, n * sizeof(uint16_t));
}

[[gnu::always_inline]] inline void transpose(Vec (&rows)[kWidth]) {
  Vec pairs[kWidth], quads[kWidth];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
  for (int g = 0; g < 8; g += 4) {
    quads[g] = _mm256_shuffle_ps(pairs[g], pairs[g + 2], 0x44);
    quads[g + 1] = _mm256_shuffle_ps(pairs[g], pairs[g + 2], 0xee);
    quads[g + 2] = _mm256_shuffle_ps(pairs[g + 1], pairs[g + 3], 0x44);
    quads[g + 3] = _mm256_shuffle_ps(pairs[g + 1], pairs[g + 3], 0xee);
  }
  for (int c = 0; c < 4; c++) {
    rows[c] = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x20);
    rows[4 + c] = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x31);
  }
}

template <typename T>
Vec unpack(Vec words, int part);
template <>
inline Vec unpack<F32>(Vec words, int) {
  return words;
}
template <>
inline Vec unpack<BF16>(Vec words, int part) {
  const __m256i bits = _mm256_castps_si256(words);
  return _mm256_castsi256_ps(part == 0 ? _mm256_slli_epi32(bits, 16)
                                       : _mm256_and_si256(bits, _mm256_set1_epi32(-65536)));
}
template <>
inline Vec unpack<F16>(Vec words, int part) {
  const __m256i bits = _mm256_castps_si256(words);
  const __m256i halves =
      part == 0 ? _mm256_and_si256(bits, _mm256_set1_epi32(0xffff)) : _mm256_srli_epi32(bits, 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(halves, halves), 0x08);
  return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}
template <>
inline Vec unpack<I8>(Vec words, int part) {
  const __m128i up = _mm_cvtsi32_si128(24 - 8 * part);
  const __m256i high = _mm256_sll_epi32(_mm256_castps_si256(words), up);
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(high, 24));
}

#else  // portable

template <>
inline Vec load<I8>(const int8_t* p) {
  return each([&](int i) { return static_cast<float>(p[i]); });
}
inline void store_f16(uint16_t* p, const Vec& a, int n) {
  for (int i = 0; i < n; i++) p[i] = float_to_f16(a.lane[i]);
}

[[gnu::always_inline]] inline void transpose(Vec (&rows)[kWidth]) {
  for (int i = 0; i < kWidth; i++) {
    for (int j = 0; j < i; j++) {
      const float word = rows[i].lane[j];
      rows[i].lane[j] = rows[j].lane[i];
      rows[j].lane[i] = word;
    }
  }
}

template <typename T>
inline Vec unpack(const Vec& words, int part) {
  typename T::Storage parts[kWidth];
  const char* from = reinterpret_cast<const char*>(words.lane) + part * sizeof(parts[0]);
  for (int i = 0; i < kWidth; i++) std::memcpy(&parts[i], from + i * 4, sizeof(parts[0]));
  return load<T>(parts);
}

#endif

#endif

// Calls body with 0 to kCount - 1, as constants: what they index stays in registers, if body is always
// inlined.
template <typename Body, int... k>
[[gnu::always_inline]] inline void for_constants(const Body& body, std::integer_sequence<int, k...>) {
  (body(std::integral_constant<int, k>{}), ...);
}
template <int kCount, typename Body>
[[gnu::always_inline]] inline void for_constants(const Body& body) {
  for_constants(body, std::make_integer_sequence<int, kCount>{});
}

// Calls body(tag) with the form of a cache.
template <typename Body>
inline void with_kv_dtype(DType dtype, const Body& body) {
  if (dtype == DType::kI8) {
    body(I8{});
  } else {
    with_dtype(dtype, body);
  }
}

}  // namespace quire::QUIRE_VARIANT
