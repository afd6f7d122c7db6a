// Dot products of bytes, three ways: kWidth sums of int32 at a time, each of 4 products a step. What simd.h
// is for floats.
//
// Weights q are unsigned, activations x signed and in [-127, 127]. A sum over a group begins at
// -zero * (sum of its x), so that it ends at the sum of (q - zero) * x: everything is exact, whatever the
// instructions. Sums of x fit 16 bits for groups of up to 256.
//
// Where an instruction adds products in 16 bits, kPartialSteps steps are added there before they join the
// sums: begin_partials, so many calls of dot, end_partials. Elsewhere the partials are the sums.
#pragma once

#include "cpu/simd.h"

namespace quire::QUIRE_VARIANT {

#if defined(QUIRE_AVX512)

using Sums = __m512i;
using Bytes = __m512i;  // [kWidth][4]

inline Bytes load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline void store_bytes(uint8_t* p, Bytes b) { _mm512_storeu_si512(p, b); }
inline Bytes low_halves(Bytes b) { return _mm512_and_si512(b, _mm512_set1_epi8(15)); }
inline Bytes high_halves(Bytes b) { return low_halves(_mm512_srli_epi16(b, 4)); }
inline Bytes low_six(Bytes b) { return _mm512_and_si512(b, _mm512_set1_epi8(63)); }
// Six bits of the top two of each.
inline Bytes join_tops(Bytes a, Bytes b, Bytes c) {
  constexpr int kAndOr = 0xea;  // first & second | third
  const Bytes low = _mm512_and_si512(_mm512_srli_epi16(a, 6), _mm512_set1_epi8(3));
  const Bytes mid = _mm512_ternarylogic_epi32(_mm512_srli_epi16(b, 4), _mm512_set1_epi8(12), low, kAndOr);
  return _mm512_ternarylogic_epi32(_mm512_srli_epi16(c, 2), _mm512_set1_epi8(48), mid, kAndOr);
}
inline Sums load_zeros(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Sums same_zeros(int zero) { return _mm512_set1_epi32(zero); }
template <int kBits>
inline Sums start_sums(Sums zeros, int32_t negated_sum) {
  return _mm512_madd_epi16(zeros, _mm512_set1_epi32(negated_sum));  // the upper half of a zero is 0
}
template <int kBits>
constexpr int kPartialSteps = 1;
inline Sums begin_partials(Sums sums) { return sums; }
template <int kBits>
inline Sums dot(Sums sums, Bytes q, const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  // The intrinsic: g++ 12 copies most of a block's sums to other registers and back at each step.
  asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(q), "v"(_mm512_set1_epi32(four)));
  return sums;
}
inline Sums end_partials(Sums, Sums partials) { return partials; }
inline Sums no_sums() { return _mm512_setzero_si512(); }
inline Vec to_floats(Sums sums) { return _mm512_cvtepi32_ps(sums); }
inline Sums to_ints(Vec v) { return _mm512_cvtps_epi32(v); }
inline void store_int8(int8_t* p, Sums s) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(s));
}
inline Sums add(Sums a, Sums b) { return _mm512_add_epi32(a, b); }
inline int32_t sum(Sums s) { return _mm512_reduce_add_epi32(s); }

#elif defined(QUIRE_AVX2)

using Sums = __m256i;
using Bytes = __m256i;

