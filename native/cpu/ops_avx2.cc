// The op table of the avx2 kernels. Only this file is compiled for them, with its own flags
// (native/binding.gyp).
#include "ops.h"

#if defined(__x86_64__)

#define QUIRE_AVX2
#define QUIRE_VARIANT avx2

#include "cpu/attention.h"
#include "cpu/cpu_features.h"
#include "cpu/elementwise.h"
#include "cpu/lora.h"
#include "cpu/matmul.h"
#include "cpu/sampler.h"

namespace quire {

const Ops* cpu_ops_avx2() {
  static constexpr Ops kOps = {"cpu avx2",        avx2::embed,      avx2::rms_norm,       avx2::matmul,
                               avx2::lora_matmul, avx2::rope_table, avx2::rope_and_cache, avx2::attention,
                               avx2::silu_mul,    avx2::gelu_mul,   avx2::gather_rows,    avx2::sample,
                               avx2::copy_blocks};
  return cpu_has_avx2() ? &kOps : nullptr;
}

}  // namespace quire

#else

namespace quire {

const Ops* cpu_ops_avx2() { return nullptr; }

}  // namespace quire

#endif
