// The MLP of a mixture of experts: router, experts, and their buffers.
#pragma once

#include "backend.h"
#include "model_config.h"
#include "ops.h"
#include "weights.h"

namespace quire {

class Moe {
 public:
  // Does nothing for a model without experts. Throws what cannot be had, in one line.
  Moe(const ModelConfig& config, const ModelOptions& options, const Weights& weights, Backend& backend);

  // hidden [T, H], in place.
  void forward(void* hidden, int layer, int num_tokens);
  size_t bytes() const;

 private:
  struct Pointers {
    BackendMemory gate, up, down;  // [num_experts] each
  };
  void multiply(void* out, int64_t out_stride, const void* x, const std::vector<Tensor>& experts,
                const BackendMemory& pointers, int num_rows);

  const ModelConfig& config_;
  const Weights& weights_;
  Backend& backend_;
  std::vector<Pointers> pointers_;  // [num_layers]
  // For max_num_batched_tokens tokens T, and R = T * experts_per_token rows.
  BackendMemory logits_;         // [T, num_experts] f32
  BackendMemory route_weights_;  // [T, experts_per_token] f32
  BackendMemory expert_ids_;     // the same, i32
  BackendMemory places_;         // the same, i32
  BackendMemory source_rows_;    // [R] i32
  BackendMemory expert_start_;   // [num_experts + 1] i32
  BackendMemory inputs_;         // [R, H], and what the experts give
  BackendMemory gate_up_;        // [R, 2 I]
  BackendMemory activated_;      // [R, I]
};

}  // namespace quire
