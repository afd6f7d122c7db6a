// Every op again, naive, one thread, accumulating in double: the specification the backends are tested
// against.
#include "ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "float16.h"
#include "reference/sampler.h"
#include "rounded_activations.h"
#include "thread_pool.h"
#include "weight_tiles.h"

namespace quire {

namespace {

void embed(const EmbedArgs& a, ThreadPool&) {
  const int64_t size = a.table->cols;
  for (int t = 0; t < a.num_tokens; t++) {
    for (int64_t i = 0; i < size; i++) {
      a.out[t * size + i] = element(a.table->data, a.table->dtype, a.token_ids[t] * size + i) * a.scale;
    }
  }
}

void rms_norm_row(float* out, const float* x, const Tensor& weight, int size, float eps) {
  double sum = 0;
  for (int i = 0; i < size; i++) sum += double{x[i]} * x[i];
  const double scale = 1 / std::sqrt(sum / size + eps);
  for (int i = 0; i < size; i++) {
    out[i] = static_cast<float>(x[i] * scale * element(weight.data, weight.dtype, i));
  }
}

// Row t in 8 bits.
void round_row(const RoundedRows& rows, int64_t t, const float* x) {
  for (int64_t g = 0; g < rows.num_groups(); g++) {
    const float* group = x + g * rows.group;
    int8_t* q = rows.q + t * rows.cols + g * rows.group;
    float magnitude = 0;
    for (int k = 0; k < rows.group; k++) magnitude = std::max(magnitude, std::fabs(group[k]));
    const float inverse = magnitude > kSmallestMagnitude ? 127.0f / magnitude : 0.0f;
    int32_t sum = 0;
    for (int k = 0; k < rows.group; k++) {
      q[k] = static_cast<int8_t>(std::nearbyint(group[k] * inverse));
      sum += q[k];
    }
    rows.scales[t * rows.num_groups() + g] = magnitude / 127.0f;
    rows.negated_sums[t * rows.num_groups() + g] = -sum;
  }
}

// Calls make(t, out) for the rows of an op that goes to `out` or to `rounded`.
template <typename Make>
void make_rows(void* out, const RoundedRows* rounded, int num_tokens, int size, const Make& make) {
  std::vector<float> row(static_cast<size_t>(size));
  for (int64_t t = 0; t < num_tokens; t++) {
    if (rounded == nullptr) {
      make(t, f32(out) + t * size);
    } else {
      make(t, row.data());
      round_row(*rounded, t, row.data());
    }
  }
}

void rms_norm(const RmsNormArgs& a, ThreadPool&) {
  make_rows(a.out, a.rounded, a.num_tokens, a.size, [&](int64_t t, float* out) {
    if (a.residual == nullptr) {
      rms_norm_row(out, f32(a.x) + t * a.size, *a.weight, a.size, a.eps);
      return;
    }
    float* residual = a.residual + t * a.size;
    for (int i = 0; a.x != nullptr && i < a.size; i++) residual[i] += f32(a.x)[t * a.size + i];
    rms_norm_row(out, residual, *a.weight, a.size, a.eps);
  });
}

// Integer weights in tiles times activations that are rounded to 8 bits per token and group. The sum of a
// group is exact, the groups of an output are one chain of fused multiply-adds in f32: to the bit.
void matmul_tiles(const MatmulArgs& a) {
  const WeightTiles w(*a.weight);
  std::vector<char> memory(int8_bytes(a.num_tokens, w.cols));
  RoundedRows x = rounded_rows_at(memory.data(), a.num_tokens, w.cols, w.group);
  if (a.rounded != nullptr) {
    x = *a.rounded;
  } else {
    for (int64_t t = 0; t < a.num_tokens; t++) round_row(x, t, f32(a.x) + t * a.x_stride);
  }
  for (int64_t t = 0; t < a.num_tokens; t++) {
    float* out = f32(a.out) + t * a.out_stride;
    std::fill(out, out + a.weight->rows, 0.0f);
    for (int64_t g = 0; g < w.num_groups(); g++) {
      const int8_t* q = x.q + t * w.cols + g * w.group;
      const float x_scale = x.scales[t * w.num_groups() + g];
      for (int64_t n = 0; n < a.weight->rows; n++) {
        int sum = 0;
        for (int k = 0; k < w.group; k++) sum += (w.integer(n, g * w.group + k) - w.zero(n, g)) * q[k];
        out[n] = std::fma(static_cast<float>(sum), w.scale(n, g) * x_scale, out[n]);
      }
    }
    for (int64_t n = 0; a.bias != nullptr && n < a.weight->rows; n++) {
      out[n] += element(a.bias->data, a.bias->dtype, n);
    }
  }
}

void matmul_f8(const MatmulArgs& a) {
  constexpr float kLargest = 448;
  std::vector<float> rounded(static_cast<size_t>(a.weight->cols));
  for (int64_t t = 0; t < a.num_tokens; t++) {
    const float* x = f32(a.x) + t * a.x_stride;
    float largest = 0;
    for (int64_t k = 0; k < a.weight->cols; k++) largest = std::max(largest, std::fabs(x[k]));
    const float scale = largest > 0 ? largest / kLargest : 1;
    const float inverse = largest > 0 ? kLargest / largest : 1;
    for (size_t k = 0; k < rounded.size(); k++) rounded[k] = f8_to_float(float_to_f8(x[k] * inverse));
    for (int64_t n = 0; n < a.weight->rows; n++) {
      double sum = 0;
      for (int64_t k = 0; k < a.weight->cols; k++) {
        sum += double{rounded[static_cast<size_t>(k)]} * matrix_element(*a.weight, n, k);
      }
      const float bias = a.bias != nullptr ? element(a.bias->data, a.bias->dtype, n) : 0;
      f32(a.out)[t * a.out_stride + n] = static_cast<float>(sum * scale + bias);
    }
  }
}

void matmul(const MatmulArgs& a, ThreadPool&) {
  if (is_tiled(a.weight->dtype)) return matmul_tiles(a);
  if (a.weight->dtype == DType::kF8) return matmul_f8(a);
  const int64_t num_inputs = a.weight->cols;
  for (int64_t t = 0; t < a.num_tokens; t++) {
    for (int64_t n = 0; n < a.weight->rows; n++) {
      double sum = a.bias != nullptr ? element(a.bias->data, a.bias->dtype, n) : 0;
      for (int64_t k = 0; k < num_inputs; k++) {
        sum += double{f32(a.x)[t * a.x_stride + k]} * matrix_element(*a.weight, n, k);
      }
      f32(a.out)[t * a.out_stride + n] = static_cast<float>(sum);
    }
  }
}

void lora_matmul(const LoraMatmulArgs& a, ThreadPool&) {
  for (int64_t t = 0; t < a.num_tokens; t++) {
    if (a.token_slots[t] < 0) continue;
    const LoraMatrix& m = a.matrices[a.token_slots[t]];
    for (int64_t r = 0; m.a != nullptr && r < m.rank; r++) {
      double inner = 0;
      for (int64_t k = 0; k < a.num_inputs; k++) {
        inner += double{m.a[r * a.num_inputs + k]} * f32(a.x)[t * a.x_stride + k];
      }
      for (int64_t n = 0; n < a.num_outputs; n++) {
        f32(a.out)[t * a.out_stride + n] += static_cast<float>(inner * m.b[r * a.num_outputs + n]);
      }
    }
  }
}

void rope_table(const RopeTableArgs& a, ThreadPool&) {
  for (int64_t t = 0; t < a.num_tokens; t++) {
    float* row = a.out + t * 2 * a.num_freqs;
    for (int i = 0; i < a.num_freqs; i++) {
      const float angle = static_cast<float>(a.positions[t]) * a.inv_freq[i];
      row[i] = static_cast<float>(std::cos(double{angle}));
      row[a.num_freqs + i] = static_cast<float>(std::sin(double{angle}));
    }
  }
}

void rotate(float* head, const float* cos, const float* sin, int num_freqs) {
  for (int i = 0; i < num_freqs; i++) {
    const double low = head[i];
    const double high = head[num_freqs + i];
    head[i] = static_cast<float>(low * cos[i] - high * sin[i]);
    head[num_freqs + i] = static_cast<float>(high * cos[i] + low * sin[i]);
  }
}

// One head's key (or value) to a slot, in the cache's form.
void write_head(const KvCache& cache, void* data, int64_t slot, int kv_head, const float* head) {
  const int64_t block = slot / cache.block_size, offset = slot % cache.block_size;
  char* rows = cache.at(data, block, kv_head);
  float most = 0;
  for (int i = 0; i < cache.head_size; i++) most = std::max(most, std::fabs(head[i]));
  const float inverse = most > 0 ? 127.0f / most : 0.0f;
  if (cache.dtype == DType::kI8) cache.scales_at(data, block, kv_head)[offset] = most / 127.0f;
  for (int i = 0; i < cache.head_size; i++) {
    const int64_t at = offset * cache.head_size + i;
    if (cache.dtype == DType::kI8) {
      rows[at] = static_cast<char>(std::nearbyint(head[i] * inverse));
    } else {
      set_element(rows, cache.dtype, at, head[i]);
    }
  }
}

void rope_and_cache(const RopeAndCacheArgs& a, ThreadPool&) {
  const KvCache& cache = *a.cache;
  const int size = cache.head_size;
  const int num_rotated = a.num_heads + cache.num_kv_heads;
  for (int64_t t = 0; t < a.num_tokens; t++) {
    float* row = f32(a.qkv) + t * (num_rotated + cache.num_kv_heads) * size;
    const float* cos = a.rope_table + t * 2 * a.num_freqs;
    for (int h = 0; h < num_rotated; h++) {
      float* head = row + h * size;
      const Tensor* norm = h < a.num_heads ? a.q_norm : a.k_norm;
      if (norm != nullptr) rms_norm_row(head, head, *norm, size, a.norm_eps);
      rotate(head, cos, cos + a.num_freqs, a.num_freqs);
    }
    const int64_t slot = a.slot_mapping[t];
    if (slot < 0) continue;
    for (int h = 0; h < cache.num_kv_heads; h++) {
      write_head(cache, cache.k, slot, h, row + (a.num_heads + h) * size);
      write_head(cache, cache.v, slot, h, row + (num_rotated + h) * size);
    }
  }
}

// One query of one head: softmax(q . k) v over keys [first, last], written out in full.
void attend(const AttentionArgs& a, const float* q, float* out, int kv_head, const int32_t* blocks, int first,
            int last) {
  const KvCache& cache = *a.cache;
  const int size = cache.head_size;
  const auto at = [&](void* data, int p, int i) {
    return double{kv_element(cache, data, blocks[p / cache.block_size], kv_head, p % cache.block_size, i)};
  };
  std::vector<double> scores;
  for (int p = first; p <= last; p++) {
    double dot = 0;
    for (int i = 0; i < size; i++) dot += q[i] * at(cache.k, p, i);
    dot *= a.scale;
    scores.push_back(a.soft_cap > 0 ? a.soft_cap * std::tanh(dot / a.soft_cap) : dot);
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - max);
  for (int i = 0; i < size; i++) {
    double value = 0;
    for (int p = first; p <= last; p++) {
      value += scores[p - first] / sum * at(cache.v, p, i);
    }
    out[i] = static_cast<float>(value);
  }
}

void attention(const AttentionArgs& a, ThreadPool&) {
  const int size = a.cache->head_size;
  const int group = a.num_heads / a.cache->num_kv_heads;
  for (int s = 0; s < a.num_seqs; s++) {
    const int32_t* blocks = a.block_table + int64_t{a.seq_rows[s]} * a.max_blocks_per_seq;
    const int num_queries = a.query_start_loc[s + 1] - a.query_start_loc[s];
    for (int j = 0; j < num_queries; j++) {
      const int64_t t = a.query_start_loc[s] + j;
      const int position = a.context_lens[s] - num_queries + j;
      const int first = a.sliding_window > 0 ? std::max(0, position - a.sliding_window + 1) : 0;
      for (int h = 0; h < a.num_heads; h++) {
        attend(a, f32(a.q) + t * a.q_stride + h * size, f32(a.out) + (t * a.num_heads + h) * size, h / group,
               blocks, first, position);
      }
    }
  }
}

template <typename Activation>
void gated(const GatedActivationArgs& a, const Activation& activation) {
  make_rows(a.out, a.rounded, a.num_tokens, a.size, [&](int64_t t, float* out) {
    const float* gate = f32(a.gate_up) + t * 2 * a.size;
    for (int i = 0; i < a.size; i++) {
      out[i] = static_cast<float>(activation(double{gate[i]}) * double{gate[a.size + i]});
    }
  });
}

void silu_mul(const GatedActivationArgs& a, ThreadPool&) {
  gated(a, [](double gate) { return gate / (1 + std::exp(-gate)); });
}

void gelu_mul(const GatedActivationArgs& a, ThreadPool&) {
  constexpr double kSqrt2OverPi = 0.7978845608028654;
  gated(a, [](double gate) {
    return 0.5 * gate * (1 + std::tanh(kSqrt2OverPi * (gate + 0.044715 * gate * gate * gate)));
  });
}

void moe_route(const MoeRouteArgs& a, ThreadPool&) {
  std::vector<std::vector<std::pair<int, int>>> rows(a.num_experts);  // token, choice
  for (int t = 0; t < a.num_tokens; t++) {
    const float* logits = a.logits + int64_t{t} * a.num_experts;
    std::vector<int> order(a.num_experts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int x, int y) { return logits[x] > logits[y]; });
    double sum = 0;
    for (int j = 0; j < (a.renormalises ? a.top_k : a.num_experts); j++) {
      sum += std::exp(double{logits[order[j]]} - logits[order[0]]);
    }
    for (int j = 0; j < a.top_k; j++) {
      const int64_t at = int64_t{t} * a.top_k + j;
      a.weights[at] = static_cast<float>(std::exp(double{logits[order[j]]} - logits[order[0]]) / sum);
      a.expert_ids[at] = order[j];
      rows[order[j]].push_back({t, j});
    }
  }
  int row = 0;
  for (int e = 0; e < a.num_experts; e++) {
    a.expert_start[e] = row;
    for (const auto& [t, j] : rows[e]) {
      a.places[int64_t{t} * a.top_k + j] = row;
      a.source_rows[row++] = t;
    }
  }
  a.expert_start[a.num_experts] = row;
}

void grouped_matmul(const GroupedMatmulArgs& a, ThreadPool& pool) {
  for (int e = 0; e < a.num_experts; e++) {
    const Tensor& w = a.weights[e];
    const int64_t first = a.expert_start[e];
    const int rows = a.expert_start[e + 1] - a.expert_start[e];
    matmul({f32(a.out) + first * a.out_stride, f32(a.x) + first * w.cols, &w, nullptr, rows, w.cols,
            a.out_stride},
           pool);
  }
}

void moe_combine(const MoeCombineArgs& a, ThreadPool&) {
  for (int64_t t = 0; t < a.num_tokens; t++) {
    for (int i = 0; i < a.size; i++) {
      double sum = 0;
      for (int64_t j = t * a.top_k; j < (t + 1) * a.top_k; j++) {
        sum += double{a.weights[j]} * f32(a.y)[int64_t{a.places[j]} * a.size + i];
      }
      f32(a.out)[t * a.size + i] = static_cast<float>(sum);
    }
  }
}

void soft_cap(const SoftCapArgs& a, ThreadPool&) {
  for (int64_t i = 0; i < a.count; i++) {
    a.values[i] = static_cast<float>(a.cap * std::tanh(double{a.values[i]} / a.cap));
  }
}

void gather_rows(const GatherRowsArgs& a, ThreadPool&) {
  const int64_t bytes = int64_t{a.size} * a.element_size;
  for (int64_t r = 0; r < a.num_rows; r++) {
    std::memcpy(static_cast<char*>(a.out) + r * bytes, static_cast<const char*>(a.x) + a.rows[r] * bytes,
                static_cast<size_t>(bytes));
  }
}

void copy_blocks(const CopyBlocksArgs& a, ThreadPool&) {
  const KvCache& cache = *a.cache;
  const size_t bytes = cache.num_kv_heads * static_cast<size_t>(cache.head_block_bytes());
  for (int i = 0; i < a.num_pairs; i++) {
    const size_t from = a.pairs[2 * i] * bytes;
    const size_t to = a.pairs[2 * i + 1] * bytes;
    std::memcpy(static_cast<char*>(cache.k) + to, static_cast<const char*>(cache.k) + from, bytes);
    std::memcpy(static_cast<char*>(cache.v) + to, static_cast<const char*>(cache.v) + from, bytes);
  }
}

void sample(const SampleArgs& a, ThreadPool&) {
  for (int i = 0; i < a.num_rows; i++) reference_sample_row(a, i);
}

}  // namespace

const Ops& reference_ops() {
  static const Ops ops = {"reference",
                          DType::kF32,
                          on_threads<embed>,
                          on_threads<rms_norm>,
                          on_threads<matmul>,
                          on_threads<lora_matmul>,
                          on_threads<rope_table>,
                          on_threads<rope_and_cache>,
                          on_threads<attention>,
                          on_threads<silu_mul>,
                          on_threads<gelu_mul>,
                          on_threads<moe_route>,
                          on_threads<grouped_matmul>,
                          on_threads<moe_combine>,
                          on_threads<soft_cap>,
                          on_threads<gather_rows>,
                          on_threads<sample>,
                          on_threads<copy_blocks>};
  return ops;
}

}  // namespace quire
