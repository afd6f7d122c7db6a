// The query rows of one block of flash_attention_prefill, in either of its forms: which they are, which keys
// they see, and where their results go. A row is a query token of one head; the heads of a KV head share a
// tile, row r being token r / group and head r % group, so that a tile of keys serves them all.
#pragma once

#include "cuda/attention_launch.h"
#include "cuda/attention_tile.h"

namespace quire::cuda {

struct QueryTile {
  int64_t first_token;  // of the step
  int first_position;   // of that token in its sequence
  int num_rows;
  int first_head;
  int group;
  QUIRE_DEVICE int position(int row) const { return first_position + row / group; }
  QUIRE_DEVICE int last_position() const { return position(num_rows - 1); }
  // Keys that some row sees.
  QUIRE_DEVICE int first_key(int sliding_window) const {
    return sliding_window > 0 && first_position >= sliding_window ? first_position - sliding_window + 1 : 0;
  }
  QUIRE_DEVICE int end() const { return last_position() + 1; }
  // Whether the 16 rows from `row` on see all of `keys` keys from `start` on.
  QUIRE_DEVICE bool sees_all(int row, int start, int keys, int sliding_window) const {
    return start + keys - 1 <= position(row) &&
           (sliding_window == 0 || start > position(row + 15) - sliding_window);
  }
};

// Those of block (x, KV head, sequence after first_seq); none when the sequence has no rows for it. The
// longest rows first: blocks start in the order of their index, and the last ones should be short.
template <typename T, typename C>
QUIRE_DEVICE QueryTile find_queries(const AttentionParams<T, C>& p, int64_t seq, int block_rows) {
  const int kv_head = blockIdx.y;
  const int tokens_per_block = block_rows / p.group();
  const int num_queries = p.query_start_loc[seq + 1] - p.query_start_loc[seq];
  const int num_blocks = (num_queries + tokens_per_block - 1) / tokens_per_block;
  const int first_query = (num_blocks - 1 - static_cast<int>(blockIdx.x)) * tokens_per_block;
  if (first_query < 0) return {0, 0, 0, 0, 1};
  const int num_tokens =
      num_queries - first_query < tokens_per_block ? num_queries - first_query : tokens_per_block;
  return {p.query_start_loc[seq] + first_query, p.context_lens[seq] - num_queries + first_query,
          num_tokens * p.group(), kv_head * p.group(), p.group()};
}

// Scores of keys that a row does not see become -inf. `row` is the row of lane / 4.
template <int kTiles>
QUIRE_DEVICE void mask(float (&scores)[kTiles][4], const QueryTile& queries, int row, int start,
                       int sliding_window, int lane) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int position = queries.position(row + 8 * i);
    const int first = sliding_window > 0 ? position - sliding_window + 1 : 0;
#pragma unroll
    for (int j = 0; j < kTiles; j++) {
#pragma unroll
      for (int c = 0; c < 2; c++) {
        const int key = start + 8 * j + 2 * (lane % 4) + c;
        if (key > position || key < first) scores[j][2 * i + c] = kMinusInfinity;
      }
    }
  }
}

template <int kHeadSize, typename T, typename C>
QUIRE_DEVICE void write_rows(const SoftmaxState& state, const float (&acc)[kHeadSize / 8][4],
                             const AttentionParams<T, C>& p, const QueryTile& queries, int row, int lane) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int r = row + 8 * i;
    const float inverse = 1.0f / state.row_sum(i);
    if (r >= queries.num_rows) continue;
    const int64_t token = queries.first_token + r / queries.group;
    T* out =
        p.out + (token * p.num_heads + queries.first_head + r % queries.group) * kHeadSize + 2 * (lane % 4);
#pragma unroll
    for (int j = 0; j < kHeadSize / 8; j++) {
      const uint32_t pair = pack<T>(acc[j][2 * i] * inverse, acc[j][2 * i + 1] * inverse);
      memcpy(out + 8 * j, &pair, 4);
    }
  }
}

}  // namespace quire::cuda
