// The arena between engine and native: one block of memory, handed to TypeScript as typed-array views once.
// This file is the source of truth; engine/native.ts mirrors it field by field.
//
// Sizes: T max_num_batched_tokens, R max_num_seqs (N <= R), B max_blocks_per_seq, K max_logprobs, L <= T
// logits rows, V vocabulary, H hidden size, P token-count entries (grows by reserve_token_counts only), Q =
// R * kMaxLogitBias.
#pragma once

#include <cstdint>

namespace quire {

constexpr int kMaxLogitBias = 1024;

struct BatchSizes {
  int max_num_batched_tokens;  // T
  int max_num_seqs;            // R
  int max_blocks_per_seq;      // B
  int max_logprobs;            // K
  int vocab_size;              // V
  int hidden_size;             // H
};

// Words of one row of the grammar bitmask.
inline int64_t bitmask_words(int vocab_size) { return (vocab_size + 31) / 32; }

struct Batch {
  int32_t* token_ids;        // [T] -1 - r: what row r of the step before samples (asynchronous backends)
  int32_t* positions;        // [T]
  int32_t* slot_mapping;     // [T] block * block_size + offset; -1 writes nothing
  int32_t* query_start_loc;  // [N+1]
  int32_t* context_lens;     // [N] tokens in the KV cache after this step's writes
  int32_t* seq_rows;         // [N] row of block_table
  int32_t* block_table;      // [R, B] persistent
  int32_t* lora_rows;        // [N] adapter slot, -1 for none
  int32_t* token_slots;      // [T] the same for each token; the model's own, not handed out

  int32_t* hidden_rows;  // [R] index into T of each token whose hidden state is wanted

  int32_t* logits_rows;       // [L] index into T
  int32_t* target_token_ids;  // [L] -1 samples
  int32_t* num_logprobs;      // [L] -1 none, 0 sampled/target only, k the k likeliest too
  float* temperature;         // [L] 0 is greedy
  float* top_p;               // [L] 1 is off
  float* min_p;               // [L] 0 is off
  int32_t* top_k;             // [L] 0 is off
  uint32_t* seeds;            // [L, 2]
  float* repetition_penalty;  // [L] 1 is off
  float* presence_penalty;    // [L] 0 is off
  float* frequency_penalty;   // [L] 0 is off

  int32_t* token_count_start;  // [L+1]
  int32_t* token_count_ids;    // [P] the last of a row may be -1 - r as in token_ids; then its count is 1
  int32_t* token_counts;       // [P] occurrences in the output, 0: in the prompt only
  int32_t* logit_bias_start;   // [L+1]
  int32_t* logit_bias_ids;     // [Q]
  float* logit_bias_values;    // [Q]
  int32_t* grammar_rows;       // [L] row of grammar_bitmask, -1 for none
  uint32_t* grammar_bitmask;   // [R, ceil(V / 32)] bit i % 32 of word i / 32: the grammar allows token i

  int32_t* sampled_token_ids;  // out [L]
  float* sampled_logprobs;     // out [L]
  int32_t* sampled_ranks;      // out [L] 1 is likeliest
  int32_t* top_token_ids;      // out [L, K]
  float* top_logprobs;         // out [L, K]
  float* hidden_states;        // out [R, H] of hidden_rows, after the last norm
};

}  // namespace quire
