// Low-rank updates of any mix of adapters (S-LoRA, arXiv 2311.03285): first inner = A x of each row, kept in
// the stream's scratch, then out += inner B. Rows are independent; a row without an adapter costs a test.
// Bound: memory bandwidth; A and B of a row's adapter are read once a row, mostly from the second-level
// cache.

#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace quire::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarpsPerBlock = kThreads / kWarp;

// One warp a rank.
template <typename T>
__global__ void lora_shrink_kernel(float* inner, const T* x, int64_t x_stride, const LoraMatrix* matrices,
                                   const int32_t* token_slots, int num_inputs) {
  const int64_t t = blockIdx.y;
  const int slot = token_slots[t];
  if (slot < 0) return;
  const LoraMatrix m = matrices[slot];
  const int r = blockIdx.x * kWarpsPerBlock + threadIdx.x / kWarp;
  if (m.a == nullptr || r >= m.rank) return;
  float sum = 0;
  for (int k = threadIdx.x % kWarp; k < num_inputs; k += kWarp) {
    sum += m.a[int64_t{r} * num_inputs + k] * to_float(x[t * x_stride + k]);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) inner[t * kMaxLoraRank + r] = sum;
}

template <typename T>
__global__ void lora_expand_kernel(T* out, int64_t out_stride, const float* inner, const LoraMatrix* matrices,
                                   const int32_t* token_slots, int num_outputs) {
  const int n = blockIdx.x * kThreads + threadIdx.x;
  const int64_t t = blockIdx.y;
  const int slot = token_slots[t];
  if (slot < 0 || n >= num_outputs) return;
  const LoraMatrix m = matrices[slot];
  if (m.a == nullptr) return;
  float sum = 0;
  for (int r = 0; r < m.rank; r++) sum += inner[t * kMaxLoraRank + r] * m.b[int64_t{r} * num_outputs + n];
  out[t * out_stride + n] = from_float<T>(to_float(out[t * out_stride + n]) + sum);
}

}  // namespace

template <typename T>
void lora_matmul(const LoraMatmulArgs& a, Executor& executor) {
  Stream& stream = static_cast<Stream&>(executor);
  float* inner = static_cast<float*>(stream.scratch());
  const unsigned rows = static_cast<unsigned>(a.num_tokens);
  launch("lora_shrink", lora_shrink_kernel<T>, {static_cast<unsigned>(kMaxLoraRank / kWarpsPerBlock), rows},
         kThreads, 0, stream, inner, static_cast<const T*>(a.x), a.x_stride, a.matrices, a.token_slots,
         static_cast<int>(a.num_inputs));
  const int columns = div_up(static_cast<int>(a.num_outputs), kThreads);
  launch("lora_expand", lora_expand_kernel<T>, {static_cast<unsigned>(columns), rows}, kThreads, 0, stream,
         static_cast<T*>(a.out), a.out_stride, static_cast<const float*>(inner), a.matrices, a.token_slots,
         static_cast<int>(a.num_outputs));
}

template void lora_matmul<Half>(const LoraMatmulArgs&, Executor&);
template void lora_matmul<BFloat>(const LoraMatmulArgs&, Executor&);

}  // namespace quire::cuda
