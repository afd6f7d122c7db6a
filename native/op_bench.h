// How fast the CPU's ops are, one at a time, for `quire bench ops`: random weights of a shape, handed through
// Backend::place as a model's are, and the median time of a call. What a call reads and computes is counted
// by engine/op-bench.ts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace quire {

struct OpBench {
  std::string op;  // matmul, attention_decode, attention_prefill, rms_norm, rope_and_cache, silu_mul, sample
  std::string form;  // of a matmul's weights: f32, f16, bf16, w8, w6, w4
  int group;         // of w4
  int64_t outputs;   // a matmul's N; of the others the size of a row
  int64_t inputs;    // a matmul's K
  int num_heads;     // of attention and rope_and_cache, here and below
  int num_kv_heads;
  int head_size;
  int context;            // tokens that each sequence of attention_decode has
  std::vector<int> rows;  // tokens of a call: each is measured
  double seconds;         // that each measurement takes at least, a warm-up aside
  int threads;
  bool rounds_activations;  // to 8 bits, into a matmul with integer weights
  std::string cpu_variant;  // "" picks the best
};

// Median milliseconds of a call for each entry of rows. Throws std::runtime_error in one line for what is
// unknown.
std::vector<double> bench_op(const OpBench& bench);

}  // namespace quire