inline Bytes load_bytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline void store_bytes(uint8_t* p, Bytes b) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), b); }
inline Bytes low_halves(Bytes b) { return _mm256_and_si256(b, _mm256_set1_epi8(15)); }
inline Bytes high_halves(Bytes b) { return low_halves(_mm256_srli_epi16(b, 4)); }
inline Bytes low_six(Bytes b) { return _mm256_and_si256(b, _mm256_set1_epi8(63)); }
inline Bytes join_tops(Bytes a, Bytes b, Bytes c) {
  const Bytes low = _mm256_and_si256(_mm256_srli_epi16(a, 6), _mm256_set1_epi8(3));
  const Bytes mid = _mm256_and_si256(_mm256_srli_epi16(b, 4), _mm256_set1_epi8(12));
  const Bytes high = _mm256_and_si256(_mm256_srli_epi16(c, 2), _mm256_set1_epi8(48));
  return _mm256_or_si256(_mm256_or_si256(low, mid), high);
}
inline Sums load_zeros(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline Sums same_zeros(int zero) { return _mm256_set1_epi32(zero); }
// With 8 bits `dot` takes q - 128, which fits the instruction's signed 16-bit pairs.
template <int kBits>
inline Sums start_sums(Sums zeros, int32_t negated_sum) {
  if (kBits == 8) zeros = _mm256_sub_epi32(zeros, _mm256_set1_epi32(128));
  return _mm256_madd_epi16(zeros, _mm256_set1_epi32(negated_sum & 0xffff));
}
// A step adds at most 2 * 127 times the largest q: eight times 15 of those fit 16 bits, twice 63, once 128.
template <int kBits>
constexpr int kPartialSteps = kBits == 4 ? 8 : (kBits == 6 ? 2 : 1);
inline Sums begin_partials(Sums) { return _mm256_setzero_si256(); }
template <int kBits>
inline Sums dot(Sums partials, Bytes q, const int8_t* x) {
  int32_t word;
  std::memcpy(&word, x, 4);
  __m256i four = _mm256_set1_epi32(word);
  if (kBits == 8) {
    q = _mm256_xor_si256(q, _mm256_set1_epi8(-128));
    four = _mm256_sign_epi8(four, q);
    q = _mm256_abs_epi8(q);
  }
  return _mm256_add_epi16(partials, _mm256_maddubs_epi16(q, four));
}
inline Sums end_partials(Sums sums, Sums partials) {
  return _mm256_add_epi32(sums, _mm256_madd_epi16(partials, _mm256_set1_epi16(1)));
}
inline Sums no_sums() { return _mm256_setzero_si256(); }
inline Vec to_floats(Sums sums) { return _mm256_cvtepi32_ps(sums); }
inline Sums to_ints(Vec v) { return _mm256_cvtps_epi32(v); }
inline void store_int8(int8_t* p, Sums s) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}
inline Sums add(Sums a, Sums b) { return _mm256_add_epi32(a, b); }
inline int32_t sum(Sums s) {
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

#else

struct Sums {
  int32_t lane[kWidth];
};
struct Bytes {
  uint8_t lane[4 * kWidth];
};

template <typename F>
inline Bytes each_byte(F f) {
  Bytes out;
  for (int i = 0; i < 4 * kWidth; i++) out.lane[i] = static_cast<uint8_t>(f(i));
  return out;
}
template <typename F>
inline Sums each_sum(F f) {
  Sums out;
  for (int i = 0; i < kWidth; i++) out.lane[i] = f(i);
  return out;
}
inline Bytes load_bytes(const uint8_t* p) {
  return each_byte([=](int i) { return p[i]; });
}
inline void store_bytes(uint8_t* p, const Bytes& b) { std::memcpy(p, b.lane, sizeof(b.lane)); }
inline Bytes low_halves(const Bytes& b) {
  return each_byte([&](int i) { return b.lane[i] & 15; });
}
inline Bytes high_halves(const Bytes& b) {
  return each_byte([&](int i) { return b.lane[i] >> 4; });
}
inline Bytes low_six(const Bytes& b) {
  return each_byte([&](int i) { return b.lane[i] & 63; });
}
inline Bytes join_tops(const Bytes& a, const Bytes& b, const Bytes& c) {
  return each_byte([&](int i) { return a.lane[i] >> 6 | b.lane[i] >> 6 << 2 | c.lane[i] >> 6 << 4; });
}
inline Sums load_zeros(const uint8_t* p) {
  return each_sum([=](int i) { return int32_t{p[i]}; });
}
inline Sums same_zeros(int zero) {
  return each_sum([=](int) { return zero; });
}
template <int kBits>
inline Sums start_sums(const Sums& zeros, int32_t negated_sum) {
  return each_sum([&](int i) { return zeros.lane[i] * negated_sum; });
}
template <int kBits>
constexpr int kPartialSteps = 1;
inline Sums begin_partials(const Sums& sums) { return sums; }
inline Sums end_partials(const Sums&, const Sums& partials) { return partials; }
template <int kBits>
inline Sums dot(const Sums& sums, const Bytes& q, const int8_t* x) {
  return each_sum([&](int i) {
    int32_t sum = sums.lane[i];
    for (int j = 0; j < 4; j++) sum += int32_t{q.lane[4 * i + j]} * x[j];
    return sum;
  });
}
inline Sums no_sums() {
  return each_sum([](int) { return 0; });
}
inline Vec to_floats(const Sums& sums) {
  return each([&](int i) { return static_cast<float>(sums.lane[i]); });
}
inline Sums to_ints(const Vec& v) {
  const Vec rounded = round(v);
  return each_sum([&](int i) { return static_cast<int32_t>(rounded.lane[i]); });
}
inline void store_int8(int8_t* p, const Sums& s) {
  for (int i = 0; i < kWidth; i++) p[i] = static_cast<int8_t>(s.lane[i]);
}
inline Sums add(const Sums& a, const Sums& b) {
  return each_sum([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline int32_t sum(const Sums& s) {
  int32_t total = 0;
  for (int i = 0; i < kWidth; i++) total += s.lane[i];
  return total;
}

#endif

}  // namespace quire::QUIRE_VARIANT
