// A batch that stands for nothing: for steps that are run so that everything has been used once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "batch.h"

namespace quire {

// num_tokens tokens in num_seqs sequences of about one length, which write nowhere; each samples
// greedily.
inline void fill_empty_batch(const Batch& batch, int num_tokens, int num_seqs, const BatchSizes& sizes,
                             int block_size) {
  batch.query_start_loc[0] = 0;
  for (int i = 0; i < num_seqs; i++) {
    const int start = batch.query_start_loc[i];
    const int end = static_cast<int>(int64_t{num_tokens} * (i + 1) / num_seqs);
    batch.query_start_loc[i + 1] = end;
    batch.context_lens[i] = end - start;
    batch.seq_rows[i] = i;
    batch.lora_rows[i] = -1;
    int32_t* blocks = batch.block_table + int64_t{i} * sizes.max_blocks_per_seq;
    std::fill(blocks, blocks + (end - start - 1) / block_size + 1, 1);
    for (int t = start; t < end; t++) {
      batch.token_ids[t] = 0;
      batch.positions[t] = t - start;
      batch.slot_mapping[t] = -1;
    }
    batch.logits_rows[i] = end - 1;
    batch.target_token_ids[i] = -1;
    batch.num_logprobs[i] = -1;
    batch.temperature[i] = 0;
    batch.grammar_rows[i] = -1;
    batch.token_count_start[i + 1] = batch.logit_bias_start[i + 1] = 0;
  }
}

}  // namespace quire
