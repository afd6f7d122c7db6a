// Normalises (where the model has q and k norms) and rotates the heads of q and k, and writes k and v to
// their slots. One warp a head: RoFormer's rotation (arXiv 2104.09864) pairs element i with element num_freqs
// + i. Bound: memory bandwidth; every element of qkv is read and written once.

#include "cuda/float8.h"
#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace quire::cuda {

namespace {

constexpr int kWarpsPerBlock = 4;
constexpr int kMaxHeadSize = 256;
constexpr int kPerLane = kMaxHeadSize / kWarp;

template <typename T, typename C>
struct RopeAndCacheParams {
  T* qkv;
  C* k_cache;  // T, or F8
  C* v_cache;
  const int32_t* slot_mapping;
  const float* rope_table;
  const float* q_norm;
  const float* k_norm;
  float norm_eps;
  int num_heads, num_kv_heads, head_size, norm_size, num_freqs, block_size;
};

// Where a token's K or V of one head lies in the cache.
template <typename T, typename C>
QUIRE_DEVICE int64_t cache_offset(const RopeAndCacheParams<T, C>& p, int64_t slot, int kv_head) {
  const int64_t block = slot / p.block_size;
  return ((block * p.num_kv_heads + kv_head) * p.block_size + slot % p.block_size) * p.head_size;
}

struct Rotation {
  const float* cosines;  // then the sines
  const float* norm;     // may be null
  int num_freqs, head_size, norm_size;
  float norm_eps;
};

// A head spread over the warp: values[j] of a lane is element j * 32 + lane.
template <typename T>
QUIRE_DEVICE void normalise_and_rotate(float (&values)[kPerLane], const T* head, const Rotation& r,
                                       int lane) {
  float scale = 1;
  if (r.norm != nullptr) {
    float squares = 0;
    for (int j = 0; j < kPerLane; j++) squares += values[j] * values[j];
    scale = rsqrtf(warp_sum(squares) / static_cast<float>(r.norm_size) + r.norm_eps);
  }
  const auto normed = [&](float value, int i) {
    return r.norm != nullptr ? value * scale * r.norm[i] : value;
  };
  // The partner of an element may be another lane's: it is read where it lies, before anybody writes.
  for (int j = 0; j < kPerLane; j++) {
    const int i = j * kWarp + lane;
    if (i >= r.head_size) continue;
    values[j] = normed(values[j], i);
    if (i >= 2 * r.num_freqs) continue;
    const bool is_low = i < r.num_freqs;
    const int f = is_low ? i : i - r.num_freqs;
    const int other = is_low ? i + r.num_freqs : f;
    const float partner = normed(to_float(head[other]), other);
    const float sine = r.cosines[r.num_freqs + f];
    values[j] = values[j] * r.cosines[f] + partner * (is_low ? -sine : sine);
  }
  warp_sync();
}

template <typename T, typename C>
__global__ void rope_and_cache_kernel(RopeAndCacheParams<T, C> p) {
  const int num_all = p.num_heads + 2 * p.num_kv_heads;
  const int h = blockIdx.x * kWarpsPerBlock + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int64_t t = blockIdx.y;
  if (h >= num_all) return;
  T* head = p.qkv + (t * num_all + h) * p.head_size;
  const bool is_value = h >= p.num_heads + p.num_kv_heads;
  const bool is_query = h < p.num_heads;

  float values[kPerLane];
  for (int j = 0; j < kPerLane; j++) {
    const int i = j * kWarp + lane;
    values[j] = i < p.head_size ? to_float(head[i]) : 0.0f;
  }
  if (!is_value) {
    const Rotation rotation = {p.rope_table + t * 2 * p.num_freqs,
                               is_query ? p.q_norm : p.k_norm,
                               p.num_freqs,
                               p.head_size,
                               p.norm_size,
                               p.norm_eps};
    normalise_and_rotate(values, head, rotation, lane);
  }
  const int64_t slot = p.slot_mapping[t];
  C* cached = nullptr;
  if (!is_query && slot >= 0) {
    const int kv_head = h - p.num_heads - (is_value ? p.num_kv_heads : 0);
    cached = (is_value ? p.v_cache : p.k_cache) + cache_offset(p, slot, kv_head);
  }
  for (int j = 0; j < kPerLane; j++) {
    const int i = j * kWarp + lane;
    if (i >= p.head_size) continue;
    if (!is_value) head[i] = from_float<T>(values[j]);
    if (cached != nullptr) cached[i] = from_float<C>(values[j]);
  }
}

template <typename T, typename C>
void launch_rope_and_cache(const RopeAndCacheArgs& a, Stream& stream) {
  const KvCache& cache = *a.cache;
  const auto norm = [](const Tensor* t) {
    return t == nullptr ? nullptr : static_cast<const float*>(t->data);
  };
  const RopeAndCacheParams<T, C> params = {static_cast<T*>(a.qkv),
                                           static_cast<C*>(cache.k),
                                           static_cast<C*>(cache.v),
                                           a.slot_mapping,
                                           a.rope_table,
                                           norm(a.q_norm),
                                           norm(a.k_norm),
                                           a.norm_eps,
                                           a.num_heads,
                                           cache.num_kv_heads,
                                           cache.head_size,
                                           a.norm_size > 0 ? a.norm_size : cache.head_size,
                                           a.num_freqs,
                                           cache.block_size};
  const int num_all = a.num_heads + 2 * cache.num_kv_heads;
  launch("rope_and_cache", rope_and_cache_kernel<T, C>,
         {static_cast<unsigned>(div_up(num_all, kWarpsPerBlock)), static_cast<unsigned>(a.num_tokens)},
         kWarpsPerBlock * kWarp, 0, stream, params);
}

}  // namespace

template <typename T>
void rope_and_cache(const RopeAndCacheArgs& a, Executor& executor) {
  Stream& stream = static_cast<Stream&>(executor);
  if (a.cache->dtype == DType::kF8) return launch_rope_and_cache<T, F8>(a, stream);
  launch_rope_and_cache<T, T>(a, stream);
}

template void rope_and_cache<Half>(const RopeAndCacheArgs&, Executor&);
template void rope_and_cache<BFloat>(const RopeAndCacheArgs&, Executor&);

}  // namespace quire::cuda
