// The op table of the AMX kernels: matmuls by tile registers, everything else as AVX-512 has it. Only this
// file is compiled for them, with its own flags (native/binding.gyp).
#include "ops.h"

#if defined(__x86_64__) && defined(__linux__)

#define QUIRE_AVX512
#define QUIRE_AVX512_BF16
#define QUIRE_VARIANT amx

#include "cpu/bf16_tile_matmul.h"
#include "cpu/cpu_features.h"
#include "cpu/int8_tile_matmul.h"
#include "cpu/moe.h"

namespace quire {

namespace amx {

inline void tile_matmul(const MatmulArgs& a, ThreadPool& pool) {
  if (takes_tiles(a)) return int8_tile_matmul(a, pool);
  if (a.weight->dtype == DType::kBF16) return bf16_tile_matmul(a, pool);
  cpu_ops_avx512()->matmul(a, pool);
}

Ops make_table() {
  Ops ops = *cpu_ops_avx512();
  ops.name = "cpu amx";
  ops.matmul = on_threads<tile_matmul>;
  ops.grouped_matmul = on_threads<grouped_matmul<tile_matmul>>;
  return ops;
}

}  // namespace amx

const Ops* cpu_ops_amx_emulated() {
  if (!cpu_has_avx512_bf16()) return nullptr;
  static const Ops ops = amx::make_table();
  return &ops;
}

const Ops* cpu_ops_amx() { return cpu_lets_use_amx() ? cpu_ops_amx_emulated() : nullptr; }

}  // namespace quire

#else

namespace quire {

const Ops* cpu_ops_amx() { return nullptr; }
const Ops* cpu_ops_amx_emulated() { return nullptr; }

}  // namespace quire

#endif
