// What the attention kernels are given, and the head sizes they exist for.
#pragma once

#include <stdexcept>
#include <string>

#include "cuda/attention_tile.h"
#include "cuda/stream.h"

namespace quire::cuda {

// C is the cache's form: T, or F8.
template <typename T, typename C>
struct AttentionParams {
  T* out;      // [tokens, num_heads, head_size]
  const T* q;  // row stride q_stride
  int64_t q_stride;
  const C* k_cache;
  const C* v_cache;
  const int32_t* query_start_loc;
  const int32_t* context_lens;
  const int32_t* seq_rows;
  const int32_t* block_table;
  int max_blocks_per_seq, block_size, num_heads, num_kv_heads, head_size, sliding_window;
  float scale_log2;  // of scores, for powers of two; of capped scores where there is a cap
  float cap_scale;   // scale / soft cap, 0 is no cap
  float* partials;   // scratch of paged_attention_decode

  QUIRE_HOST_DEVICE int group() const { return num_heads / num_kv_heads; }
  QUIRE_DEVICE PagedRows rows(int64_t seq, int kv_head) const {
    return {block_table + int64_t{seq_rows[seq]} * max_blocks_per_seq, block_size, num_kv_heads, kv_head,
            head_size};
  }
};

template <int kSize>
struct HeadSize {
  static constexpr int value = kSize;
};

constexpr int kHeadSizes[] = {32, 64, 80, 96, 128, 256};

// Calls body(HeadSize<n>) for the n that the model was padded to when it was loaded.
template <typename Body>
void with_head_size(int head_size, const Body& body) {
  switch (head_size) {
    case 32:
      return body(HeadSize<32>{});
    case 64:
      return body(HeadSize<64>{});
    case 80:
      return body(HeadSize<80>{});
    case 96:
      return body(HeadSize<96>{});
    case 128:
      return body(HeadSize<128>{});
    case 256:
      return body(HeadSize<256>{});
    default:
      throw std::runtime_error("no attention kernel for head size " + std::to_string(head_size));
  }
}

// The sequences at the front that have one query.
template <typename T, typename C>
void paged_attention_decode(const AttentionParams<T, C>& p, const AttentionArgs& a, Stream& stream);
size_t decode_scratch_bytes(int num_seqs, int num_heads, int head_size);

// All sequences from a.num_decodes on.
template <typename T, typename C>
void flash_attention_prefill(const AttentionParams<T, C>& p, const AttentionArgs& a, Stream& stream);
// The same on compute capability 9.0, for heads of 64 and 128 and a group of at most 128.
template <typename T>
void flash_attention_prefill_wgmma(const AttentionParams<T, T>& p, const AttentionArgs& a, Stream& stream);

}  // namespace quire::cuda
