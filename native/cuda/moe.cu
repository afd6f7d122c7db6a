// Mixture of experts: tokens to their experts and back. moe_choose: one warp a token. moe_place: one warp an
// expert, which finds its tokens in their order by ballots, so that nothing depends on who comes first.
// Bound: launches, and the passes of every expert over the choices of all tokens, from cache.

#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace quire::cuda {

namespace {

constexpr int kWarpsPerBlock = 4;
constexpr int kPerLane = kMaxExperts / kWarp;
constexpr float kMinusInfinity = -__builtin_inff();
constexpr int kThreads = 256;

struct Choice {
  float logit;
  int expert;
};
QUIRE_DEVICE bool is_better(const Choice& a, const Choice& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.expert < b.expert);
}
QUIRE_DEVICE Choice warp_best(Choice best) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const Choice other = {shuffle_xor(best.logit, mask),
                          static_cast<int>(float_as_bits(shuffle_xor(bits_as_float(best.expert), mask)))};
    if (is_better(other, best)) best = other;
  }
  return best;
}

__global__ void moe_choose_kernel(MoeRouteArgs a) {
  const int t = static_cast<int>(blockIdx.x * kWarpsPerBlock + threadIdx.x / kWarp);
  const int lane = threadIdx.x % kWarp;
  if (t >= a.num_tokens) return;
  const float* logits = a.logits + int64_t{t} * a.num_experts;
  Choice last = {-kMinusInfinity, -1};
  float max = 0, chosen_sum = 0;
  for (int j = 0; j < a.top_k; j++) {
    Choice best = {kMinusInfinity, kMaxExperts};
    for (int i = 0; i < kPerLane; i++) {
      const int e = i * kWarp + lane;
      if (e >= a.num_experts) break;
      // NaN is the unlikeliest: a token always goes to top_k experts.
      const Choice candidate = {logits[e] == logits[e] ? logits[e] : kMinusInfinity, e};
      if (is_better(last, candidate) && is_better(candidate, best)) best = candidate;
    }
    last = warp_best(best);
    if (j == 0) max = last.logit;
    const float weight = expf(last.logit - max);
    chosen_sum += weight;
    if (lane != 0) continue;
    a.expert_ids[int64_t{t} * a.top_k + j] = last.expert;
    a.weights[int64_t{t} * a.top_k + j] = weight;
  }
  float sum = 0;
  for (int e = lane; e < a.num_experts; e += kWarp) sum += expf(logits[e] - max);
  sum = a.renormalises ? chosen_sum : warp_sum(sum);
  if (lane != 0) return;
  for (int j = 0; j < a.top_k; j++) a.weights[int64_t{t} * a.top_k + j] /= sum;
}

// The expert of this block: how many choices are of lower ones, then its own, one after the other.
__global__ void moe_place_kernel(MoeRouteArgs a) {
  const int expert = static_cast<int>(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x);
  const int num_rows = a.num_tokens * a.top_k;
  int lower = 0;
  for (int first = 0; first < num_rows; first += kWarp) {
    const int i = first + lane;
    lower += count_bits(ballot(i < num_rows && a.expert_ids[i] < expert));
  }
  if (lane == 0) a.expert_start[expert] = lower;
  if (lane == 0 && expert == a.num_experts - 1) a.expert_start[a.num_experts] = num_rows;
  int next = lower;
  for (int first = 0; first < num_rows; first += kWarp) {
    const int i = first + lane;
    const bool is_own = i < num_rows && a.expert_ids[i] == expert;
    const uint32_t owners = ballot(is_own);
    const int row = next + count_bits(owners & ((1u << lane) - 1));
    next += count_bits(owners);
    if (!is_own) continue;
    a.places[i] = row;
    a.source_rows[row] = i / a.top_k;
  }
}

template <typename T>
__global__ void moe_combine_kernel(T* out, const T* y, const float* weights, const int32_t* places, int top_k,
                                   int size) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const int64_t t = blockIdx.y;
  if (i >= size) return;
  float sum = 0;
  for (int64_t j = t * top_k; j < (t + 1) * top_k; j++) {
    sum += weights[j] * to_float(y[int64_t{places[j]} * size + i]);
  }
  out[t * size + i] = from_float<T>(sum);
}

}  // namespace

void moe_route(const MoeRouteArgs& a, Executor& executor) {
  Stream& stream = static_cast<Stream&>(executor);
  launch("moe_choose", moe_choose_kernel, {static_cast<unsigned>(div_up(a.num_tokens, kWarpsPerBlock))},
         kWarpsPerBlock * kWarp, 0, stream, a);
  launch("moe_place", moe_place_kernel, {static_cast<unsigned>(a.num_experts)}, kWarp, 0, stream, a);
}

template <typename T>
void moe_combine(const MoeCombineArgs& a, Executor& executor) {
  launch("moe_combine", moe_combine_kernel<T>,
         {static_cast<unsigned>(div_up(a.size, kThreads)), static_cast<unsigned>(a.num_tokens)}, kThreads, 0,
         static_cast<Stream&>(executor), static_cast<T*>(a.out), static_cast<const T*>(a.y), a.weights,
         a.places, a.top_k, a.size);
}

template void moe_combine<Half>(const MoeCombineArgs&, Executor&);
template void moe_combine<BFloat>(const MoeCombineArgs&, Executor&);

}  // namespace quire::cuda
