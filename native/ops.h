// The op table: what a backend must provide, each contract stated once. native/reference implements every op
// naively (fp32, one thread) and is the specification; native/cpu (and later native/cuda) is tested against
// it.
//
// Rules for every op:
// - Row t of an output depends on row t's own inputs only, and its arithmetic (order of every reduction
// included) is
//   the same whatever the other rows, the thread count, the chunking or the block size are: a request's
//   tokens never depend on its neighbours.
// - Outputs never alias inputs unless the contract says so. No allocation. No exceptions but for broken
// invariants.
// - Sizes: T rows (tokens), H hidden, Hq query heads, Hkv KV heads, D head size, V vocabulary, L logits rows.
#pragma once

#include "batch.h"
#include "tensor.h"

namespace quire {

// Activations in 8 bits (rounded_activations.h), for weights in tiles.
struct RoundedRows;

// What ops run on: ThreadPool, or cuda::Stream.
class Executor {
 protected:
  ~Executor() = default;
};

// out[t, :] = table[token_ids[t], :] * scale. out [T, H] f32, table [V, H] any dtype.
struct EmbedArgs {
  float* out;
  const Tensor* table;
  const int32_t* token_ids;
  int num_tokens;
  float scale = 1;
};

// residual[t, :] += x[t, :] when x is given; out[t, :] = residual[t, :] / sqrt(mean(residual[t, :]^2) + eps)
// * weight. Without a residual, out[t, :] is x normalised in the same way. out, residual, x are [T, size];
// weight [1, size]. out may alias x. With `rounded`, which only the CPU's ops know, the rows go there and not
// to out, to the bit as a matmul would round what is in out.
struct RmsNormArgs {
  void* out;
  float* residual;  // one of the two may be null
  const void* x;
  const Tensor* weight;
  int num_tokens;
  int size;
  float eps;
  const RoundedRows* rounded = nullptr;
};

// out[t, n] = sum_k x[t, k] * weight[n, k] + bias[n]. x [T, K] with row stride x_stride, weight [N, K], bias
// [1, N] or null, out [T, N] with row stride out_stride (>= N, so that several matmuls fill one buffer side
// by side). With a weight in kF8 a row of x is rounded to e4m3 times max|x| / 448 first. A weight in tiles
// takes its inputs from `rounded`, in its own groups, when that is given, and rounds x itself when not.
struct MatmulArgs {
  void* out;
  const void* x;
  const Tensor* weight;
  const Tensor* bias;
  int num_tokens;
  int64_t x_stride;
  int64_t out_stride;
  bool is_f32_out = false;  // out is f32 whatever the activations are
  const RoundedRows* rounded = nullptr;
};

// One low-rank update of one matrix (LoRA, arXiv 2106.09685): b holds B transposed and already times its
// scale.
struct LoraMatrix {
  const float* a = nullptr;  // [rank, K]; null: the adapter leaves this matrix alone
  const float* b = nullptr;  // [rank, N]
  int rank = 0;              // at most kMaxLoraRank
};

constexpr int kMaxLoraRank = 512;

// out[t, n] += sum_r b[r, n] * sum_k a[r, k] * x[t, k] with the matrix of row t's adapter; rows without one
// stay as they are. Rows of any adapters mix in one call (S-LoRA, arXiv 2311.03285). x [T, K], out [T, N],
// strided.
struct LoraMatmulArgs {
  void* out;
  const void* x;
  const LoraMatrix* matrices;  // [slots]
  const int32_t* token_slots;  // [T] -1 for none
  int num_tokens;
  int64_t num_inputs;   // K
  int64_t num_outputs;  // N
  int64_t x_stride;
  int64_t out_stride;
};

// out[t, i] = cos(angle), out[t, num_freqs + i] = sin(angle), angle = positions[t] * inv_freq[i] rounded to
// f32 as transformers does. Once a step, shared by all layers. out [T, 2 * num_freqs].
struct RopeTableArgs {
  float* out;
  const int32_t* positions;
  const float* inv_freq;  // [num_freqs]
  int num_tokens;
  int num_freqs;
};

// For each token: q and k heads are RMS-normalised by q_norm/k_norm ([1, D], may be null), rotated
// (rotate-half over the first 2 * num_freqs entries: RoFormer, arXiv 2104.09864), q is written back, k and v
// go to their slot (-1: none). qkv is [T, (Hq + 2 * Hkv) * D]: q heads, k heads, v heads. Sequences never
// share a slot.
//
// norm_size is what a head had before a backend padded it with zeros; 0 is head_size.
struct RopeAndCacheArgs {
  void* qkv;
  const KvCache* cache;
  const int32_t* slot_mapping;
  const float* rope_table;  // of RopeTableArgs
  const Tensor* q_norm;
  const Tensor* k_norm;
  float norm_eps;
  int num_tokens;
  int num_heads;
  int num_freqs;
  int norm_size = 0;
};

// Causal attention of every query over its sequence's keys in the paged cache (this step's included). Query j
// of sequence i stands at position context_lens[i] - (number of its queries) + j and sees keys at positions
// p' <= p, and if sliding_window > 0 only p' > p - sliding_window. Query head h reads KV head h / (Hq / Hkv).
// Online softmax over key tiles at absolute positions; the score matrix never exists (FlashAttention-2,
// arXiv 2307.08691). q is the q part of qkv: row stride q_stride; out [T, Hq * D].
struct AttentionArgs {
  void* out;
  const void* q;
  int64_t q_stride;
  const KvCache* cache;
  const int32_t* query_start_loc;  // [N+1]
  const int32_t* context_lens;     // [N]
  const int32_t* seq_rows;         // [N]
  const int32_t* block_table;      // [R, max_blocks_per_seq]
  int max_blocks_per_seq;
  int num_seqs;
  int num_heads;
  float scale;
  int sliding_window;
  // What the host knows of the arrays above, for a backend that cannot look: sequences at the front with one
  // query each, the most queries of a sequence, the longest context.
  int num_decodes = 0;
  int max_queries = 0;
  int max_context_len = 0;
  // Scores become soft_cap * tanh(score / soft_cap) before the mask (Gemma 2, arXiv 2408.00118); 0 is off.
  float soft_cap = 0;
};

// values[i] = cap * tanh(values[i] / cap). [count] f32
struct SoftCapArgs {
  float* values;
  int64_t count;
  float cap;
};

// out[t, i] = act(gate_up[t, i]) * gate_up[t, size + i]. gate_up [T, 2 * size], out [T, size]. `rounded` as
// in RmsNormArgs.
struct GatedActivationArgs {
  void* out;
  const void* gate_up;
  int num_tokens;
  int size;
  const RoundedRows* rounded = nullptr;
};

// Which experts a token goes to (Switch Transformers, arXiv 2101.03961; Mixtral, arXiv 2401.04088). The top_k
// likeliest by logits, ties to the lower number; weights are the softmax over all experts, or over the chosen
// ones (`renormalises`). Rows sorted by expert, in the order of their tokens within one:
// places[t, j] is the row of token t's j-th choice, source_rows[row] its token, and expert e owns rows
// [expert_start[e], expert_start[e + 1]).
struct MoeRouteArgs {
  float* weights;         // out [T, top_k]
  int32_t* expert_ids;    // out [T, top_k]
  int32_t* places;        // out [T, top_k]
  int32_t* source_rows;   // out [T * top_k]
  int32_t* expert_start;  // out [num_experts + 1]
  const float* logits;    // [T, num_experts]
  int num_tokens;
  int num_experts;  // at most kMaxExperts
  int top_k;        // at most kMaxChosenExperts
  bool renormalises;
};

constexpr int kMaxExperts = 512;
constexpr int kMaxChosenExperts = 32;

// out[row, :] = x[row, :] W_e^T for the rows of each expert e. x [rows, K] dense, out [rows, N] with row
// stride out_stride.
struct GroupedMatmulArgs {
  void* out;
  const void* x;
  const Tensor* weights;        // [num_experts], each [N, K]
  const void* const* pointers;  // their data again, where the ops can read it
  const int32_t* expert_start;  // of MoeRouteArgs
  int num_experts;
  int num_rows;
  int64_t out_stride;
};

// out[t, :] = sum_j weights[t, j] * y[places[t, j], :]. out [T, size], y [T * top_k, size].
struct MoeCombineArgs {
  void* out;
  const void* y;
  const float* weights;
  const int32_t* places;
  int num_tokens;
  int top_k;
  int size;
};

// out[r, :] = x[rows[r], :]. Brings the rows whose logits are wanted together. x [T, size], out [L, size],
// elements of element_size bytes.
struct GatherRowsArgs {
  void* out;
  const void* x;
  const int32_t* rows;
  int num_rows;
  int size;
  int element_size;
};

// For rows [first_row, first_row + num_rows) of the batch's L rows: reports log-probabilities of the raw
// logits (num_logprobs, target_token_ids), then forbids what the row's grammar does not allow, applies
// repetition, presence and frequency penalties, logit_bias, temperature, min_p, top_k and top_p in this order
// (vLLM's), and samples by a counter-based RNG
// keyed by seeds with the token's position as the counter. NaN logits count as -inf; a row of nothing but
// -inf samples token 0. Ties go to the lower id, but equals of the k-th likeliest token all stay in the top
// k. logits is left as it was but for NaN.
struct SampleArgs {
  float* logits;
  const Batch* batch;
  BatchSizes sizes;
  int first_row;
  int num_rows;
  int vocab_size;
  float* scratch;  // [threads, 2 * V]
};

// from/to: block numbers; copies K and V of whole blocks of one layer.
struct CopyBlocksArgs {
  const KvCache* cache;
  const int32_t* pairs;  // [num_pairs, 2]
  int num_pairs;
};

struct Ops {
  const char* name;
  DType activations;
  void (*embed)(const EmbedArgs&, Executor&);
  void (*rms_norm)(const RmsNormArgs&, Executor&);
  void (*matmul)(const MatmulArgs&, Executor&);
  void (*lora_matmul)(const LoraMatmulArgs&, Executor&);
  void (*rope_table)(const RopeTableArgs&, Executor&);
  void (*rope_and_cache)(const RopeAndCacheArgs&, Executor&);
  void (*attention)(const AttentionArgs&, Executor&);
  void (*silu_mul)(const GatedActivationArgs&, Executor&);
  void (*gelu_mul)(const GatedActivationArgs&, Executor&);
  void (*moe_route)(const MoeRouteArgs&, Executor&);
  void (*grouped_matmul)(const GroupedMatmulArgs&, Executor&);
  void (*moe_combine)(const MoeCombineArgs&, Executor&);
  void (*soft_cap)(const SoftCapArgs&, Executor&);
  void (*gather_rows)(const GatherRowsArgs&, Executor&);
  void (*sample)(const SampleArgs&, Executor&);
  void (*copy_blocks)(const CopyBlocksArgs&, Executor&);
};

const Ops& reference_ops();
// Null when this machine cannot run the variant.
const Ops* cpu_ops_avx512();
// The same, but a matmul with bf16 weights rounds its inputs to bf16.
const Ops* cpu_ops_avx512_bf16();
// The same by AMX's tile registers.
const Ops* cpu_ops_amx();
// What cpu_ops_amx would be, for tests that emulate the registers: asks for AVX-512 and BF16 alone.
const Ops* cpu_ops_amx_emulated();
const Ops* cpu_ops_avx2();
const Ops* cpu_ops_portable();

}  // namespace quire
