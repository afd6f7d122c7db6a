// Philox4x32-10, a counter-based random generator (Salmon et al., "Parallel random numbers: as easy as 1, 2,
// 3", 2011): the same key and counter give the same numbers on every machine, in any order.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define QUIRE_ANYWHERE __host__ __device__
#else
#define QUIRE_ANYWHERE
#endif

namespace quire {

struct PhiloxBlock {
  uint32_t words[4];
};

QUIRE_ANYWHERE static inline PhiloxBlock philox4x32(uint32_t key_low, uint32_t key_high, uint64_t counter,
                                                    uint64_t stream = 0) {
  uint32_t c[4] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                   static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
  uint32_t k[2] = {key_low, key_high};
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1),
                              static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(p0)};
    for (int i = 0; i < 4; i++) c[i] = next[i];
    k[0] += 0x9E3779B9;
    k[1] += 0xBB67AE85;
  }
  return {{c[0], c[1], c[2], c[3]}};
}

// 53 random bits.
QUIRE_ANYWHERE static inline uint64_t philox_bits(uint32_t key_low, uint32_t key_high, uint64_t counter,
                                                  uint64_t stream = 0) {
  const PhiloxBlock block = philox4x32(key_low, key_high, counter, stream);
  return (uint64_t{block.words[0]} << 32 | block.words[1]) >> 11;
}

// Uniform in [0, 1) with 53 bits.
static inline double philox_uniform(uint32_t key_low, uint32_t key_high, uint64_t counter,
                                    uint64_t stream = 0) {
  return static_cast<double>(philox_bits(key_low, key_high, counter, stream)) * 0x1.0p-53;
}

}  // namespace quire
