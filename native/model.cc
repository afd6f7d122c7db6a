#include "model.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "empty_batch.h"
#include "rounded_activations.h"

namespace quire {

namespace {

constexpr int kMaxLaunched = 2;

std::unique_ptr<Backend> open_backend(const ModelOptions& options) {
#if defined(QUIRE_CUDA)
  return open_cuda_backend(options);
#else
  return open_cpu_backend(options);
#endif
}

void check_index_range(const char* what, int64_t count) {
  if (count < std::numeric_limits<int32_t>::max()) return;
  throw std::runtime_error(std::string(what) + " is " + std::to_string(count) +
                           ", at most 2147483646 is supported");
}

ModelConfig checked(ModelConfig config, const ModelOptions& options) {
  if (config.num_heads % config.num_kv_heads != 0) {
    throw std::runtime_error(std::to_string(config.num_heads) + " heads cannot share " +
                             std::to_string(config.num_kv_heads) + " KV heads evenly");
  }
  const int64_t tokens = options.sizes.max_num_batched_tokens;
  check_index_range("block table", int64_t{options.sizes.max_num_seqs} * options.sizes.max_blocks_per_seq);
  check_index_range("logit_bias list", int64_t{options.sizes.max_num_seqs} * kMaxLogitBias);
  check_index_range("grammar bitmask", options.sizes.max_num_seqs * bitmask_words(options.sizes.vocab_size));
  check_index_range("list of top log-probabilities", tokens * options.sizes.max_logprobs);
  check_index_range("hidden states", int64_t{options.sizes.max_num_seqs} * config.hidden_size);
  check_index_range("vocabulary", config.vocab_size);
  return config;
}

ModelConfig padded(ModelConfig config, const Backend& backend) {
  const int padded = backend.padded_head_size(config.head_size);
  config.head_size = padded;
  return config;
}

}  // namespace

Model::Model(ModelConfig config, const ModelFiles& files, const ModelOptions& options)
    : backend_(open_backend(options)),
      ops_(backend_->ops()),
      executor_(backend_->executor()),
      norm_size_(config.head_size),
      config_(padded(checked(config, options), *backend_)),
      options_(options),
      weights_(config, files, options, *backend_),
      arena_(options.sizes),
      adapters_(config, config_.head_size, options.max_loras, *backend_),
      moe_(config_, options_, weights_, *backend_) {
  const size_t tokens = backend_->padded_rows(options.sizes.max_num_batched_tokens);
  const size_t q_size = size_t{static_cast<size_t>(config_.num_heads)} * config_.head_size;
  const size_t kv_size = size_t{static_cast<size_t>(config_.num_kv_heads)} * config_.head_size;
  const size_t hidden = config_.hidden_size, inner = config_.intermediate_size;
  const size_t activation = dtype_size(ops_.activations);
  const auto buffer = [&](size_t elements, size_t size) {
    try {
      return BackendMemory(*backend_, elements * size);
    } catch (const std::exception&) {
      throw std::runtime_error("there is no memory left for the buffers of steps of " +
                               std::to_string(tokens) + " tokens: set --max-num-batched-tokens lower");
    }
  };
  residual_ = buffer(tokens * hidden, sizeof(float));
  hidden_ = buffer(tokens * hidden, activation);
  qkv_ = buffer(tokens * (q_size + 2 * kv_size), activation);
  attention_ = buffer(tokens * q_size, activation);
  gate_up_ = buffer(tokens * 2 * inner, activation);
  activated_ = buffer(tokens * inner, activation);
  if (backend_->has_int8_activations()) {
    rounded_ = buffer(int8_bytes(static_cast<int64_t>(tokens), std::max(hidden, inner)), 1);
  }
  rope_table_ = buffer(tokens * 2 * config_.rope_inv_freq.size(), sizeof(float));
  inv_freq_ = buffer(config_.rope_inv_freq.size(), sizeof(float));
  backend_->upload(inv_freq_.get(), config_.rope_inv_freq.data(), inv_freq_.bytes());
  const size_t most_rows = backend_->padded_rows(backend_->max_logits_rows());
  const size_t logits_rows = options.keep_logits ? tokens : std::min(tokens, most_rows);
  logits_ = buffer(logits_rows * config_.vocab_size, sizeof(float));
  gathered_residual_ = buffer(most_rows * hidden, sizeof(float));
  gathered_hidden_ = buffer(most_rows * hidden, activation);
  scratch_ = buffer(backend_->sample_scratch(config_.vocab_size), sizeof(float));
  backend_->prepare(config_, options_);
  if (options.warm_up) warm_up();
}

// A GPU keeps keys and values as its activations are, unless told to halve them.
DType Model::kv_dtype() const {
  const bool is_free = ops_.activations == DType::kF32 || options_.kv_cache_dtype == DType::kF8;
  return is_free ? options_.kv_cache_dtype : ops_.activations;
}

int64_t Model::kv_bytes_per_block() const {
  return int64_t{2} * config_.num_layers * config_.num_kv_heads *
         kv_head_block_bytes(kv_dtype(), options_.block_size, config_.head_size);
}

int64_t Model::workspace_bytes() const {
  size_t bytes = 0;
  for (const auto* buffer : {&residual_, &hidden_, &qkv_, &attention_, &gate_up_, &activated_, &rounded_,
                             &rope_table_, &gathered_residual_, &gathered_hidden_, &logits_, &scratch_}) {
    bytes += buffer->bytes();
  }
  return static_cast<int64_t>(bytes + moe_.bytes()) + arena_.bytes();
}

void Model::warm_up() {
  const BatchSizes& sizes = options_.sizes;
  attach_kv_cache(2);
  const int longest = sizes.max_blocks_per_seq * options_.block_size;
  const int num_seqs = std::min(sizes.max_num_seqs, (sizes.max_num_batched_tokens - 1) / longest + 1);
  run_empty_step(std::min(sizes.max_num_batched_tokens, num_seqs * longest), num_seqs);
  free_kv_cache();
}

void Model::run_empty_step(int num_tokens, int num_seqs) {
  fill_empty_batch(arena_.batch(), num_tokens, num_seqs, options_.sizes, options_.block_size);
  launch(num_tokens, num_seqs, num_seqs);
  collect();
}

void Model::allocate_kv_cache(int num_blocks) {
  if (kv_memory_.get() != nullptr) throw std::runtime_error("the KV cache is already allocated");
  if (num_blocks < 2)
    throw std::runtime_error("a KV cache needs at least 2 blocks, found " + std::to_string(num_blocks));
  check_index_range("KV cache slots", int64_t{num_blocks} * options_.block_size);
  attach_kv_cache(num_blocks);
  if (!options_.warm_up) return;
  for (int size : backend_->recorded_sizes()) run_empty_step(size, size);
}

void Model::free_kv_cache() {
  if (num_launched_ > 0 || must_sample_)
    throw std::runtime_error("a step is under way: the KV cache is in use");
  backend_->forget_recordings();
  kv_memory_.clear();
  kv_caches_.clear();
}

void Model::attach_kv_cache(int num_blocks) {
  const int64_t bytes = kv_bytes_per_block() * num_blocks;
  try {
    kv_memory_ = BackendMemory(*backend_, static_cast<size_t>(bytes));
  } catch (const std::exception&) {
    throw std::runtime_error("cannot allocate " + std::to_string(bytes) + " bytes for the KV cache of " +
                             std::to_string(num_blocks) + " blocks");
  }
  num_blocks_ = num_blocks;
  const DType dtype = kv_dtype();
  const int64_t half = bytes / config_.num_layers / 2;
  char* at = static_cast<char*>(kv_memory_.get());
  for (int layer = 0; layer < config_.num_layers; layer++) {
    kv_caches_.push_back(
        {at, at + half, dtype, num_blocks, options_.block_size, config_.num_kv_heads, config_.head_size});
    at += 2 * half;
  }
}

void Model::check_tokens(int num_tokens, int num_seqs) const {
  const BatchSizes& sizes = options_.sizes;
  if (kv_memory_.get() == nullptr) throw std::runtime_error("step before the KV cache was allocated");
  if (must_sample_) throw std::runtime_error("a step begins before the one before it has sampled");
  if (num_launched_ == kMaxLaunched) throw std::runtime_error("two steps are launched and not collected");
  if (num_tokens < 1 || num_tokens > sizes.max_num_batched_tokens || num_seqs < 1 ||
      num_seqs > sizes.max_num_seqs || num_seqs > num_tokens) {
    throw std::runtime_error("a step of " + std::to_string(num_tokens) + " tokens and " +
                             std::to_string(num_seqs) + " sequences is out of bounds");
  }
}

void Model::check_rows(int num_tokens, int num_seqs, int num_logits_rows, int num_hidden_rows) const {
  if (num_logits_rows < 0 || num_logits_rows > num_tokens || num_hidden_rows < 0 ||
      num_hidden_rows > num_seqs) {
    throw std::runtime_error(std::to_string(num_logits_rows) + " logits rows and " +
                             std::to_string(num_hidden_rows) + " hidden rows of a step of " +
                             std::to_string(num_tokens) + " tokens and " + std::to_string(num_seqs) +
                             " sequences are out of bounds");
  }
}

void Model::launch(int num_tokens, int num_seqs, int num_logits_rows, int num_hidden_rows) {
  check_tokens(num_tokens, num_seqs);
  check_rows(num_tokens, num_seqs, num_logits_rows, num_hidden_rows);
  begin_forward(num_tokens, num_seqs);
  // All inputs are on their way before the first op, so that a device waits for none in between.
  begin_sampling(num_logits_rows, num_hidden_rows);
  run_forward();
  run_sampling();
}

void Model::forward(int num_tokens, int num_seqs) {
  check_tokens(num_tokens, num_seqs);
  begin_forward(num_tokens, num_seqs);
  run_forward();
}

void Model::sample(int num_logits_rows, int num_hidden_rows) {
  if (!must_sample_) throw std::runtime_error("there is no step to sample");
  check_rows(asked_.num_tokens, asked_.num_seqs, num_logits_rows, num_hidden_rows);
  begin_sampling(num_logits_rows, num_hidden_rows);
  run_sampling();
}

void Model::collect() {
  if (num_launched_ == 0) throw std::runtime_error("no step was launched");
  backend_->collect(arena_, options_.sizes);
  num_launched_--;
}

#if defined(NATIVE_CHECKS)
BatchBounds Model::bounds() const {
  return {asked_.num_tokens,
          asked_.num_seqs,
          asked_.num_logits_rows,
          asked_.num_hidden_rows,
          config_.vocab_size,
          num_blocks_,
          options_.block_size,
          arena_.token_count_capacity(),
          is_async() ? num_logits_rows_ : 0};
}
#endif

void Model::begin_forward(int num_tokens, int num_seqs) {
  uses_adapters_ = spread_adapter_slots(num_seqs);
  asked_ = shape_ = describe(num_tokens, num_seqs);
#if defined(NATIVE_CHECKS)
  check_inputs(arena_.batch(), bounds(), options_.sizes);
#endif
  batch_ = &backend_->begin_forward(arena_, options_.sizes, shape_);
  must_sample_ = true;
}

void Model::run_forward() {
  backend_->run_forward(shape_, [this] { forward_layers(shape_); });
}

void Model::begin_sampling(int num_logits_rows, int num_hidden_rows) {
  asked_.num_logits_rows = shape_.num_logits_rows = num_logits_rows;
  asked_.num_hidden_rows = shape_.num_hidden_rows = num_hidden_rows;
#if defined(NATIVE_CHECKS)
  quire::check_rows(arena_.batch(), bounds(), options_.sizes);
#endif
  backend_->begin_sampling(arena_, options_.sizes, shape_);
}

void Model::run_sampling() {
  backend_->run_sampling(shape_, [this] {
    sample_rows(shape_.num_logits_rows);
    if (shape_.num_hidden_rows > 0) give_hidden_states(shape_);
  });
  backend_->end_step(options_.sizes, shape_);
  must_sample_ = false;
  num_launched_++;
  num_logits_rows_ = asked_.num_logits_rows;
}

StepShape Model::describe(int num_tokens, int num_seqs) const {
  const Batch& batch = arena_.batch();
  StepShape shape = {num_tokens, num_seqs, 0, 0, 0, 0, uses_adapters_, 0};
  for (int i = 0; i < num_seqs; i++) {
    const int queries = batch.query_start_loc[i + 1] - batch.query_start_loc[i];
    if (queries == 1 && shape.num_decodes == i) shape.num_decodes++;
    shape.max_queries = std::max(shape.max_queries, queries);
    shape.max_context_len = std::max(shape.max_context_len, batch.context_lens[i]);
  }
  return shape;
}

void Model::capture(int layer) {
  if (layer < -1 || layer >= config_.num_layers)
    throw std::runtime_error("layer " + std::to_string(layer) + " is none");
  if (ops_.activations != DType::kF32) throw std::runtime_error("only the CPU's activations can be captured");
  capture_layer_ = layer;
  for (auto& inputs : captured_) inputs.clear();
}

const std::vector<float>& Model::captured(Projection projection) const {
  return captured_[static_cast<int>(projection)];
}

bool Model::spread_adapter_slots(int num_seqs) {
  const Batch& batch = arena_.batch();
  bool has_any = false;
  for (int i = 0; i < num_seqs; i++) {
    const int slot = batch.lora_rows[i];
    if (slot >= adapters_.num_slots())
      throw std::runtime_error("adapter slot " + std::to_string(slot) + " is none");
    has_any = has_any || slot >= 0;
    for (int t = batch.query_start_loc[i]; t < batch.query_start_loc[i + 1]; t++) batch.token_slots[t] = slot;
  }
  return has_any;
}

void Model::copy_blocks(const int32_t* pairs, int num_pairs) {
  for (int i = 0; i < 2 * num_pairs; i++) {
    if (pairs[i] < 0 || pairs[i] >= num_blocks_) {
      throw std::runtime_error("block " + std::to_string(pairs[i]) + " of " + std::to_string(num_blocks_) +
                               " cannot be copied");
    }
  }
  BackendMemory placed(*backend_, sizeof(int32_t) * 2 * std::max(1, num_pairs));
  backend_->upload(placed.get(), pairs, sizeof(int32_t) * 2 * num_pairs);
  for (const KvCache& cache : kv_caches_) {
    ops_.copy_blocks({&cache, static_cast<const int32_t*>(placed.get()), num_pairs}, executor_);
  }
}

std::vector<float> Model::logits(int row) const {
  if (!options_.keep_logits)
    throw std::runtime_error("logits are kept only when the model is opened with keepLogits");
  if (row < 0 || row >= num_logits_rows_) {
    throw std::runtime_error("logits row " + std::to_string(row) + " of " + std::to_string(num_logits_rows_));
  }
  std::vector<float> found(config_.vocab_size);
  backend_->download(found.data(), f32(logits_.get()) + int64_t{row} * config_.vocab_size,
                     found.size() * sizeof(float));
  return found;
}

}  // namespace quire
