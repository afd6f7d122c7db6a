#include "batch_checks.h"

#include <stdexcept>
#include <string>

namespace quire {

namespace {

void check_range(const char* array, int64_t index, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return;
  throw std::runtime_error(std::string(array) + "[" + std::to_string(index) + "] is " +
                           std::to_string(value) + ", allowed " + std::to_string(low) + " to " +
                           std::to_string(high));
}

void check_sequence(const Batch& b, const BatchBounds& bounds, const BatchSizes& sizes, int s) {
  const int num_queries = b.query_start_loc[s + 1] - b.query_start_loc[s];
  const int64_t max_context = int64_t{sizes.max_blocks_per_seq} * bounds.block_size;
  check_range("query_start_loc", s + 1, b.query_start_loc[s + 1], b.query_start_loc[s] + 1,
              bounds.num_tokens);
  check_range("context_lens", s, b.context_lens[s], num_queries, max_context);
  check_range("seq_rows", s, b.seq_rows[s], 0, sizes.max_num_seqs - 1);
  const int32_t* blocks = b.block_table + int64_t{b.seq_rows[s]} * sizes.max_blocks_per_seq;
  const int num_blocks = (b.context_lens[s] + bounds.block_size - 1) / bounds.block_size;
  for (int i = 0; i < num_blocks; i++) check_range("block_table", i, blocks[i], 1, bounds.num_blocks - 1);
  for (int j = 0; j < num_queries; j++) {
    const int t = b.query_start_loc[s] + j;
    const int position = b.context_lens[s] - num_queries + j;
    check_range("positions", t, b.positions[t], position, position);
    const int64_t slot =
        int64_t{blocks[position / bounds.block_size]} * bounds.block_size + position % bounds.block_size;
    if (b.slot_mapping[t] != -1) check_range("slot_mapping", t, b.slot_mapping[t], slot, slot);
  }
}

void check_logits_row(const Batch& b, const BatchBounds& bounds, const BatchSizes& sizes, int row) {
  check_range("logits_rows", row, b.logits_rows[row], 0, bounds.num_tokens - 1);
  check_range("target_token_ids", row, b.target_token_ids[row], -1, bounds.vocab_size - 1);
  check_range("num_logprobs", row, b.num_logprobs[row], -1, sizes.max_logprobs);
  check_range("grammar_rows", row, b.grammar_rows[row], -1, sizes.max_num_seqs - 1);
  check_range("token_count_start", row + 1, b.token_count_start[row + 1], b.token_count_start[row],
              bounds.token_count_capacity);
  for (int e = b.token_count_start[row]; e < b.token_count_start[row + 1]; e++) {
    check_range("token_count_ids", e, b.token_count_ids[e], -bounds.num_earlier_rows, bounds.vocab_size - 1);
  }
  check_range("logit_bias_start", row + 1, b.logit_bias_start[row + 1], b.logit_bias_start[row],
              int64_t{sizes.max_num_seqs} * kMaxLogitBias);
  for (int e = b.logit_bias_start[row]; e < b.logit_bias_start[row + 1]; e++) {
    check_range("logit_bias_ids", e, b.logit_bias_ids[e], 0, bounds.vocab_size - 1);
  }
}

}  // namespace

void check_inputs(const Batch& b, const BatchBounds& bounds, const BatchSizes& sizes) {
  for (int t = 0; t < bounds.num_tokens; t++)
    check_range("token_ids", t, b.token_ids[t], -bounds.num_earlier_rows, bounds.vocab_size - 1);
  check_range("query_start_loc", 0, b.query_start_loc[0], 0, 0);
  for (int s = 0; s < bounds.num_seqs; s++) check_sequence(b, bounds, sizes, s);
  check_range("query_start_loc", bounds.num_seqs, b.query_start_loc[bounds.num_seqs], bounds.num_tokens,
              bounds.num_tokens);
}

void check_rows(const Batch& b, const BatchBounds& bounds, const BatchSizes& sizes) {
  for (int i = 0; i < bounds.num_hidden_rows; i++)
    check_range("hidden_rows", i, b.hidden_rows[i], 0, bounds.num_tokens - 1);
  if (bounds.num_logits_rows > 0) {
    check_range("token_count_start", 0, b.token_count_start[0], 0, 0);
    check_range("logit_bias_start", 0, b.logit_bias_start[0], 0, 0);
  }
  for (int row = 0; row < bounds.num_logits_rows; row++) check_logits_row(b, bounds, sizes, row);
}

}  // namespace quire
