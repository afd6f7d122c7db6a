#include "cpu/cpu_features.h"

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace quire {

#if defined(__x86_64__)

// The compiler's run-time check covers XGETBV: a set counts only when the system saves its registers.
bool cpu_has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool cpu_has_avx512() {
  return cpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

bool cpu_has_avx512_bf16() { return cpu_has_avx512() && __builtin_cpu_supports("avx512bf16"); }

#if defined(__linux__)

bool cpu_lets_use_amx() {
  // ARCH_REQ_XCOMP_PERM for XTILEDATA (asm/prctl.h, Documentation/arch/x86/xstate.rst of Linux 5.16).
  static const bool may = cpu_has_avx512_bf16() && __builtin_cpu_supports("amx-tile") &&
                          __builtin_cpu_supports("amx-int8") && __builtin_cpu_supports("amx-bf16") &&
                          syscall(SYS_arch_prctl, 0x1023, 18) == 0;
  return may;
}

#else

bool cpu_lets_use_amx() { return false; }

#endif

std::vector<std::string> cpu_instruction_sets() {
  std::vector<std::string> found;
  const auto note = [&](bool has, const char* name) {
    if (has) found.emplace_back(name);
  };
  note(__builtin_cpu_supports("avx2"), "avx2");
  note(__builtin_cpu_supports("fma"), "fma");
  note(__builtin_cpu_supports("f16c"), "f16c");
  note(__builtin_cpu_supports("avx512f"), "avx512f");
  note(__builtin_cpu_supports("avx512bw"), "avx512bw");
  note(__builtin_cpu_supports("avx512vl"), "avx512vl");
  note(__builtin_cpu_supports("avx512dq"), "avx512dq");
  note(__builtin_cpu_supports("avx512vnni"), "avx512_vnni");
  note(__builtin_cpu_supports("avx512bf16"), "avx512_bf16");
  note(__builtin_cpu_supports("amx-int8"), "amx_int8");
  note(__builtin_cpu_supports("amx-bf16"), "amx_bf16");
  return found;
}

#else

bool cpu_has_avx2() { return false; }
bool cpu_has_avx512() { return false; }
bool cpu_has_avx512_bf16() { return false; }
bool cpu_lets_use_amx() { return false; }
std::vector<std::string> cpu_instruction_sets() { return {}; }

#endif

}  // namespace quire
