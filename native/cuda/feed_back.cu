// Tokens from one step to the next without the host: a negative id in token_ids, or at the end of a row's
// token counts, stands for what a row of the step before has sampled. One block a sequence of tokens, one a
// logits row; bound: nothing but the launch.

#include "cuda/launch.h"
#include "cuda/step_buffers.h"

namespace quire::cuda {

namespace {

constexpr int kThreads = 128;

__global__ void feed_back_tokens_kernel(Batch b, int num_tokens) {
  const int t = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (t >= num_tokens || b.token_ids[t] >= 0) return;
  b.token_ids[t] = b.sampled_token_ids[-1 - b.token_ids[t]];
}

// A token that the row knows already is counted there, and the entry stands for nothing any more (-1).
__global__ void feed_back_counts_kernel(Batch b) {
  const int row = static_cast<int>(blockIdx.x);
  const int first = b.token_count_start[row];
  const int last = b.token_count_start[row + 1] - 1;
  if (last < first || b.token_count_ids[last] >= 0) return;
  const int token = b.sampled_token_ids[-1 - b.token_count_ids[last]];
  const Shared<int> known = shared_at<int>(0);
  if (threadIdx.x == 0) known.store(0, 0);
  block_sync();
  for (int e = first + static_cast<int>(threadIdx.x); e < last; e += kThreads) {
    if (b.token_count_ids[e] != token) continue;
    b.token_counts[e]++;
    known.store(0, 1);
  }
  block_sync();
  if (threadIdx.x == 0) b.token_count_ids[last] = known.load(0) != 0 ? -1 : token;
}

}  // namespace

void feed_back_tokens(const Batch& batch, int num_tokens, Stream& stream) {
  launch("feed_back_tokens", feed_back_tokens_kernel, {static_cast<unsigned>(div_up(num_tokens, kThreads))},
         kThreads, 0, stream, batch, num_tokens);
}

void feed_back_counts(const Batch& batch, int num_logits_rows, Stream& stream) {
  launch("feed_back_counts", feed_back_counts_kernel, {static_cast<unsigned>(num_logits_rows)}, kThreads,
         sizeof(int), stream, batch);
}

}  // namespace quire::cuda
