// The ops that pass over activations once: embedding, norms, rotation, gated activations, row gathering,
// block copies. Bound: cache or memory bandwidth.
#pragma once

#include <cmath>

#include "coded_bf16.h"
#include "cpu/pieces.h"
#include "cpu/round_row.h"
#include "cpu/simd_kv.h"
#include "float16.h"
#include "ops.h"
#include "rounded_activations.h"
#include "thread_pool.h"
#include "weight_panels.h"

namespace quire::QUIRE_VARIANT {

// A row's numbers lie apart: a table that is the output head too is packed for that.
template <typename T>
inline void embed_from_panels(const EmbedArgs& a, ThreadPool& pool) {
  const int size = static_cast<int>(a.table->cols), per_line = inputs_per_line(a.table->dtype);
  const auto* table = static_cast<const typename T::Storage*>(a.table->data);
  const Vec scale = broadcast(a.scale);
  for_each_row(pool, a.num_tokens, size, [&](int64_t t) {
    for_each_vector(size, [&](int i, int n) {
      typename T::Storage row[kWidth] = {};
      const int64_t place = panel_place(*a.table, a.token_ids[t], i);
      for (int j = 0; j < n; j++) row[j] = table[place + j / per_line * per_line * kPanelRows + j % per_line];
      store_up_to(a.out + t * size + i, mul(load<T>(row), scale), n);
    });
  });
}

inline void embed_from_coded(const EmbedArgs& a, ThreadPool& pool) {
  const int size = static_cast<int>(a.table->cols);
  const Vec scale = broadcast(a.scale);
  auto* rows = reinterpret_cast<uint16_t*>(pool.workspace(bf16_bytes(a.num_tokens, size)));
  for_each_row(pool, a.num_tokens, size, [&](int64_t t) {
    uint16_t* row = rows + t * bf16_stride(size);
    read_coded_row(*a.table, a.token_ids[t], row);
    for_each_vector(size, [&](int i, int n) {
      store_up_to(a.out + t * size + i, mul(load_up_to<BF16>(row + i, n), scale), n);
    });
  });
}

inline void embed(const EmbedArgs& a, ThreadPool& pool) {
  if (a.table->is_coded) return embed_from_coded(a, pool);
  const int size = static_cast<int>(a.table->cols);
  const Vec scale = broadcast(a.scale);
  with_dtype(a.table->dtype, [&](auto tag) {
    using T = decltype(tag);
    const auto* table = static_cast<const typename T::Storage*>(a.table->data);
    if (a.table->in_panels) return embed_from_panels<T>(a, pool);
    for_each_row(pool, a.num_tokens, size, [&](int64_t t) {
      const auto* row = table + int64_t{a.token_ids[t]} * size;
      for_each_vector(size, [&](int i, int n) {
        store_up_to(a.out + t * size + i, mul(load_up_to<T>(row + i, n), scale), n);
      });
    });
  });
}

// Row t of an op: values(i, n) are its n numbers from i on. To `out`, or in 8 bits to `rounded`.
template <typename Values>
inline void write_row(float* out, const RoundedRows* rounded, int64_t t, int size, const Values& values) {
  if (rounded != nullptr) {
    round_row(*rounded, t, [&](int64_t k) { return values(static_cast<int>(k), kWidth); });
  } else {
    for_each_vector(size, [&](int i, int n) { store_up_to(out + t * size + i, values(i, n), n); });
  }
}

// What brings the mean square of a row to 1.
inline Vec rms_scale(const float* x, int size, float eps) {
  Vec squares = zero();
  for_each_vector(size, [&](int i, int n) {
    const Vec v = load_up_to<F32>(x + i, n);
    squares = fma(v, v, squares);
  });
  return broadcast(1.0f / std::sqrt(sum(squares) / static_cast<float>(size) + eps));
}

// Row t of out = x / rms(x) * weight; may be in place.
inline void rms_norm_row(float* out, const RoundedRows* rounded, int64_t t, const float* x,
                         const Tensor& weight, int size, float eps) {
  const Vec scale = rms_scale(x, size, eps);
  with_dtype(weight.dtype, [&](auto tag) {
    using T = decltype(tag);
    const auto* w = static_cast<const typename T::Storage*>(weight.data);
    write_row(out, rounded, t, size, [&](int i, int n) {
      return mul(mul(load_up_to<F32>(x + i, n), scale), load_up_to<T>(w + i, n));
    });
  });
}

inline void rms_norm(const RmsNormArgs& a, ThreadPool& pool) {
  for_each_row(pool, a.num_tokens, a.size, [&](int64_t t) {
    const float* x = a.x == nullptr ? nullptr : f32(a.x) + t * a.size;
    float* residual = a.residual == nullptr ? nullptr : a.residual + t * a.size;
    if (residual != nullptr && x != nullptr) {
      for_each_vector(a.size, [&](int i, int n) {
        store_up_to(residual + i, add(load_up_to<F32>(residual + i, n), load_up_to<F32>(x + i, n)), n);
      });
    }
    const float* row = residual != nullptr ? residual : x;
    rms_norm_row(f32(a.out), a.rounded, t, row, *a.weight, a.size, a.eps);
  });
}

inline void rope_table(const RopeTableArgs& a, ThreadPool& pool) {
  for_each_row(pool, a.num_tokens, a.num_freqs * 64, [&](int64_t t) {
    float* row = a.out + t * 2 * a.num_freqs;
    for (int i = 0; i < a.num_freqs; i++) {
      const float angle = static_cast<float>(a.positions[t]) * a.inv_freq[i];
      row[i] = std::cos(angle);
      row[a.num_freqs + i] = std::sin(angle);
    }
  });
}

inline void rotate(float* head, const float* cos, const float* sin, int num_freqs) {
  for_each_vector(num_freqs, [&](int i, int n) {
    const Vec low = load_up_to<F32>(head + i, n);
    const Vec high = load_up_to<F32>(head + num_freqs + i, n);
    const Vec c = load_up_to<F32>(cos + i, n);
    const Vec s = load_up_to<F32>(sin + i, n);
    store_up_to(head + i, sub(mul(low, c), mul(high, s)), n);
    store_up_to(head + num_freqs + i, add(mul(high, c), mul(low, s)), n);
  });
}

// kI8: integers of x / scale, scale = the largest magnitude / 127. Returns the scale.
inline float quantise_head(int8_t* out, const float* head, int size) {
  Vec most = zero();
  for_each_vector(size, [&](int i, int n) {
    const Vec x = load_up_to<F32>(head + i, n);
    most = max(most, max(x, sub(zero(), x)));
  });
  const float largest = max_lane(most);
  const Vec inverse = broadcast(largest > 0 ? 127.0f / largest : 0.0f);
  for_each_vector(size, [&](int i, int n) {
    const Vec q = round(mul(load_up_to<F32>(head + i, n), inverse));
    float lanes[kWidth];
    store(lanes, min(max(q, broadcast(-127.0f)), broadcast(127.0f)));
    for (int j = 0; j < n; j++) out[i + j] = static_cast<int8_t>(lanes[j]);
  });
  return largest / 127.0f;
}

// One head's key (or value) to token `offset` of a block.
inline void write_head(const KvCache& cache, void* data, int64_t block, int kv_head, int offset,
                       const float* head) {
  const int size = cache.head_size;
  char* out = cache.at(data, block, kv_head) + offset * size * static_cast<int64_t>(dtype_size(cache.dtype));
  if (cache.dtype == DType::kF32) {
    std::memcpy(out, head, sizeof(float) * size);
  } else if (cache.dtype == DType::kI8) {
    const float scale = quantise_head(reinterpret_cast<int8_t*>(out), head, size);
    cache.scales_at(data, block, kv_head)[offset] = scale;
  } else if (cache.dtype == DType::kF16) {
    uint16_t* halves = reinterpret_cast<uint16_t*>(out);
    for_each_vector(size, [&](int i, int n) { store_f16(halves + i, load_up_to<F32>(head + i, n), n); });
  } else {
    uint16_t* halves = reinterpret_cast<uint16_t*>(out);
    for (int i = 0; i < size; i++) halves[i] = float_to_bf16(head[i]);
  }
}

inline void rope_and_cache_token(const RopeAndCacheArgs& a, int64_t t) {
  const KvCache& cache = *a.cache;
  const int size = cache.head_size;
  const int num_rotated = a.num_heads + cache.num_kv_heads;
  float* row = f32(a.qkv) + t * (num_rotated + cache.num_kv_heads) * size;
  const float* cos = a.rope_table + t * 2 * a.num_freqs;
  for (int h = 0; h < num_rotated; h++) {
    float* head = row + h * size;
    const Tensor* norm = h < a.num_heads ? a.q_norm : a.k_norm;
    if (norm != nullptr) rms_norm_row(head, nullptr, 0, head, *norm, size, a.norm_eps);
    rotate(head, cos, cos + a.num_freqs, a.num_freqs);
  }
  const int64_t slot = a.slot_mapping[t];
  if (slot < 0) return;
  const int64_t block = slot / cache.block_size;
  const int offset = static_cast<int>(slot % cache.block_size);
  for (int h = 0; h < cache.num_kv_heads; h++) {
    write_head(cache, cache.k, block, h, offset, row + (a.num_heads + h) * size);
    write_head(cache, cache.v, block, h, offset, row + (num_rotated + h) * size);
  }
}

inline void rope_and_cache(const RopeAndCacheArgs& a, ThreadPool& pool) {
  const int64_t row_size = int64_t{a.num_heads + 2 * a.cache->num_kv_heads} * a.cache->head_size;
  for_each_row(pool, a.num_tokens, row_size, [&](int64_t t) { rope_and_cache_token(a, t); });
}

inline Vec silu(Vec x) { return div(x, add(broadcast(1.0f), exp(sub(zero(), x)))); }

// tanh(y) = 1 - 2 / (e^2y + 1).
inline Vec gelu_tanh(Vec x) {
  const Vec cubed = mul(mul(x, x), x);
  const Vec inner = mul(broadcast(0.7978845608028654f), fma(broadcast(0.044715f), cubed, x));
  const Vec tanh = sub(broadcast(1.0f), div(broadcast(2.0f), add(exp(add(inner, inner)), broadcast(1.0f))));
  return mul(mul(broadcast(0.5f), x), add(broadcast(1.0f), tanh));
}

template <typename Activation>
inline void gated(const GatedActivationArgs& a, ThreadPool& pool, const Activation& activation) {
  for_each_row(pool, a.num_tokens, a.size, [&](int64_t t) {
    const float* gate = f32(a.gate_up) + t * 2 * a.size;
    write_row(f32(a.out), a.rounded, t, a.size, [&](int i, int n) {
      return mul(activation(load_up_to<F32>(gate + i, n)), load_up_to<F32>(gate + a.size + i, n));
    });
  });
}

inline void silu_mul(const GatedActivationArgs& a, ThreadPool& pool) {
  gated(a, pool, [](Vec x) { return silu(x); });
}

inline void gelu_mul(const GatedActivationArgs& a, ThreadPool& pool) {
  gated(a, pool, [](Vec x) { return gelu_tanh(x); });
}

inline void soft_cap(const SoftCapArgs& a, ThreadPool& pool) {
  constexpr int64_t kPerPiece = 1 << 14;
  pool.parallel_for((a.count + kPerPiece - 1) / kPerPiece, [&](int64_t piece, int) {
    float* values = a.values + piece * kPerPiece;
    const int64_t left = a.count - piece * kPerPiece;
    for_each_vector(static_cast<int>(left < kPerPiece ? left : kPerPiece), [&](int i, int n) {
      store_up_to(values + i, soft_capped(load_up_to<F32>(values + i, n), a.cap), n);
    });
  });
}

inline void gather_rows(const GatherRowsArgs& a, ThreadPool& pool) {
  const int64_t bytes = int64_t{a.size} * a.element_size;
  for_each_row(pool, a.num_rows, a.size, [&](int64_t r) {
    std::memcpy(static_cast<char*>(a.out) + r * bytes, static_cast<const char*>(a.x) + a.rows[r] * bytes,
                static_cast<size_t>(bytes));
  });
}

inline void copy_blocks(const CopyBlocksArgs& a, ThreadPool& pool) {
  const KvCache& cache = *a.cache;
  const size_t bytes = cache.num_kv_heads * static_cast<size_t>(cache.head_block_bytes());
  pool.parallel_for(a.num_pairs, [&](int64_t i, int) {
    const size_t from = a.pairs[2 * i] * bytes;
    const size_t to = a.pairs[2 * i + 1] * bytes;
    std::memcpy(static_cast<char*>(cache.k) + to, static_cast<const char*>(cache.k) + from, bytes);
    std::memcpy(static_cast<char*>(cache.v) + to, static_cast<const char*>(cache.v) + from, bytes);
  });
}

}  // namespace quire::QUIRE_VARIANT
