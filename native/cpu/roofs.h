// What this machine's cores can do at best, measured: the figures that `quire bench ops` puts beside its own.
#pragma once

namespace quire {

struct Roofs {
  double read_linear;   // GB/s from memory, each thread front to back
  double read_streams;  // GB/s from memory, each thread from 16 places at once
  double int8_dot;  // 1e9 multiplications and additions a second of 8-bit integers, by the best instruction
  double bf16_dot;  // of bf16 in pairs, 0 where there is no instruction
  double f32_fma;   // of floats
};

Roofs measure_cpu_roofs(int threads);

}  // namespace quire
