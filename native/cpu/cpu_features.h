// What this machine's processor and operating system let a program use. Compiled without special flags:
// everything that runs before a variant is chosen must run everywhere.
#pragma once

#include <string>
#include <vector>

namespace quire {

bool cpu_has_avx2();         // AVX2, FMA and F16C, registers saved by the system
bool cpu_has_avx512();       // AVX-512 F, BW, VL, DQ and VNNI as well
bool cpu_has_avx512_bf16();  // the same and BF16
// The same and AMX with INT8 and BF16. Asks the system, once for the process, to save its registers too.
bool cpu_lets_use_amx();

// Names of the instruction sets found that kernels here use or will use.
std::vector<std::string> cpu_instruction_sets();

}  // namespace quire
