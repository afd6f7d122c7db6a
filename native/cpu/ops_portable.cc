// The op table of the portable kernels. Only this file is compiled for them, with its own flags
// (native/binding.gyp).
#define QUIRE_PORTABLE
#define QUIRE_VARIANT portable

#include "cpu/attention.h"
#include "cpu/elementwise.h"
#include "cpu/lora.h"
#include "cpu/matmul.h"
#include "cpu/sampler.h"
#include "ops.h"

namespace quire {

const Ops* cpu_ops_portable() {
  static constexpr Ops kOps = {"cpu portable",           portable::embed,       portable::rms_norm,
                               portable::matmul,         portable::lora_matmul, portable::rope_table,
                               portable::rope_and_cache, portable::attention,   portable::silu_mul,
                               portable::gelu_mul,       portable::gather_rows, portable::sample,
                               portable::copy_blocks};
  return &kOps;
}

}  // namespace quire
