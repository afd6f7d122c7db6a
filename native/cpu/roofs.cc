// Loops of one instruction on twelve registers, which hides its latency, and plain reads of memory that no
// cache holds. Functions are compiled for the instructions they use, and called where those are.

#include "cpu/roofs.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "thread_pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define QUIRE_VARIANT roofs
#include "cpu/cpu_features.h"
#include "cpu/tile_registers.h"
#endif

namespace quire {

namespace {

constexpr int kRepeats = 5;
constexpr int kPieces = 64;
constexpr size_t kBytes = size_t{512} << 20;
constexpr size_t kPieceBytes = kBytes / kPieces;
constexpr int kStreams = 16;
constexpr int64_t kRounds = 200'000;
constexpr int kRegisters = 12;

// Best of several: a roof is what is possible. Work is 1e9 units.
template <typename Body>
double best_rate(ThreadPool& pool, double work, const Body& piece) {
  double best = 0;
  for (int repeat = 0; repeat <= kRepeats; repeat++) {
    const auto start = std::chrono::steady_clock::now();
    pool.parallel_for(kPieces, [&](int64_t i, int) { piece(i); });
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (repeat > 0) best = std::max(best, work / elapsed.count());
  }
  return best;
}

// Reads `bytes` from kPlaces places side by side. Their number is known when it is compiled: otherwise the
// sums would go through memory, and not the read but the wait for them be measured.
template <int kPlaces>
void read_words(const char* from, size_t bytes) {
  // Not a power of two apart: places that share a cache set would push each other out.
  const size_t apart = bytes / kPlaces / 64 * 64;
  uint64_t sums[4] = {};
  for (size_t at = 0; at + 64 <= apart; at += 64) {
    for (int s = 0; s < kPlaces; s++) {
      const auto* words = reinterpret_cast<const uint64_t*>(from + s * apart + at);
      for (int w = 0; w < 8; w += 4) {
        for (int i = 0; i < 4; i++) sums[i] ^= words[w + i];
      }
    }
  }
  asm volatile("" ::"r"(sums[0] ^ sums[1] ^ sums[2] ^ sums[3]));
}

#if defined(__x86_64__)

#define QUIRE_TWELVE(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11)

template <int kPlaces>
__attribute__((target("avx512f"))) void read_avx512(const char* from, size_t bytes) {
  const size_t apart = bytes / kPlaces / 64 * 64;
  __m512i sums[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
  for (size_t at = 0; at + 64 <= apart; at += 64) {
#pragma GCC unroll 16
    for (int s = 0; s < kPlaces; s++) {
      sums[s & 1] = _mm512_xor_si512(sums[s & 1], _mm512_loadu_si512(from + s * apart + at));
    }
  }
  sums[0] = _mm512_xor_si512(sums[0], sums[1]);
  asm volatile("" ::"v"(sums[0]));
}

#define QUIRE_ZERO(i) Vector z##i = {};
#define QUIRE_KEEP(i) asm volatile("" : "+v"(z##i));

__attribute__((target("avx512f,avx512vnni"))) void int8_dot_vnni(int64_t rounds) {
  using Vector = __m512i;
  const Vector x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(1);
  QUIRE_TWELVE(QUIRE_ZERO)
#define QUIRE_STEP(i) z##i = _mm512_dpbusd_epi32(z##i, x, y);
  for (int64_t r = 0; r < rounds; r++) {
    QUIRE_TWELVE(QUIRE_STEP)
    QUIRE_TWELVE(QUIRE_KEEP)
  }
#undef QUIRE_STEP
}

__attribute__((target("avx2"))) void int8_dot_avx2(int64_t rounds) {
  using Vector = __m256i;
  Vector x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
  QUIRE_TWELVE(QUIRE_ZERO)
#define QUIRE_STEP(i)                                              \
  {                                                                \
    Vector pairs = _mm256_maddubs_epi16(x, y);                     \
    asm volatile("" : "+x"(pairs));                                \
    z##i = _mm256_add_epi32(z##i, _mm256_madd_epi16(pairs, ones)); \
  }
#define QUIRE_KEEP_AVX2(i) asm volatile("" : "+x"(z##i));
  for (int64_t r = 0; r < rounds; r++) {
    QUIRE_TWELVE(QUIRE_STEP)
    QUIRE_TWELVE(QUIRE_KEEP_AVX2)
  }
#undef QUIRE_STEP
}

__attribute__((target("avx512f,avx512bf16"))) void bf16_dot(int64_t rounds) {
  using Vector = __m512;
  const __m512bh x = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
  QUIRE_TWELVE(QUIRE_ZERO)
#define QUIRE_STEP(i) z##i = _mm512_dpbf16_ps(z##i, x, x);
  for (int64_t r = 0; r < rounds; r++) {
    QUIRE_TWELVE(QUIRE_STEP)
    QUIRE_TWELVE(QUIRE_KEEP)
  }
#undef QUIRE_STEP
}

// An instruction of AMX takes as long as sixteen others.
constexpr int kTileTime = 16;
constexpr double kTileOperations = 2.0 * 16 * 16;  // for each product of a sum

// Twelve times a round, on six sums.
template <typename Dot>
void tile_dot(int64_t rounds, const Dot& dot) {
  using namespace roofs;
  const TileShape whole = {16, kTileBytes};
  shape_tiles({whole, whole, whole, whole, whole, whole, whole, whole});
  for (int64_t r = 0; r < 2 * rounds / kTileTime; r++) dot();
  release_tiles();
}

void int8_dot_amx(int64_t rounds) {
  using namespace roofs;
  tile_dot(rounds, [] {
    dot_int8<0, 6, 7>();
    dot_int8<1, 6, 7>();
    dot_int8<2, 6, 7>();
    dot_int8<3, 6, 7>();
    dot_int8<4, 6, 7>();
    dot_int8<5, 6, 7>();
  });
}

void bf16_dot_amx(int64_t rounds) {
  using namespace roofs;
  tile_dot(rounds, [] {
    dot_bf16<0, 6, 7>();
    dot_bf16<1, 6, 7>();
    dot_bf16<2, 6, 7>();
    dot_bf16<3, 6, 7>();
    dot_bf16<4, 6, 7>();
    dot_bf16<5, 6, 7>();
  });
}

__attribute__((target("avx512f"))) void f32_fma_avx512(int64_t rounds) {
  using Vector = __m512;
  Vector x = _mm512_set1_ps(0.5F);
  asm volatile("" : "+v"(x));
  QUIRE_TWELVE(QUIRE_ZERO)
#define QUIRE_STEP(i) z##i = _mm512_fmadd_ps(x, x, z##i);
  for (int64_t r = 0; r < rounds; r++) {
    QUIRE_TWELVE(QUIRE_STEP)
    QUIRE_TWELVE(QUIRE_KEEP)
  }
#undef QUIRE_STEP
}

__attribute__((target("avx2,fma"))) void f32_fma_avx2(int64_t rounds) {
  using Vector = __m256;
  Vector x = _mm256_set1_ps(0.5F);
  asm volatile("" : "+x"(x));
  QUIRE_TWELVE(QUIRE_ZERO)
#define QUIRE_STEP(i) z##i = _mm256_fmadd_ps(x, x, z##i);
  for (int64_t r = 0; r < rounds; r++) {
    QUIRE_TWELVE(QUIRE_STEP)
    QUIRE_TWELVE(QUIRE_KEEP_AVX2)
  }
#undef QUIRE_STEP
}

#endif

// Operations of `kRounds` rounds in every piece, 1e9 of them, at `per_instruction`.
constexpr double work_of(double per_instruction) {
  return per_instruction * kRegisters * kRounds * kPieces / 1e9;
}

void measure_dots(ThreadPool& pool, Roofs& roofs) {
  const auto rate = [&](double per_instruction, void (*loop)(int64_t)) {
    return best_rate(pool, work_of(per_instruction), [=](int64_t) { loop(kRounds); });
  };
#if defined(__x86_64__)
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f");
  if (cpu_lets_use_amx()) {
    roofs.int8_dot = rate(64 * kTileOperations / kTileTime, int8_dot_amx);
  } else if (has_avx512 && __builtin_cpu_supports("avx512vnni")) {
    roofs.int8_dot = rate(128, int8_dot_vnni);
  } else if (has_avx2) {
    roofs.int8_dot = rate(64, int8_dot_avx2);
  }
  if (cpu_lets_use_amx()) {
    roofs.bf16_dot = rate(32 * kTileOperations / kTileTime, bf16_dot_amx);
  } else if (has_avx512 && __builtin_cpu_supports("avx512bf16")) {
    roofs.bf16_dot = rate(64, bf16_dot);
  }
  if (has_avx2) roofs.f32_fma = has_avx512 ? rate(32, f32_fma_avx512) : rate(16, f32_fma_avx2);
#endif
}

}  // namespace

Roofs measure_cpu_roofs(int threads) {
  ThreadPool pool(threads);
  Roofs roofs{};
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  madvise(memory, kBytes, MADV_HUGEPAGE);
#endif
  char* bytes = static_cast<char*>(memory);
  pool.parallel_for(kPieces, [&](int64_t i, int) {
    std::fill(bytes + i * kPieceBytes, bytes + (i + 1) * kPieceBytes, static_cast<char>(i));
  });
  auto* linear = read_words<1>;
  auto* streams = read_words<kStreams>;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    linear = read_avx512<1>;
    streams = read_avx512<kStreams>;
  }
#endif
  const auto rate = [&](void (*read)(const char*, size_t)) {
    return best_rate(pool, kBytes / 1e9,
                     [&](int64_t i) { read(bytes + i * kPieceBytes, kPieceBytes - 64 * 37); });
  };
  roofs.read_linear = rate(linear);
  roofs.read_streams = rate(streams);
  munmap(memory, kBytes);
  measure_dots(pool, roofs);
  return roofs;
}

}  // namespace quire
