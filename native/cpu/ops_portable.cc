// The op table of the portable kernels. Only this file is compiled for them, with its own flags
// (native/binding.gyp).
#define QUIRE_PORTABLE
#define QUIRE_VARIANT portable

#include "cpu/table.h"
#include "ops.h"

namespace quire {

const Ops* cpu_ops_portable() {
  static constexpr Ops kOps = portable::make_table("cpu portable");
  return &kOps;
}

}  // namespace quire
