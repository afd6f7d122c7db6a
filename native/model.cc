#include "model.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "batch_checks.h"

namespace quire {

namespace {

// Rows whose logits exist at the same time: bounds memory when a whole prompt's log-probabilities are wanted.
constexpr int kLogitsRows = 64;

const Ops* find_ops(const ModelOptions& options) {
  if (options.backend == "reference") return &reference_ops();
  if (options.cpu_variant.empty()) {
    if (const Ops* ops = cpu_ops_avx512()) return ops;
    if (const Ops* ops = cpu_ops_avx2()) return ops;
    return cpu_ops_portable();
  }
  const Ops* ops = options.cpu_variant == "avx512"     ? cpu_ops_avx512()
                   : options.cpu_variant == "avx2"     ? cpu_ops_avx2()
                   : options.cpu_variant == "portable" ? cpu_ops_portable()
                                                       : nullptr;
  if (ops == nullptr)
    throw std::runtime_error("this machine cannot run the CPU variant " + options.cpu_variant);
  return ops;
}

void check_index_range(const char* what, int64_t count) {
  if (count < std::numeric_limits<int32_t>::max()) return;
  throw std::runtime_error(std::string(what) + " is " + std::to_string(count) +
                           ", at most 2147483646 is supported");
}

ModelConfig checked(ModelConfig config, const ModelOptions& options) {
  if (config.head_size % 2 != 0 || config.head_size > 256) {
    throw std::runtime_error("head size " + std::to_string(config.head_size) +
                             " is not supported: even sizes up to 256 are");
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    throw std::runtime_error(std::to_string(config.num_heads) + " heads cannot share " +
                             std::to_string(config.num_kv_heads) + " KV heads evenly");
  }
  const int64_t tokens = options.sizes.max_num_batched_tokens;
  check_index_range("block table", int64_t{options.sizes.max_num_seqs} * options.sizes.max_blocks_per_seq);
  check_index_range("logit_bias list", int64_t{options.sizes.max_num_seqs} * kMaxLogitBias);
  check_index_range("list of top log-probabilities", tokens * options.sizes.max_logprobs);
  check_index_range("vocabulary", config.vocab_size);
  return config;
}

}  // namespace

Model::Model(ModelConfig config, const ModelFiles& files, const ModelOptions& options)
    : config_(checked(std::move(config), options)),
      options_(options),
      ops_(find_ops(options)),
      pool_(options.backend == "reference" ? 1 : options.threads),
      weights_(config_, files, options, pool_),
      arena_(options.sizes),
      adapters_(config_, options.max_loras) {
  const size_t tokens = options.sizes.max_num_batched_tokens;
  const size_t q_size = size_t{static_cast<size_t>(config_.num_heads)} * config_.head_size;
  const size_t kv_size = size_t{static_cast<size_t>(config_.num_kv_heads)} * config_.head_size;
  token_slots_.resize(tokens);
  residual_.resize(tokens * config_.hidden_size);
  hidden_.resize(tokens * config_.hidden_size);
  qkv_.resize(tokens * (q_size + 2 * kv_size));
  attention_.resize(tokens * q_size);
  gate_up_.resize(tokens * 2 * config_.intermediate_size);
  activated_.resize(tokens * config_.intermediate_size);
  rope_table_.resize(tokens * 2 * config_.rope_inv_freq.size());
  const size_t logits_rows = options.keep_logits ? tokens : std::min<size_t>(tokens, kLogitsRows);
  logits_.resize(logits_rows * config_.vocab_size);
  gathered_residual_.resize(size_t{kLogitsRows} * config_.hidden_size);
  gathered_hidden_.resize(size_t{kLogitsRows} * config_.hidden_size);
  scratch_.resize(size_t{2} * pool_.num_threads() * config_.vocab_size);
}

Model::~Model() {
  if (kv_memory_ != nullptr) munmap(kv_memory_, static_cast<size_t>(kv_bytes_));
}

int64_t Model::kv_bytes_per_block() const {
  return int64_t{2} * config_.num_layers * config_.num_kv_heads * options_.block_size * config_.head_size *
         static_cast<int64_t>(dtype_size(options_.kv_cache_dtype));
}

int64_t Model::workspace_bytes() const {
  size_t floats = 0;
  for (const auto* buffer : {&residual_, &hidden_, &qkv_, &attention_, &gate_up_, &activated_, &rope_table_,
                             &logits_, &scratch_}) {
    floats += buffer->size();
  }
  return static_cast<int64_t>(floats * sizeof(float)) + arena_.bytes();
}

void Model::allocate_kv_cache(int num_blocks) {
  if (kv_memory_ != nullptr) throw std::runtime_error("the KV cache is already allocated");
  if (num_blocks < 2)
    throw std::runtime_error("a KV cache needs at least 2 blocks, found " + std::to_string(num_blocks));
  check_index_range("KV cache slots", int64_t{num_blocks} * options_.block_size);
  kv_bytes_ = kv_bytes_per_block() * num_blocks;
  void* memory = mmap(nullptr, static_cast<size_t>(kv_bytes_), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw std::runtime_error("cannot allocate " + std::to_string(kv_bytes_) + " bytes for the KV cache of " +
                             std::to_string(num_blocks) + " blocks");
  }
  kv_memory_ = memory;
  num_blocks_ = num_blocks;
  const int64_t half = kv_bytes_ / config_.num_layers / 2;
  char* at = static_cast<char*>(memory);
  for (int layer = 0; layer < config_.num_layers; layer++) {
    kv_caches_.push_back({at, at + half, options_.kv_cache_dtype, num_blocks, options_.block_size,
                          config_.num_kv_heads, config_.head_size});
    at += 2 * half;
  }
}

void Model::check_counts(int num_tokens, int num_seqs, int num_logits_rows) const {
  const BatchSizes& sizes = options_.sizes;
  if (kv_memory_ == nullptr) throw std::runtime_error("step before the KV cache was allocated");
  if (num_tokens < 1 || num_tokens > sizes.max_num_batched_tokens || num_seqs < 1 ||
      num_seqs > sizes.max_num_seqs || num_seqs > num_tokens || num_logits_rows < 0 ||
      num_logits_rows > num_tokens) {
    throw std::runtime_error("a step of " + std::to_string(num_tokens) + " tokens, " +
                             std::to_string(num_seqs) + " sequences and " + std::to_string(num_logits_rows) +
                             " logits rows is out of bounds");
  }
}

void Model::step(int num_tokens, int num_seqs, int num_logits_rows) {
  check_counts(num_tokens, num_seqs, num_logits_rows);
  const Batch& batch = arena_.batch();
#if defined(NATIVE_CHECKS)
  check_batch(batch,
              {num_tokens, num_seqs, num_logits_rows, config_.vocab_size, num_blocks_, options_.block_size,
               arena_.token_count_capacity()},
              options_.sizes);
#endif
  spread_adapter_slots(num_seqs);
  ops_->embed({residual_.data(), &weights_.embed_tokens, batch.token_ids, num_tokens}, pool_);
  ops_->rope_table({rope_table_.data(), batch.positions, config_.rope_inv_freq.data(), num_tokens,
                    static_cast<int>(config_.rope_inv_freq.size())},
                   pool_);
  for (int layer = 0; layer < config_.num_layers; layer++) forward_layer(layer, num_tokens, num_seqs);
  sample(num_logits_rows);
}

// The residual stream is in residual_; what the previous block adds to it is in hidden_, folded in by the
// next norm.
void Model::forward_layer(int layer, int num_tokens, int num_seqs) {
  const LayerWeights& weights = weights_.layers[layer];
  const float* added = layer == 0 ? nullptr : hidden_.data();
  ops_->rms_norm({hidden_.data(), residual_.data(), added, &weights.input_norm, num_tokens,
                  config_.hidden_size, config_.norm_eps},
                 pool_);
  attention_block(layer, num_tokens, num_seqs);
  ops_->rms_norm({hidden_.data(), residual_.data(), hidden_.data(), &weights.post_attention_norm, num_tokens,
                  config_.hidden_size, config_.norm_eps},
                 pool_);
  mlp_block(layer, num_tokens);
}

void Model::attention_block(int layer, int num_tokens, int num_seqs) {
  const LayerWeights& weights = weights_.layers[layer];
  const Batch& batch = arena_.batch();
  const KvCache& cache = kv_caches_[layer];
  const int64_t q_size = int64_t{config_.num_heads} * config_.head_size;
  const int64_t kv_size = int64_t{config_.num_kv_heads} * config_.head_size;
  const int64_t stride = q_size + 2 * kv_size;
  project(qkv_.data(), stride, hidden_.data(), layer, Projection::kQ, num_tokens);
  project(qkv_.data() + q_size, stride, hidden_.data(), layer, Projection::kK, num_tokens);
  project(qkv_.data() + q_size + kv_size, stride, hidden_.data(), layer, Projection::kV, num_tokens);
  ops_->rope_and_cache(
      {qkv_.data(), &cache, batch.slot_mapping, rope_table_.data(),
       config_.qk_norm ? &weights.q_norm : nullptr, config_.qk_norm ? &weights.k_norm : nullptr,
       config_.norm_eps, num_tokens, config_.num_heads, static_cast<int>(config_.rope_inv_freq.size())},
      pool_);
  const float scale = 1.0f / std::sqrt(static_cast<float>(config_.head_size));
  ops_->attention({attention_.data(), qkv_.data(), stride, &cache, batch.query_start_loc, batch.context_lens,
                   batch.seq_rows, batch.block_table, options_.sizes.max_blocks_per_seq, num_seqs,
                   config_.num_heads, scale, config_.sliding_windows[layer]},
                  pool_);
  project(hidden_.data(), config_.hidden_size, attention_.data(), layer, Projection::kO, num_tokens);
}

void Model::mlp_block(int layer, int num_tokens) {
  const int64_t inner = config_.intermediate_size;
  project(gate_up_.data(), 2 * inner, hidden_.data(), layer, Projection::kGate, num_tokens);
  project(gate_up_.data() + inner, 2 * inner, hidden_.data(), layer, Projection::kUp, num_tokens);
  const auto activation = config_.is_gelu ? ops_->gelu_mul : ops_->silu_mul;
  activation({activated_.data(), gate_up_.data(), num_tokens, config_.intermediate_size}, pool_);
  project(hidden_.data(), config_.hidden_size, activated_.data(), layer, Projection::kDown, num_tokens);
}

void Model::matmul(float* out, int64_t out_stride, const float* x, const Tensor& weight, const Tensor& bias,
                   int num_tokens) {
  ops_->matmul({out, x, &weight, bias ? &bias : nullptr, num_tokens, weight.cols, out_stride}, pool_);
}

void Model::project(float* out, int64_t out_stride, const float* x, int layer, Projection projection,
                    int num_tokens) {
  const LayerWeights& w = weights_.layers[layer];
  const Tensor* const weights[] = {&w.q_proj,    &w.k_proj,  &w.v_proj,   &w.o_proj,
                                   &w.gate_proj, &w.up_proj, &w.down_proj};
  const Tensor* const biases[] = {&w.q_bias,    &w.k_bias,  &w.v_bias,   &w.o_bias,
                                  &w.gate_bias, &w.up_bias, &w.down_bias};
  const Tensor& weight = *weights[static_cast<int>(projection)];
  if (layer == capture_layer_) {
    captured_[static_cast<int>(projection)].assign(x, x + int64_t{num_tokens} * weight.cols);
  }
  matmul(out, out_stride, x, weight, *biases[static_cast<int>(projection)], num_tokens);
  if (!uses_adapters_) return;
  ops_->lora_matmul({out, x, adapters_.matrices(layer, projection), token_slots_.data(), num_tokens,
                     weight.cols, weight.rows, weight.cols, out_stride},
                    pool_);
}

void Model::capture(int layer) {
  if (layer < -1 || layer >= config_.num_layers)
    throw std::runtime_error("layer " + std::to_string(layer) + " is none");
  capture_layer_ = layer;
  for (auto& inputs : captured_) inputs.clear();
}

const std::vector<float>& Model::captured(Projection projection) const {
  return captured_[static_cast<int>(projection)];
}

// From a slot per sequence to a slot per row.
void Model::spread_adapter_slots(int num_seqs) {
  const Batch& batch = arena_.batch();
  uses_adapters_ = false;
  for (int i = 0; i < num_seqs; i++) {
    const int slot = batch.lora_rows[i];
    if (slot >= adapters_.num_slots())
      throw std::runtime_error("adapter slot " + std::to_string(slot) + " is none");
    uses_adapters_ = uses_adapters_ || slot >= 0;
    for (int t = batch.query_start_loc[i]; t < batch.query_start_loc[i + 1]; t++) token_slots_[t] = slot;
  }
}

// Logits of the wanted rows alone, a bounded number at a time.
void Model::sample(int num_logits_rows) {
  const Batch& batch = arena_.batch();
  const int size = config_.hidden_size;
  num_logits_rows_ = num_logits_rows;
  if (num_logits_rows == 0) return;
  float* residual = gathered_residual_.data();
  float* added = gathered_hidden_.data();
  for (int first = 0; first < num_logits_rows; first += kLogitsRows) {
    const int rows = std::min(kLogitsRows, num_logits_rows - first);
    ops_->gather_rows({residual, residual_.data(), batch.logits_rows + first, rows, size, 4}, pool_);
    ops_->gather_rows({added, hidden_.data(), batch.logits_rows + first, rows, size, 4}, pool_);
    ops_->rms_norm({added, residual, added, &weights_.final_norm, rows, size, config_.norm_eps}, pool_);
    float* logits = logits_.data() + (options_.keep_logits ? int64_t{first} * config_.vocab_size : 0);
    matmul(logits, config_.vocab_size, added, weights_.lm_head, Tensor{}, rows);
    ops_->sample({logits, &batch, options_.sizes, first, rows, config_.vocab_size, scratch_.data()}, pool_);
  }
}

void Model::copy_blocks(const int32_t* pairs, int num_pairs) {
  for (int i = 0; i < 2 * num_pairs; i++) {
    if (pairs[i] < 0 || pairs[i] >= num_blocks_) {
      throw std::runtime_error("block " + std::to_string(pairs[i]) + " of " + std::to_string(num_blocks_) +
                               " cannot be copied");
    }
  }
  for (const KvCache& cache : kv_caches_) ops_->copy_blocks({&cache, pairs, num_pairs}, pool_);
}

const float* Model::logits(int row) const {
  if (!options_.keep_logits)
    throw std::runtime_error("logits are kept only when the model is opened with keepLogits");
  if (row < 0 || row >= num_logits_rows_) {
    throw std::runtime_error("logits row " + std::to_string(row) + " of " + std::to_string(num_logits_rows_));
  }
  return logits_.data() + int64_t{row} * config_.vocab_size;
}

}  // namespace quire
