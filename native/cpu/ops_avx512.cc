// The op table of the avx512 kernels. Only this file is compiled for them, with its own flags
// (native/binding.gyp).
#include "ops.h"

#if defined(__x86_64__)

#define QUIRE_AVX512
#define QUIRE_VARIANT avx512

#include "cpu/cpu_features.h"
#include "cpu/table.h"

namespace quire {

const Ops* cpu_ops_avx512() {
  static constexpr Ops kOps = avx512::make_table("cpu avx512");
  return cpu_has_avx512() ? &kOps : nullptr;
}

}  // namespace quire

#else

namespace quire {

const Ops* cpu_ops_avx512() { return nullptr; }

}  // namespace quire

#endif
