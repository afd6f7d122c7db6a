// Every op of every variant this machine can run against native/reference, on shapes that sit on seams, and
// the promise that a row's result depends on the row alone, bit for bit.
//
//   ops_test [--seed N] [--filter NAME]   prints a line per group, then "N passed, N failed"; exit status 1
//   on failure.
//
// Tolerance: at most twice the error that a plain f32 implementation makes, estimated per output from the
// magnitudes that were added up: n roundings of half an ulp each of the sum of absolute terms.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "attention_cases.h"
#include "coded_cases.h"
#include "float16.h"
#include "matmul_cases.h"
#include "moe_cases.h"
#include "number_cases.h"
#include "ops.h"
#include "panels.h"
#include "rounded_rows_cases.h"
#include "sampler_cases.h"
#include "test_tools.h"
#include "thread_pool.h"
#include "thread_pool_cases.h"
#include "tile_trap.h"

namespace quire::test {

namespace {

constexpr double kUlp = 0x1.0p-23;

std::vector<DType> weight_dtypes() { return {DType::kF32, DType::kF16, DType::kBF16}; }

void test_matmul(Run& run, const Ops& ops) {
  ThreadPool one(1), three(3);
  for (DType dtype : weight_dtypes()) {
    for (int inputs : {1, 8, 15, 16, 17, 64, 172, 300}) {
      for (int outputs : {1, 3, 4, 5, 9, 33, 70}) {
        for (int tokens : {1, 2, 5, 6, 7, 13, 16, 40}) {
          const Matrix weight(run, outputs, inputs, dtype), bias(run, 1, outputs, dtype);
          const Panels panels(weight.tensor);
          // Where activations are rounded on the way in, these stay what they are.
          const std::vector<float> x = rounded_to_bf16(run.values(tokens * inputs));
          std::vector<float> expected(tokens * outputs), found(tokens * (outputs + 3), -1.0f), again(found);
          const bool has_bias = run.below(2) == 0;
          const Tensor* b = has_bias ? &bias.tensor : nullptr;
          reference_ops().matmul({expected.data(), x.data(), &weight.tensor, b, tokens, inputs, outputs},
                                 one);
          ops.matmul({found.data(), x.data(), &panels.tensor, b, tokens, inputs, outputs + 3}, one);
          ops.matmul({again.data(), x.data(), &panels.tensor, b, tokens, inputs, outputs + 3}, three);
          run.check(found == again, "matmul depends on the thread count");
          for (int t = 0; t < tokens; t++) {
            for (int n = 0; n < outputs; n++) {
              double magnitude = has_bias ? std::fabs(bias.at(n)) : 0;
              for (int k = 0; k < inputs; k++) {
                magnitude += std::fabs(double{x[t * inputs + k]} * weight.at(int64_t{n} * inputs + k));
              }
              run.near(found[t * (outputs + 3) + n], expected[t * outputs + n],
                       2 * (inputs + 1) * kUlp / 2 * magnitude, "matmul");
            }
            // The same row alone.
            std::vector<float> alone(outputs);
            ops.matmul({alone.data(), x.data() + t * inputs, &panels.tensor, b, 1, inputs, outputs}, one);
            run.check(
                std::memcmp(alone.data(), found.data() + t * (outputs + 3), sizeof(float) * outputs) == 0,
                "a row of matmul depends on its neighbours");
            run.check(found[t * (outputs + 3) + outputs] == -1.0f, "matmul writes past its columns");
          }
        }
      }
    }
  }
}

// A variant that rounds activations in front of bf16 weights rounds to the nearest.
void test_matmul_in_bf16(Run& run, const Ops& ops) {
  if (&ops != cpu_ops_avx512_bf16() && &ops != cpu_ops_amx_emulated())
    return run.check(true, "rounds nothing");
  ThreadPool two(2);
  const int inputs = 300, outputs = 33, tokens = 7;
  const Matrix weight(run, outputs, inputs, DType::kBF16);
  const Panels panels(weight.tensor);
  const std::vector<float> x = run.values(tokens * inputs), rounded = rounded_to_bf16(x);
  std::vector<float> found(tokens * outputs), expected(found);
  ops.matmul({found.data(), x.data(), &panels.tensor, nullptr, tokens, inputs, outputs}, two);
  ops.matmul({expected.data(), rounded.data(), &panels.tensor, nullptr, tokens, inputs, outputs}, two);
  run.check(found == expected, "activations are rounded to the nearest bf16");
}

// Two adapters of different ranks, one that leaves the matrix alone, and rows without any, mixed.
void test_lora_matmul(Run& run, const Ops& ops) {
  ThreadPool one(1), three(3);
  for (int inputs : {1, 15, 64, 172}) {
    for (int outputs : {1, 16, 33, 70}) {
      for (int rank : {1, 3, 4, 8, 17, 64}) {
        const int tokens = 9;
        const std::vector<float> a0 = run.values(rank * inputs), b0 = run.values(rank * outputs);
        const std::vector<float> a1 = run.values(2 * inputs), b1 = run.values(2 * outputs);
        const LoraMatrix matrices[] = {{a0.data(), b0.data(), rank}, {a1.data(), b1.data(), 2}, {}};
        std::vector<int32_t> slots(tokens);
        for (int32_t& slot : slots) slot = run.below(4) - 1;
        const std::vector<float> x = run.values(tokens * inputs), base = run.values(tokens * outputs);
        std::vector<float> expected = base, found = base, again = base;
        const auto args = [&](std::vector<float>& out, int first, int count) -> LoraMatmulArgs {
          return {out.data() + first * outputs,
                  x.data() + first * inputs,
                  matrices,
                  slots.data() + first,
                  count,
                  inputs,
                  outputs,
                  inputs,
                  outputs};
        };
        reference_ops().lora_matmul(args(expected, 0, tokens), one);
        ops.lora_matmul(args(found, 0, tokens), one);
        for (int t = 0; t < tokens; t++) ops.lora_matmul(args(again, t, 1), three);
        run.check(found == again, "a row of lora_matmul depends on its neighbours");
        for (int i = 0; i < tokens * outputs; i++) {
          const int slot = slots[i / outputs];
          if (slot < 0 || slot == 2)
            run.check(found[i] == base[i], "lora_matmul changes a row without an adapter");
          run.near(found[i], expected[i], 4 * (inputs + rank) * kUlp * (1 + std::fabs(expected[i])) * rank,
                   "lora_matmul");
        }
      }
    }
  }
}

void test_embed_and_gather(Run& run, const Ops& ops) {
  ThreadPool pool(2);
  for (DType dtype : weight_dtypes()) {
    for (int size : {1, 8, 17, 64, 172}) {
      const Matrix table(run, 50, size, dtype);
      const Panels panels(table.tensor);
      for (int tokens : {1, 3, 100}) {
        std::vector<int32_t> ids(tokens);
        for (int32_t& id : ids) id = run.below(50);
        std::vector<float> expected(tokens * size), found(tokens * size);
        reference_ops().embed({expected.data(), &table.tensor, ids.data(), tokens}, pool);
        ops.embed({found.data(), &table.tensor, ids.data(), tokens}, pool);
        run.check(expected == found, "embed");
        ops.embed({found.data(), &panels.tensor, ids.data(), tokens}, pool);
        run.check(expected == found, "embed from panels");
        for (int32_t& id : ids) id = run.below(tokens);
        std::vector<float> expected_rows(tokens * size), found_rows(tokens * size);
        reference_ops().gather_rows({expected_rows.data(), found.data(), ids.data(), tokens, size, 4}, pool);
        ops.gather_rows({found_rows.data(), found.data(), ids.data(), tokens, size, 4}, pool);
        run.check(expected_rows == found_rows, "gather_rows");
      }
    }
  }
}

void test_rms_norm(Run& run, const Ops& ops) {
  ThreadPool pool(2);
  for (DType dtype : weight_dtypes()) {
    for (int size : {1, 7, 16, 64, 172, 1000}) {
      for (int tokens : {1, 2, 70}) {
        for (bool adds : {false, true}) {
          const Matrix weight(run, 1, size, dtype);
          const std::vector<float> x = run.values(tokens * size);
          std::vector<float> residual = run.values(tokens * size), residual_found = residual;
          std::vector<float> expected(tokens * size), found(tokens * size);
          const float* added = adds ? x.data() : nullptr;
          reference_ops().rms_norm(
              {expected.data(), residual.data(), added, &weight.tensor, tokens, size, 1e-5f}, pool);
          ops.rms_norm({found.data(), residual_found.data(), added, &weight.tensor, tokens, size, 1e-5f},
                       pool);
          run.check(residual == residual_found, "rms_norm's residual");
          for (size_t i = 0; i < found.size(); i++) {
            run.near(found[i], expected[i], (size + 8) * kUlp * (std::fabs(expected[i]) + 1e-30), "rms_norm");
          }
        }
      }
    }
  }
}

void test_rms_norm_alone(Run& run, const Ops& ops) {
  ThreadPool pool(2);
  const int size = 70, tokens = 3;
  const Matrix weight(run, 1, size, DType::kF32);
  const std::vector<float> x = run.values(tokens * size);
  std::vector<float> expected(x.size()), found = x;
  reference_ops().rms_norm({expected.data(), nullptr, x.data(), &weight.tensor, tokens, size, 1e-5f}, pool);
  ops.rms_norm({found.data(), nullptr, found.data(), &weight.tensor, tokens, size, 1e-5f}, pool);
  for (size_t i = 0; i < found.size(); i++) {
    run.near(found[i], expected[i], (size + 8) * kUlp * (std::fabs(expected[i]) + 1e-30),
             "rms_norm in place");
  }
}

void test_soft_cap(Run& run, const Ops& ops) {
  ThreadPool pool(3);
  for (int64_t count : {1, 17, 40000}) {
    std::vector<float> expected = run.values(count);
    for (float& value : expected) value *= 90;
    std::vector<float> found = expected;
    reference_ops().soft_cap({expected.data(), count, 30}, pool);
    ops.soft_cap({found.data(), count, 30}, pool);
    for (int64_t i = 0; i < count; i++) run.near(found[i], expected[i], 30 * 4 * kUlp, "soft_cap");
  }
}

void test_activations(Run& run, const Ops& ops) {
  ThreadPool pool(2);
  for (int size : {1, 9, 16, 172}) {
    for (int tokens : {1, 5}) {
      std::vector<float> gate_up = run.values(tokens * 2 * size);
      for (float& value : gate_up) value *= 12;
      gate_up[0] = -200;
      gate_up[gate_up.size() / 2] = 200;
      std::vector<float> expected(tokens * size), found(tokens * size);
      for (bool gelu : {false, true}) {
        (gelu ? reference_ops().gelu_mul : reference_ops().silu_mul)(
            {expected.data(), gate_up.data(), tokens, size}, pool);
        (gelu ? ops.gelu_mul : ops.silu_mul)({found.data(), gate_up.data(), tokens, size}, pool);
        for (int i = 0; i < tokens * size; i++) {
          const double up = gate_up[(i / size) * 2 * size + size + i % size];
          const double gate = gate_up[(i / size) * 2 * size + i % size];
          // gelu's 1 + tanh loses what is small against 1, and so does a plain f32 implementation.
          const double scale = gelu ? std::fabs(gate * up) : std::fabs(expected[i]);
          run.near(found[i], expected[i], 8 * kUlp * scale + 1e-30, gelu ? "gelu_mul" : "silu_mul");
        }
      }
    }
  }
}

void test_rope_and_cache(Run& run, const Ops& ops) {
  ThreadPool pool(2);
  for (DType cache_dtype : kv_dtypes()) {
    for (int size : {8, 16, 64, 80, 128}) {
      for (bool norms : {false, true}) {
        const int heads = 6, kv_heads = 2, tokens = 9, block_size = 8, num_blocks = 5;
        const int num_freqs = size / 2;
        std::vector<float> inv_freq(num_freqs);
        for (int i = 0; i < num_freqs; i++) inv_freq[i] = std::pow(10000.0f, -2.0f * i / size);
        std::vector<int32_t> positions(tokens), slots(tokens);
        for (int t = 0; t < tokens; t++) {
          positions[t] = run.below(100000);
          slots[t] = t == 3 ? -1 : 8 + 3 * t;
        }
        std::vector<float> table(tokens * 2 * num_freqs), table_found(table);
        reference_ops().rope_table({table.data(), positions.data(), inv_freq.data(), tokens, num_freqs},
                                   pool);
        ops.rope_table({table_found.data(), positions.data(), inv_freq.data(), tokens, num_freqs}, pool);
        for (size_t i = 0; i < table.size(); i++) run.near(table_found[i], table[i], 2 * kUlp, "rope_table");

        const Matrix q_norm(run, 1, size, DType::kF32), k_norm(run, 1, size, DType::kF32);
        const std::vector<float> qkv = run.values(tokens * (heads + 2 * kv_heads) * size);
        std::vector<float> expected = qkv, found = qkv;
        PagedCache left(num_blocks, kv_heads, block_size, size, cache_dtype), right = left;
        const Tensor* q = norms ? &q_norm.tensor : nullptr;
        const Tensor* k = norms ? &k_norm.tensor : nullptr;
        const KvCache left_cache = left.view(), right_cache = right.view();
        reference_ops().rope_and_cache(
            {expected.data(), &left_cache, slots.data(), table.data(), q, k, 1e-6f, tokens, heads, num_freqs},
            pool);
        ops.rope_and_cache(
            {found.data(), &right_cache, slots.data(), table.data(), q, k, 1e-6f, tokens, heads, num_freqs},
            pool);
        const double factor = norms ? (size + 8) * kUlp * 4 : 4 * kUlp;
        for (size_t i = 0; i < found.size(); i++)
          run.near(found[i], expected[i], factor * 4, "rope_and_cache");
        // What differs by a rounding may fall to the next number that the cache's form has.
        const bool is_i8 = cache_dtype == DType::kI8;
        const double step = cache_dtype == DType::kF32 ? factor * 4 : 0x1.0p-7 * 4;
        for (int64_t i = 0; i < left.size(); i++) {
          run.near(right.k_at(i), left.k_at(i), is_i8 ? left.k_scale_at(i) * 1.001 : step, "cached keys");
          run.near(right.v_at(i), left.v_at(i), is_i8 ? left.v_scale_at(i) * 1.001 : step, "cached values");
        }
      }
    }
  }
}

void test_copy_blocks(Run& run, const Ops& ops) {
  ThreadPool pool(2);
  for (DType dtype : kv_dtypes()) {
    PagedCache left(9, 2, 8, 24, dtype);
    left.fill(run);
    PagedCache right = left;
    const std::vector<int32_t> pairs = {1, 5, 2, 6, 1, 8};
    const KvCache left_cache = left.view(), right_cache = right.view();
    reference_ops().copy_blocks({&left_cache, pairs.data(), 3}, pool);
    ops.copy_blocks({&right_cache, pairs.data(), 3}, pool);
    for (int64_t i = 0; i < left.size(); i++) {
      run.check(left.k_at(i) == right.k_at(i) && left.v_at(i) == right.v_at(i), "copy_blocks");
    }
  }
}

// The harness itself: an op that is wrong in one element must be seen.
void test_canary(Run& run, const Ops& ops) {
  ThreadPool pool(1);
  const Matrix weight(run, 5, 16, DType::kF32);
  const Panels panels(weight.tensor);
  const std::vector<float> x = run.values(16);
  std::vector<float> expected(5), found(5);
  reference_ops().matmul({expected.data(), x.data(), &weight.tensor, nullptr, 1, 16, 5}, pool);
  ops.matmul({found.data(), x.data(), &panels.tensor, nullptr, 1, 16, 5}, pool);
  Run inner(run.seed(), false);
  found[3] = found[3] * (1 + 0x1.0p-10f) + 0x1.0p-10f;
  for (int i = 0; i < 5; i++) inner.near(found[i], expected[i], 2 * 17 * kUlp / 2 * 16, "canary");
  run.check(inner.failed() == 1, "a wrong op goes unnoticed");
}

}  // namespace

}  // namespace quire::test

