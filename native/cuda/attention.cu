// The attention op: sequences with one query to paged_attention_decode, the others to
// flash_attention_prefill. The two add in different orders: batch-invariant, the second does everything,
// since whether a prompt's chunk has one token depends on the neighbours.

#include "cuda/attention_launch.h"
#include "cuda/kernels.h"

namespace quire::cuda {

namespace {

template <typename T, typename C>
void attend(const AttentionArgs& a, Stream& stream) {
  const KvCache& cache = *a.cache;
  constexpr float kLog2E = 1.4426950408889634f;
  const AttentionParams<T, C> params = {static_cast<T*>(a.out),
                                        static_cast<const T*>(a.q),
                                        a.q_stride,
                                        static_cast<const C*>(cache.k),
                                        static_cast<const C*>(cache.v),
                                        a.query_start_loc,
                                        a.context_lens,
                                        a.seq_rows,
                                        a.block_table,
                                        a.max_blocks_per_seq,
                                        cache.block_size,
                                        a.num_heads,
                                        cache.num_kv_heads,
                                        cache.head_size,
                                        a.sliding_window,
                                        (a.soft_cap > 0 ? a.soft_cap : a.scale) * kLog2E,
                                        a.soft_cap > 0 ? a.scale / a.soft_cap : 0,
                                        static_cast<float*>(stream.scratch())};
  if (stream.is_batch_invariant) {
    AttentionArgs all = a;
    all.num_decodes = 0;
    return flash_attention_prefill(params, all, stream);
  }
  if (a.num_decodes > 0) paged_attention_decode(params, a, stream);
  if (a.num_seqs > a.num_decodes) flash_attention_prefill(params, a, stream);
}

}  // namespace

template <typename T>
void attention(const AttentionArgs& a, Executor& executor) {
  Stream& stream = static_cast<Stream&>(executor);
  if (a.cache->dtype == DType::kF8) return attend<T, F8>(a, stream);
  attend<T, T>(a, stream);
}

template void attention<Half>(const AttentionArgs&, Executor&);
template void attention<BFloat>(const AttentionArgs&, Executor&);

}  // namespace quire::cuda
