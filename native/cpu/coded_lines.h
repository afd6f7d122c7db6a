// Lines of a panel of coded bf16 (coded_bf16.h) as a plain panel has them (weight_panels.h).
//
// Bound: memory; a line takes four instructions of AVX-512. The exponents of 32 elements are looked up by
// one: of a word's index it sees 5 bits, so the table is there twice and the next line's lowest bit does no
// harm. A byte that is widened with its sign has sign and mantissa where bf16 has them.
#pragma once

#include <cstdint>

#include "coded_bf16.h"
#include "cpu/simd.h"

namespace quire::QUIRE_VARIANT {

#if defined(QUIRE_AVX512)

class ExponentTable {
 public:
  ExponentTable() = default;
  explicit ExponentTable(int base) {
    alignas(64) uint16_t entries[32];
    for (int i = 0; i < 32; i++) entries[i] = coded_exponent(base, i % 16);
    entries_ = _mm512_load_si512(entries);
  }
  void expand(const uint8_t* block, uint16_t* lines) const {
    const __m512i codes = _mm512_loadu_si512(block), kept = _mm512_set1_epi16(static_cast<int16_t>(0x807f));
#pragma GCC unroll 4
    for (int line = 0; line < kCodedLines; line++) {
      const __m512i exponent = _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 4 * line), entries_);
      const auto* rest = reinterpret_cast<const __m256i*>(block + (2 + line) * kCodedLine);
      const __m512i widened = _mm512_cvtepi8_epi16(_mm256_loadu_si256(rest));
      // (widened & kept) | exponent
      _mm512_store_si512(lines + line * kCodedLine, _mm512_ternarylogic_epi32(widened, kept, exponent, 0xea));
    }
  }

 private:
  __m512i entries_;
};

#elif defined(QUIRE_AVX2)

class ExponentTable {
 public:
  ExponentTable() = default;
  explicit ExponentTable(int base) : base_(_mm256_set1_epi16(static_cast<int16_t>(base << 7))) {}
  void expand(const uint8_t* block, uint16_t* lines) const {
    const __m256i kept = _mm256_set1_epi16(static_cast<int16_t>(0x807f)), low = _mm256_set1_epi16(15);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block) + half);
#pragma GCC unroll 4
      for (int line = 0; line < kCodedLines; line++) {
        const __m256i code = _mm256_and_si256(_mm256_srli_epi16(codes, 4 * line), low);
        const __m256i sum = _mm256_add_epi16(_mm256_slli_epi16(code, 7), base_);
        const __m256i exponent = _mm256_and_si256(sum, _mm256_cmpgt_epi16(code, _mm256_setzero_si256()));
        const auto* rest = reinterpret_cast<const __m128i*>(block + (2 + line) * kCodedLine) + half;
        const __m256i widened = _mm256_and_si256(_mm256_cvtepi8_epi16(_mm_loadu_si128(rest)), kept);
        _mm256_store_si256(reinterpret_cast<__m256i*>(lines + line * kCodedLine) + half,
                           _mm256_or_si256(widened, exponent));
      }
    }
  }

 private:
  __m256i base_;
};

#else

class ExponentTable {
 public:
  ExponentTable() = default;
  explicit ExponentTable(int base) {
    for (int code = 0; code < 16; code++) entries_[code] = coded_exponent(base, code);
  }
  void expand(const uint8_t* block, uint16_t* lines) const {
    uint16_t codes[kCodedLine];
    std::memcpy(codes, block, sizeof codes);
    for (int i = 0; i < kCodedElements; i++) {
      const int code = codes[i % kCodedLine] >> i / kCodedLine * 4 & 15;
      lines[i] = entries_[code] | coded_rest(block[2 * kCodedLine + i]);
    }
  }

 private:
  uint16_t entries_[16];
};

#endif

// Reads a panel from its first block on.
class CodedReader {
 public:
  CodedReader() = default;
  CodedReader(const CodedPanel& panel, int ahead)
      : table_(panel.base), at_(panel.blocks), next_(panel.exceptions), ahead_(ahead * kCodedBytes) {}

  // `lines` is aligned to a cache line.
  inline __attribute__((always_inline)) void read(int64_t num_blocks, uint16_t* lines) {
    for (int64_t i = 0; i < num_blocks; i++, block_++, at_ += kCodedBytes, lines += kCodedElements) {
      for (int line = 0; line < kCodedBytes; line += 64) __builtin_prefetch(at_ + ahead_ + line);
      table_.expand(at_, lines);
      for (; next_->block == block_; next_++) lines[next_->place] = next_->value;
    }
  }

 private:
  ExponentTable table_;
  const uint8_t* at_ = nullptr;
  const CodedException* next_ = nullptr;
  int64_t ahead_ = 0;  // in bytes, what memory is asked for
  uint32_t block_ = 0;
};

}  // namespace quire::QUIRE_VARIANT
