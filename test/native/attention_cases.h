#pragma once

#include "ops.h"
#include "test_tools.h"

namespace quire::test {

// Forms of keys and values on the CPU.
inline std::vector<DType> kv_dtypes() { return {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}; }

// Against the reference, decodes and chunks, on the seams of blocks.
void test_attention(Run& run, const Ops& ops);
// Against the reference, contexts of several key ranges, and the same on several threads.
void test_long_attention(Run& run, const Ops& ops);
// A row has the same bits as a decode and within any chunk, at any block size, on any number of threads.
void test_attention_rows(Run& run, const Ops& ops);

}  // namespace quire::test
