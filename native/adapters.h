// LoRA adapters in their slots: what a step's rows may add to the model's matrices.
#pragma once

#include <cstdint>
#include <vector>

#include "backend.h"
#include "model_config.h"
#include "ops.h"

namespace quire {

// The matrices of a layer that an adapter may change.
enum class Projection : int { kQ, kK, kV, kO, kGate, kUp, kDown };
constexpr int kNumProjections = 7;

// Names are model-config.ts's slots ("q_proj"); -1 for another.
int projection_of(const char* slot);

// One matrix's update as the caller has it; copied.
struct AdapterTensor {
  Projection projection;
  int layer;
  int rank;
  const float* a;  // [rank, K]
  const float* b;  // [rank, N], times the scale
  int64_t a_size;
  int64_t b_size;
};

class Adapters {
 public:
  // Heads of the model are padded with zeros to `padded_head_size`, and so are those of an adapter.
  Adapters(const ModelConfig& config, int padded_head_size, int num_slots, Backend& backend);

  // Replaces what is in the slot. Throws std::runtime_error when a slot, layer, rank or size is wrong; the
  // slot is then empty.
  void load(int slot, const std::vector<AdapterTensor>& tensors);
  void unload(int slot);

  int num_slots() const { return num_slots_; }
  // [num_slots] of one matrix of the model, in the backend's memory.
  const LoraMatrix* matrices(int layer, Projection projection) const;

 private:
  void check(const AdapterTensor& tensor) const;
  int64_t widened(int64_t size) const { return size / head_size_ * padded_head_size_; }
  // [rank, size] with its heads padded, where `pads`.
  std::vector<float> padded(const float* values, int rank, int64_t size, bool pads) const;
  size_t index_of(int layer, Projection projection, int slot) const;

  Backend& backend_;
  const int head_size_;
  const int padded_head_size_;
  const int num_slots_;
  const int num_layers_;
  int64_t inputs_[kNumProjections];
  int64_t outputs_[kNumProjections];
  std::vector<BackendMemory> memory_;  // [num_slots]
  std::vector<LoraMatrix> matrices_;   // [num_layers, kNumProjections, num_slots]
  BackendMemory placed_matrices_;      // the same
};

}  // namespace quire
