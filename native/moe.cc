#include "moe.h"

#include <stdexcept>

namespace quire {

namespace {

// The experts' weights, where the ops can read where they are.
BackendMemory pointers_to(const std::vector<Tensor>& experts, Backend& backend) {
  std::vector<const void*> pointers;
  for (const Tensor& expert : experts) pointers.push_back(expert.data);
  BackendMemory memory(backend, pointers.size() * sizeof(void*));
  backend.upload(memory.get(), pointers.data(), memory.bytes());
  return memory;
}

}  // namespace

Moe::Moe(const ModelConfig& config, const ModelOptions& options, const Weights& weights, Backend& backend)
    : config_(config), weights_(weights), backend_(backend) {
  if (config.num_experts == 0) return;
  if (config.num_experts > kMaxExperts || config.experts_per_token > kMaxChosenExperts ||
      config.experts_per_token > config.num_experts) {
    throw std::runtime_error(
        std::to_string(config.experts_per_token) + " of " + std::to_string(config.num_experts) +
        " experts a token are not supported: up to " + std::to_string(kMaxChosenExperts) + " of " +
        std::to_string(kMaxExperts) + " are");
  }
  if (backend.ops().activations != DType::kF32 &&
      (config.hidden_size % 8 != 0 || config.intermediate_size % 8 != 0)) {
    throw std::runtime_error("experts of " + std::to_string(config.hidden_size) + " by " +
                             std::to_string(config.intermediate_size) +
                             " are not supported on a GPU: multiples of 8 are");
  }
  for (const LayerWeights& layer : weights.layers) {
    pointers_.push_back({pointers_to(layer.expert_gate, backend), pointers_to(layer.expert_up, backend),
                         pointers_to(layer.expert_down, backend)});
  }
  const size_t tokens = backend.padded_rows(options.sizes.max_num_batched_tokens);
  const size_t choices = tokens * config.experts_per_token;
  const size_t activation = dtype_size(backend.ops().activations);
  const auto buffer = [&](size_t elements, size_t size) { return BackendMemory(backend, elements * size); };
  logits_ = buffer(tokens * config.num_experts, sizeof(float));
  route_weights_ = buffer(choices, sizeof(float));
  expert_ids_ = buffer(choices, sizeof(int32_t));
  places_ = buffer(choices, sizeof(int32_t));
  source_rows_ = buffer(choices, sizeof(int32_t));
  expert_start_ = buffer(config.num_experts + 1, sizeof(int32_t));
  inputs_ = buffer(choices * config.hidden_size, activation);
  gate_up_ = buffer(choices * 2 * config.intermediate_size, activation);
  activated_ = buffer(choices * config.intermediate_size, activation);
}

size_t Moe::bytes() const {
  size_t bytes = 0;
  for (const auto* buffer :
       {&logits_, &route_weights_, &expert_ids_, &places_, &source_rows_, &inputs_, &gate_up_, &activated_}) {
    bytes += buffer->bytes();
  }
  return bytes;
}

void Moe::forward(void* hidden, int layer, int num_tokens) {
  const Ops& ops = backend_.ops();
  Executor& executor = backend_.executor();
  const LayerWeights& weights = weights_.layers[layer];
  const Pointers& pointers = pointers_[layer];
  const int top_k = config_.experts_per_token, size = config_.hidden_size, inner = config_.intermediate_size;
  const int num_rows = num_tokens * top_k;
  auto* places = static_cast<int32_t*>(places_.get());
  auto* source_rows = static_cast<int32_t*>(source_rows_.get());
  ops.matmul({logits_.get(), hidden, &weights.router, nullptr, num_tokens, size, config_.num_experts, true},
             executor);
  ops.moe_route({f32(route_weights_.get()), static_cast<int32_t*>(expert_ids_.get()), places, source_rows,
                 static_cast<int32_t*>(expert_start_.get()), f32(logits_.get()), num_tokens,
                 config_.num_experts, top_k, config_.renormalises_experts},
                executor);
  const int activation_size = static_cast<int>(dtype_size(ops.activations));
  ops.gather_rows({inputs_.get(), hidden, source_rows, num_rows, size, activation_size}, executor);
  multiply(gate_up_.get(), 2 * inner, inputs_.get(), weights.expert_gate, pointers.gate, num_rows);
  void* up = static_cast<char*>(gate_up_.get()) + int64_t{inner} * activation_size;
  multiply(up, 2 * inner, inputs_.get(), weights.expert_up, pointers.up, num_rows);
  const auto activation = config_.is_gelu ? ops.gelu_mul : ops.silu_mul;
  activation({activated_.get(), gate_up_.get(), num_rows, inner}, executor);
  multiply(inputs_.get(), size, activated_.get(), weights.expert_down, pointers.down, num_rows);
  ops.moe_combine({hidden, inputs_.get(), f32(route_weights_.get()), places, num_tokens, top_k, size},
                  executor);
}

void Moe::multiply(void* out, int64_t out_stride, const void* x, const std::vector<Tensor>& experts,
                   const BackendMemory& pointers, int num_rows) {
  backend_.ops().grouped_matmul(
      {out, x, experts.data(), static_cast<const void* const*>(pointers.get()),
       static_cast<const int32_t*>(expert_start_.get()), config_.num_experts, num_rows, out_stride},
      backend_.executor());
}

}  // namespace quire
