#include <cmath>

#include "float16.h"
#include "number_cases.h"
#include "philox.h"

namespace quire::test {

void test_philox(Run& run, const Ops&) {
  // Known answers of the generator's authors (Random123's kat_vectors).
  const auto same = [](const PhiloxBlock& found, const uint32_t(&expected)[4]) {
    return std::memcmp(found.words, expected, sizeof(expected)) == 0;
  };
  run.check(same(philox4x32(0, 0, 0, 0), {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}),
            "philox of zeros");
  run.check(same(philox4x32(~0u, ~0u, ~0ull, ~0ull), {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}),
            "philox of ones");
  run.check(same(philox4x32(0xa4093822, 0x299f31d0, 0x85a308d3243f6a88ull, 0x0370734413198a2eull),
                 {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}),
            "philox of pi");
}

void test_float16(Run& run, const Ops&) {
  for (uint32_t bits = 0; bits < 0x10000; bits++) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const float f16 = f16_to_float(half);
    const float bf16 = bf16_to_float(half);
    run.check(std::isnan(f16) ? std::isnan(f16_to_float(float_to_f16(f16))) : float_to_f16(f16) == half,
              "f16 round trip");
    run.check(std::isnan(bf16) ? std::isnan(bf16_to_float(float_to_bf16(bf16))) : float_to_bf16(bf16) == half,
              "bf16 round trip");
  }
  run.check(float_to_f16(1.0f + 0x1.0p-11f) == 0x3c00 && float_to_f16(1.0f + 0x1.8p-10f) == 0x3c02,
            "f16 ties to even");
  for (int bits = 0; bits < 256; bits++) {
    const float f8 = f8_to_float(static_cast<uint8_t>(bits));
    run.check(std::isnan(f8) ? (bits & 0x7f) == 0x7f : float_to_f8(f8) == bits, "e4m3 round trip");
  }
  run.check(f8_to_float(0x7e) == 448 && f8_to_float(0x01) == 0x1.0p-9f && f8_to_float(0x38) == 1,
            "e4m3 values");
  run.check(float_to_f8(1 + 0x1.0p-4f) == 0x38 && float_to_f8(1 + 0x1.8p-3f) == 0x3a, "e4m3 ties to even");
  run.check(float_to_f8(1e9f) == 0x7e && float_to_f8(-449) == 0xfe, "e4m3 overflow");
  run.check(float_to_f16(65520.0f) == 0x7c00 && float_to_f16(65519.0f) == 0x7bff, "f16 overflow");
}

}  // namespace quire::test
