// The op table of the avx2 kernels. Only this file is compiled for them, with its own flags
// (native/binding.gyp).
#include "ops.h"

#if defined(__x86_64__)

#define QUIRE_AVX2
#define QUIRE_VARIANT avx2

#include "cpu/cpu_features.h"
#include "cpu/table.h"

namespace quire {

const Ops* cpu_ops_avx2() {
  static constexpr Ops kOps = avx2::make_table("cpu avx2");
  return cpu_has_avx2() ? &kOps : nullptr;
}

}  // namespace quire

#else

namespace quire {

const Ops* cpu_ops_avx2() { return nullptr; }

}  // namespace quire

#endif
