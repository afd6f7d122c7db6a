// The op table of the avx512 kernels. Only this file is compiled for them, with its own flags
// (native/binding.gyp).
#include "ops.h"

#if defined(__x86_64__)

#define QUIRE_AVX512
#define QUIRE_VARIANT avx512

#include "cpu/attention.h"
#include "cpu/cpu_features.h"
#include "cpu/elementwise.h"
#include "cpu/lora.h"
#include "cpu/matmul.h"
#include "cpu/sampler.h"

namespace quire {

const Ops* cpu_ops_avx512() {
  static constexpr Ops kOps = {
      "cpu avx512",        avx512::embed,          avx512::rms_norm,   avx512::matmul,   avx512::lora_matmul,
      avx512::rope_table,  avx512::rope_and_cache, avx512::attention,  avx512::silu_mul, avx512::gelu_mul,
      avx512::gather_rows, avx512::sample,         avx512::copy_blocks};
  return cpu_has_avx512() ? &kOps : nullptr;
}

}  // namespace quire

#else

namespace quire {

const Ops* cpu_ops_avx512() { return nullptr; }

}  // namespace quire

#endif
