// The op table of the kernels for AVX-512 with BF16: products of bf16 by its instruction, everything else as
// AVX-512 has it. Only this file is compiled for it, with its own flags (native/binding.gyp).
#include "ops.h"

#if defined(__x86_64__)

#define QUIRE_AVX512
#define QUIRE_AVX512_BF16
#define QUIRE_VARIANT avx512_bf16

#include "cpu/cpu_features.h"
#include "cpu/moe.h"
#include "cpu/panel_matmul.h"

namespace quire {

namespace avx512_bf16 {

inline void matmul_in_bf16(const MatmulArgs& a, ThreadPool& pool) {
  if (a.weight->dtype == DType::kBF16) return bf16_panel_matmul(a, pool);
  cpu_ops_avx512()->matmul(a, pool);
}

Ops make_table() {
  Ops ops = *cpu_ops_avx512();
  ops.name = "cpu avx512 bf16";
  ops.matmul = on_threads<matmul_in_bf16>;
  ops.grouped_matmul = on_threads<grouped_matmul<matmul_in_bf16>>;
  return ops;
}

}  // namespace avx512_bf16

const Ops* cpu_ops_avx512_bf16() {
  if (!cpu_has_avx512_bf16()) return nullptr;
  static const Ops ops = avx512_bf16::make_table();
  return &ops;
}

}  // namespace quire

#else

namespace quire {

const Ops* cpu_ops_avx512_bf16() { return nullptr; }

}  // namespace quire

#endif
