// What a step computes: the layers, and what is made of the rows that are wanted of them.

#include <algorithm>

#include "model.h"
#include "rounded_activations.h"

namespace quire {

void Model::forward_layers(const StepShape& shape) {
  ops_.embed({f32(residual_.get()), &weights_.embed_tokens, batch_->token_ids, shape.num_tokens,
              config_.embed_scale},
             executor_);
  ops_.rope_table({f32(rope_table_.get()), batch_->positions, f32(inv_freq_.get()), shape.num_tokens,
                   static_cast<int>(config_.rope_inv_freq.size())},
                  executor_);
  for (int layer = 0; layer < config_.num_layers; layer++) forward_layer(layer, shape);
}

// The residual stream is in residual_; what the previous block adds to it is in hidden_, folded in by the
// next norm.
void Model::forward_layer(int layer, const StepShape& shape) {
  attention_block(layer, shape);
  if (config_.num_experts > 0) {
    add_and_normalise(weights_.layers[layer].post_attention_norm, hidden_.get(), nullptr, shape.num_tokens);
    moe_.forward(hidden_.get(), layer, shape.num_tokens);
  } else {
    mlp_block(layer, shape.num_tokens);
  }
}

void Model::attention_block(int layer, const StepShape& shape) {
  const int num_tokens = shape.num_tokens;
  const LayerWeights& weights = weights_.layers[layer];
  const KvCache& cache = kv_caches_[layer];
  const int64_t q_size = int64_t{config_.num_heads} * config_.head_size;
  const int64_t kv_size = int64_t{config_.num_kv_heads} * config_.head_size;
  const int64_t stride = q_size + 2 * kv_size;
  const Inputs inputs = add_and_normalise(
      weights.input_norm, layer == 0 ? nullptr : hidden_.get(),
      rounded_for(layer, {&weights.qkv_proj, &weights.q_proj, &weights.k_proj, &weights.v_proj}, num_tokens),
      num_tokens);
  project_side_by_side(qkv_.get(), stride, inputs, layer, weights.qkv_proj, weights.qkv_bias,
                       {Projection::kQ, Projection::kK, Projection::kV}, num_tokens);
  ops_.rope_and_cache({qkv_.get(), &cache, batch_->slot_mapping, f32(rope_table_.get()),
                       config_.qk_norm ? &weights.q_norm : nullptr,
                       config_.qk_norm ? &weights.k_norm : nullptr, config_.norm_eps, num_tokens,
                       config_.num_heads, static_cast<int>(config_.rope_inv_freq.size()), norm_size_},
                      executor_);
  ops_.attention({attention_.get(), qkv_.get(), stride, &cache, batch_->query_start_loc, batch_->context_lens,
                  batch_->seq_rows, batch_->block_table, options_.sizes.max_blocks_per_seq, shape.num_seqs,
                  config_.num_heads, config_.attention_scale, config_.sliding_windows[layer],
                  shape.num_decodes, shape.max_queries, shape.max_context_len, config_.attention_soft_cap},
                 executor_);
  project(hidden_.get(), config_.hidden_size, {attention_.get()}, layer, Projection::kO, num_tokens);
  if (config_.out_norms) normalise_hidden(weights.attention_out_norm, num_tokens);
}

void Model::mlp_block(int layer, int num_tokens) {
  const int64_t inner = config_.intermediate_size;
  const LayerWeights& weights = weights_.layers[layer];
  const Inputs inputs = add_and_normalise(
      weights.post_attention_norm, hidden_.get(),
      rounded_for(layer, {&weights.gate_up_proj, &weights.gate_proj, &weights.up_proj}, num_tokens),
      num_tokens);
  project_side_by_side(gate_up_.get(), 2 * inner, inputs, layer, weights.gate_up_proj, weights.gate_up_bias,
                       {Projection::kGate, Projection::kUp}, num_tokens);
  const Inputs activated = {activated_.get(), rounded_for(layer, {&weights.down_proj}, num_tokens)};
  const auto activation = config_.is_gelu ? ops_.gelu_mul : ops_.silu_mul;
  activation({activated_.get(), gate_up_.get(), num_tokens, config_.intermediate_size, activated.rounded},
             executor_);
  project(hidden_.get(), config_.hidden_size, activated, layer, Projection::kDown, num_tokens);
  if (config_.out_norms) normalise_hidden(weights_.layers[layer].mlp_out_norm, num_tokens);
}

Model::Inputs Model::add_and_normalise(const Tensor& weight, const void* added, const RoundedRows* rounded,
                                       int num_tokens) {
  ops_.rms_norm({hidden_.get(), f32(residual_.get()), added, &weight, num_tokens, config_.hidden_size,
                 config_.norm_eps, rounded},
                executor_);
  return {hidden_.get(), rounded};
}

void Model::normalise_hidden(const Tensor& weight, int num_tokens) {
  ops_.rms_norm(
      {hidden_.get(), nullptr, hidden_.get(), &weight, num_tokens, config_.hidden_size, config_.norm_eps},
      executor_);
}

const RoundedRows* Model::rounded_for(std::initializer_list<const Tensor*> readers, int num_rows) {
  const Tensor* first = nullptr;
  for (const Tensor* reader : readers) {
    if (!*reader) continue;
    if (first == nullptr) first = reader;
    if (!is_tiled(reader->dtype) || reader->groups.group != first->groups.group) return nullptr;
  }
  rounded_rows_ = rounded_rows_at(rounded_.get(), num_rows, first->cols, first->groups.group);
  return &rounded_rows_;
}

const RoundedRows* Model::rounded_for(int layer, std::initializer_list<const Tensor*> readers,
                                      int num_tokens) {
  const bool others_read = uses_adapters_ || layer == capture_layer_;
  return others_read ? nullptr : rounded_for(readers, num_tokens);
}

void Model::matmul(void* out, int64_t out_stride, const Inputs& x, const Tensor& weight, const Tensor& bias,
                   int num_tokens, bool is_f32_out) {
  ops_.matmul({out, x.values, &weight, bias ? &bias : nullptr, num_tokens, weight.cols, out_stride,
               is_f32_out, x.rounded},
              executor_);
}

const Tensor& Model::weight_of(int layer, Projection projection) const {
  const LayerWeights& w = weights_.layers[layer];
  const Tensor* const weights[] = {&w.q_proj,    &w.k_proj,  &w.v_proj,   &w.o_proj,
                                   &w.gate_proj, &w.up_proj, &w.down_proj};
  return *weights[static_cast<int>(projection)];
}

void Model::project(void* out, int64_t out_stride, const Inputs& x, int layer, Projection projection,
                    int num_tokens) {
  const LayerWeights& w = weights_.layers[layer];
  const Tensor* const biases[] = {&w.q_bias,    &w.k_bias,  &w.v_bias,   &w.o_bias,
                                  &w.gate_bias, &w.up_bias, &w.down_bias};
  const Tensor& weight = weight_of(layer, projection);
  if (layer == capture_layer_) {
    const float* inputs = f32(x.values);
    captured_[static_cast<int>(projection)].assign(inputs, inputs + int64_t{num_tokens} * weight.cols);
  }
  matmul(out, out_stride, x, weight, *biases[static_cast<int>(projection)], num_tokens);
  adapt(out, out_stride, x.values, layer, projection, num_tokens);
}

void Model::project_side_by_side(void* out, int64_t out_stride, const Inputs& x, int layer,
                                 const Tensor& joined, const Tensor& bias,
                                 std::initializer_list<Projection> parts, int num_tokens) {
  if (joined) matmul(out, out_stride, x, joined, bias, num_tokens);
  for (Projection part : parts) {
    if (joined) {
      adapt(out, out_stride, x.values, layer, part, num_tokens);
    } else {
      project(out, out_stride, x, layer, part, num_tokens);
    }
    out = static_cast<char*>(out) +
          weight_of(layer, part).rows * static_cast<int64_t>(dtype_size(ops_.activations));
  }
}

void Model::adapt(void* out, int64_t out_stride, const void* x, int layer, Projection projection,
                  int num_tokens) {
  if (!uses_adapters_) return;
  const Tensor& weight = weight_of(layer, projection);
  ops_.lora_matmul({out, x, adapters_.matrices(layer, projection), batch_->token_slots, num_tokens,
                    weight.cols, weight.rows, weight.cols, out_stride},
                   executor_);
}

// Logits of the wanted rows alone, a bounded number at a time.
void Model::sample_rows(int num_logits_rows) {
  const int size = config_.hidden_size;
  const int most = backend_->max_logits_rows();
  float* residual = f32(gathered_residual_.get());
  void* added = gathered_hidden_.get();
  const int activation = static_cast<int>(dtype_size(ops_.activations));
  for (int first = 0; first < num_logits_rows; first += most) {
    const int rows = std::min(most, num_logits_rows - first);
    const int32_t* wanted = batch_->logits_rows + first;
    ops_.gather_rows({residual, residual_.get(), wanted, rows, size, 4}, executor_);
    ops_.gather_rows({added, hidden_.get(), wanted, rows, size, activation}, executor_);
    const RoundedRows* rounded = rounded_for({&weights_.lm_head}, rows);
    ops_.rms_norm({added, residual, added, &weights_.final_norm, rows, size, config_.norm_eps, rounded},
                  executor_);
    float* logits = f32(logits_.get()) + (options_.keep_logits ? int64_t{first} * config_.vocab_size : 0);
    matmul(logits, config_.vocab_size, {added, rounded}, weights_.lm_head, Tensor{}, rows, true);
    if (config_.logit_soft_cap > 0) {
      ops_.soft_cap({logits, int64_t{rows} * config_.vocab_size, config_.logit_soft_cap}, executor_);
    }
    ops_.sample({logits, batch_, options_.sizes, first, rows, config_.vocab_size, f32(scratch_.get())},
                executor_);
  }
}

// After sample_rows, which wants the residual stream as the layers left it. `embed` reads rows of a matrix as
// f32, here those of the normalised states.
void Model::give_hidden_states(const StepShape& shape) {
  const int size = config_.hidden_size;
  ops_.rms_norm({hidden_.get(), f32(residual_.get()), hidden_.get(), &weights_.final_norm, shape.num_tokens,
                 size, config_.norm_eps},
                executor_);
  const Tensor states = {hidden_.get(), ops_.activations, shape.num_tokens, size};
  ops_.embed({batch_->hidden_states, &states, batch_->hidden_rows, shape.num_hidden_rows, 1}, executor_);
}

}  // namespace quire