int main(int argc, char** argv) {
  using namespace quire;
  using namespace quire::test;
  uint64_t seed = 20260101;
  std::string filter;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--seed") == 0) seed = std::strtoull(argv[i + 1], nullptr, 10);
    if (std::strcmp(argv[i], "--filter") == 0) filter = argv[i + 1];
  }
  const std::vector<std::pair<std::string, void (*)(Run&, const Ops&)>> groups = {
      {"matmul", test_matmul},
      {"matmul", test_matmul_in_bf16},
      {"coded", test_coded_round_trip},
      {"coded", test_coded_refusal},
      {"coded", test_coded_soundness},
      {"coded", test_coded_matmul},
      {"coded", test_coded_embed},
      {"adapters", test_lora_matmul},
      {"integers", test_integer_matmul},
      {"rounding", test_integer_rounding},
      {"rounding", test_rounded_rows},
      {"embed_and_gather", test_embed_and_gather},
      {"rms_norm", test_rms_norm},
      {"rms_norm", test_rms_norm_alone},
      {"soft_cap", test_soft_cap},
      {"moe", test_moe},
      {"activations", test_activations},
      {"rope", test_rope_and_cache},
      {"attention", test_attention},
      {"attention", test_long_attention},
      {"attention", test_attention_rows},
      {"copy_blocks", test_copy_blocks},
      {"sampler", test_sampler},
      {"philox", test_philox},
      {"float16", test_float16},
      {"threads", test_thread_pool},
      {"canary", test_canary}};
  if (cpu_ops_amx() == nullptr) emulate_tile_instructions();
  int64_t passed = 0, failed = 0;
  for (const Ops* ops : {cpu_ops_avx512(), cpu_ops_avx512_bf16(), cpu_ops_amx_emulated(), cpu_ops_avx2(),
                         cpu_ops_portable()}) {
    if (ops == nullptr) continue;
    for (const auto& [name, test] : groups) {
      if (!filter.empty() && filter != name) continue;
      Run run(seed);
      test(run, *ops);
      std::printf("%s, %s: %lld checks, %lld failed (seed %llu)\n", name.c_str(), ops->name,
                  static_cast<long long>(run.passed() + run.failed()), static_cast<long long>(run.failed()),
                  static_cast<unsigned long long>(seed));
      passed += run.failed() == 0 ? 1 : 0;
      failed += run.failed() == 0 ? 0 : 1;
    }
  }
  std::printf("%lld passed, %lld failed\n", static_cast<long long>(passed), static_cast<long long>(failed));
  return failed == 0 && passed > 0 ? 0 : 1;
}
