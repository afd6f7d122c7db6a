// The launchers of the CUDA kernels: ops.h's contracts, for activations of type T (Half or BFloat).
#pragma once

#include "cuda/device.h"
#include "ops.h"

namespace quire::cuda {

void embed(const EmbedArgs& a, Executor& stream);
void rope_table(const RopeTableArgs& a, Executor& stream);
void moe_route(const MoeRouteArgs& a, Executor& stream);
void soft_cap(const SoftCapArgs& a, Executor& stream);
void gather_rows(const GatherRowsArgs& a, Executor& stream);
void copy_blocks(const CopyBlocksArgs& a, Executor& stream);
void sample(const SampleArgs& a, Executor& stream);

template <typename T>
void rms_norm(const RmsNormArgs& a, Executor& stream);
template <typename T>
void rope_and_cache(const RopeAndCacheArgs& a, Executor& stream);
template <typename T>
void silu_mul(const GatedActivationArgs& a, Executor& stream);
template <typename T>
void gelu_mul(const GatedActivationArgs& a, Executor& stream);
template <typename T>
void moe_combine(const MoeCombineArgs& a, Executor& stream);
// K must be a multiple of 8.
template <typename T>
void grouped_matmul(const GroupedMatmulArgs& a, Executor& stream);
template <typename T>
void lora_matmul(const LoraMatmulArgs& a, Executor& stream);
// Dense by cuBLASLt, 4-bit by awq_matmul. Where the stream is batch-invariant, rows up to the next multiple
// of kInvariantRows are read and written.
constexpr int kInvariantRows = 128;
template <typename T>
void matmul(const MatmulArgs& a, Executor& stream);
// Sequences with one query by paged_attention_decode, the others by flash_attention_prefill.
template <typename T>
void attention(const AttentionArgs& a, Executor& stream);

}  // namespace quire::cuda
