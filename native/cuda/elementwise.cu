// The ops that pass over activations once: embedding, gated activations, row gathering, block copies, rope
// table. Bound: memory bandwidth; each thread takes one element, or one 16-byte word where nothing is
// computed.

#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace quire::cuda {

namespace {

constexpr int kThreads = 256;

Grid rows_by_columns(int64_t columns, int rows) {
  return {static_cast<unsigned>((columns + kThreads - 1) / kThreads), static_cast<unsigned>(rows)};
}

QUIRE_DEVICE float element_at(const void* values, DType dtype, int64_t i) {
  if (dtype == DType::kF32) return static_cast<const float*>(values)[i];
  if (dtype == DType::kF16) return to_float(static_cast<const Half*>(values)[i]);
  return to_float(static_cast<const BFloat*>(values)[i]);
}

__global__ void embed_kernel(float* out, const void* table, DType dtype, const int32_t* token_ids, int size,
                             float scale) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const int64_t t = blockIdx.y;
  if (i >= size) return;
  out[t * size + i] = element_at(table, dtype, int64_t{token_ids[t]} * size + i) * scale;
}

__global__ void soft_cap_kernel(float* values, int64_t count, float cap) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) values[i] = cap * tanhf(values[i] / cap);
}

__global__ void rope_table_kernel(float* out, const int32_t* positions, const float* inv_freq,
                                  int num_freqs) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const int64_t t = blockIdx.y;
  if (i >= num_freqs) return;
  // The accurate functions: angles grow with the position, and only the reduced argument is small.
  const float angle = static_cast<float>(positions[t]) * inv_freq[i];
  out[t * 2 * num_freqs + i] = cosf(angle);
  out[t * 2 * num_freqs + num_freqs + i] = sinf(angle);
}

struct Silu {
  QUIRE_DEVICE float operator()(float x) const { return x / (1 + expf(-x)); }
};

struct GeluTanh {
  QUIRE_DEVICE float operator()(float x) const {
    const float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1 + tanhf(inner));
  }
};

template <typename T, typename Activation>
__global__ void gated_kernel(T* out, const T* gate_up, int size) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const int64_t t = blockIdx.y;
  if (i >= size) return;
  const float gate = to_float(gate_up[t * 2 * size + i]);
  const float up = to_float(gate_up[t * 2 * size + size + i]);
  out[t * size + i] = from_float<T>(Activation{}(gate)*up);
}

template <typename Activation, typename T>
void gated(const char* name, const GatedActivationArgs& a, Executor& stream) {
  launch(name, gated_kernel<T, Activation>, rows_by_columns(a.size, a.num_tokens), kThreads, 0,
         static_cast<Stream&>(stream), static_cast<T*>(a.out), static_cast<const T*>(a.gate_up), a.size);
}

// Rows of 16-bit or 32-bit elements, two bytes at a time: rows may begin anywhere.
__global__ void gather_rows_kernel(uint16_t* out, const uint16_t* x, const int32_t* rows, int64_t size) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t r = blockIdx.y;
  if (i >= size) return;
  out[r * size + i] = x[rows[r] * size + i];
}

// A block of one layer is contiguous; words counts its 16-byte words.
__global__ void copy_blocks_kernel(Words4* k, Words4* v, const int32_t* pairs, int64_t words) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= words) return;
  const int64_t from = pairs[2 * blockIdx.y] * words + i;
  const int64_t to = pairs[2 * blockIdx.y + 1] * words + i;
  k[to] = k[from];
  v[to] = v[from];
}

}  // namespace

void embed(const EmbedArgs& a, Executor& stream) {
  const int size = static_cast<int>(a.table->cols);
  launch("embed", embed_kernel, rows_by_columns(size, a.num_tokens), kThreads, 0,
         static_cast<Stream&>(stream), a.out, a.table->data, a.table->dtype, a.token_ids, size, a.scale);
}

void rope_table(const RopeTableArgs& a, Executor& stream) {
  launch("rope_table", rope_table_kernel, rows_by_columns(a.num_freqs, a.num_tokens), kThreads, 0,
         static_cast<Stream&>(stream), a.out, a.positions, a.inv_freq, a.num_freqs);
}

void soft_cap(const SoftCapArgs& a, Executor& stream) {
  launch("soft_cap", soft_cap_kernel, {static_cast<unsigned>((a.count + kThreads - 1) / kThreads)}, kThreads,
         0, static_cast<Stream&>(stream), a.values, a.count, a.cap);
}

void gather_rows(const GatherRowsArgs& a, Executor& stream) {
  const int64_t size = int64_t{a.size} * a.element_size / 2;
  launch("gather_rows", gather_rows_kernel, rows_by_columns(size, a.num_rows), kThreads, 0,
         static_cast<Stream&>(stream), static_cast<uint16_t*>(a.out), static_cast<const uint16_t*>(a.x),
         a.rows, size);
}

void copy_blocks(const CopyBlocksArgs& a, Executor& stream) {
  const KvCache& cache = *a.cache;
  const int64_t words = int64_t{cache.num_kv_heads} * cache.block_size * cache.head_size *
                        static_cast<int64_t>(dtype_size(cache.dtype)) / 16;
  launch("copy_blocks", copy_blocks_kernel, rows_by_columns(words, a.num_pairs), kThreads, 0,
         static_cast<Stream&>(stream), static_cast<Words4*>(cache.k), static_cast<Words4*>(cache.v), a.pairs,
         words);
}

template <typename T>
void silu_mul(const GatedActivationArgs& a, Executor& stream) {
  gated<Silu, T>("silu_mul", a, stream);
}

template <typename T>
void gelu_mul(const GatedActivationArgs& a, Executor& stream) {
  gated<GeluTanh, T>("gelu_mul", a, stream);
}

template void silu_mul<Half>(const GatedActivationArgs&, Executor&);
template void silu_mul<BFloat>(const GatedActivationArgs&, Executor&);
template void gelu_mul<Half>(const GatedActivationArgs&, Executor&);
template void gelu_mul<BFloat>(const GatedActivationArgs&, Executor&);

}  // namespace quire::cuda
