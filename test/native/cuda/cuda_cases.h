// The groups of cuda_test.
#pragma once

#include "cuda/stream.h"
#include "test_tools.h"

namespace quire::test {

void test_emulator(Run& run, cuda::Stream& stream);
void test_warpgroup_emulator(Run& run, cuda::Stream& stream);
void test_elementwise(Run& run, cuda::Stream& stream);
void test_attention_decode(Run& run, cuda::Stream& stream);
void test_attention_prefill(Run& run, cuda::Stream& stream);
void test_attention_prefill_wgmma(Run& run, cuda::Stream& stream);
void test_moe_kernels(Run& run, cuda::Stream& stream);
void test_feed_back(Run& run, cuda::Stream& stream);
void test_sampling(Run& run, cuda::Stream& stream);
void test_f8(Run& run, cuda::Stream& stream);
void test_awq(Run& run, cuda::Stream& stream);

}  // namespace quire::test
