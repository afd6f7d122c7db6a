// The CUDA kernels against native/reference: on a GPU, or in the emulator, whichever this was built for.
//
//   cuda_test [--seed N] [--filter NAME]   prints a line per group, then "N passed, N failed"; exit status 1
//   on failure.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "cuda_cases.h"

int main(int argc, char** argv) {
  using namespace quire::test;
  uint64_t seed = 1;
  std::string filter;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--seed") == 0) seed = std::strtoull(argv[i + 1], nullptr, 10);
    if (std::strcmp(argv[i], "--filter") == 0) filter = argv[i + 1];
  }
  const struct {
    const char* name;
    void (*test)(Run&, quire::cuda::Stream&);
  } groups[] = {{"emulator", test_emulator},
                {"warpgroups", test_warpgroup_emulator},
                {"elementwise", test_elementwise},
                {"paged_attention_decode", test_attention_decode},
                {"flash_attention_prefill", test_attention_prefill},
                {"wgmma prefill", test_attention_prefill_wgmma},
                {"moe", test_moe_kernels},
                {"feed_back", test_feed_back},
                {"sampler", test_sampling},
                {"f8_matmul", test_f8},
                {"awq_matmul", test_awq}};
  int64_t passed = 0, failed = 0;
  quire::cuda::Stream stream(0);
  for (const auto& group : groups) {
    if (std::string(group.name).find(filter) == std::string::npos) continue;
    Run run(seed);
    try {
      group.test(run, stream);
    } catch (const std::exception& error) {
      run.check(false, error.what());
    }
    std::printf("%-24s %lld passed, %lld failed\n", group.name, static_cast<long long>(run.passed()),
                static_cast<long long>(run.failed()));
    passed += run.passed();
    failed += run.failed();
  }
  std::printf("%lld passed, %lld failed\n", static_cast<long long>(passed), static_cast<long long>(failed));
  return failed > 0 ? 1 : 0;
}
