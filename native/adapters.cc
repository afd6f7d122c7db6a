#include "adapters.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace quire {

namespace {

constexpr const char* kNames[kNumProjections] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                 "gate_proj", "up_proj", "down_proj"};

}  // namespace

int projection_of(const char* slot) {
  for (int i = 0; i < kNumProjections; i++) {
    if (std::strcmp(kNames[i], slot) == 0) return i;
  }
  return -1;
}

Adapters::Adapters(const ModelConfig& config, int num_slots)
    : num_slots_(num_slots), num_layers_(config.num_layers), memory_(num_slots) {
  const int64_t q = int64_t{config.num_heads} * config.head_size;
  const int64_t kv = int64_t{config.num_kv_heads} * config.head_size;
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t inputs[] = {hidden, hidden, hidden, q, hidden, hidden, inner};
  const int64_t outputs[] = {q, kv, kv, hidden, inner, inner, hidden};
  std::copy(inputs, inputs + kNumProjections, inputs_);
  std::copy(outputs, outputs + kNumProjections, outputs_);
  matrices_.resize(size_t{static_cast<size_t>(config.num_layers)} * kNumProjections * num_slots);
}

LoraMatrix& Adapters::at(int layer, Projection projection, int slot) {
  return matrices_[(size_t{static_cast<size_t>(layer)} * kNumProjections + static_cast<int>(projection)) *
                       num_slots_ +
                   slot];
}

const LoraMatrix* Adapters::matrices(int layer, Projection projection) const {
  return matrices_.data() +
         (size_t{static_cast<size_t>(layer)} * kNumProjections + static_cast<int>(projection)) * num_slots_;
}

void Adapters::check(const AdapterTensor& tensor) const {
  const int p = static_cast<int>(tensor.projection);
  if (tensor.layer < 0 || tensor.layer >= num_layers_ || tensor.rank < 1 || tensor.rank > kMaxLoraRank ||
      tensor.a_size != tensor.rank * inputs_[p] || tensor.b_size != tensor.rank * outputs_[p]) {
    throw std::runtime_error("the adapter's " + std::string(kNames[p]) + " of layer " +
                             std::to_string(tensor.layer) + " and rank " + std::to_string(tensor.rank) +
                             " does not fit the model");
  }
}

void Adapters::load(int slot, const std::vector<AdapterTensor>& tensors) {
  unload(slot);
  int64_t floats = 0;
  for (const AdapterTensor& tensor : tensors) {
    check(tensor);
    floats += tensor.a_size + tensor.b_size;
  }
  std::vector<float>& memory = memory_[slot];
  memory.resize(static_cast<size_t>(floats));
  float* next = memory.data();
  for (const AdapterTensor& tensor : tensors) {
    float* a = next;
    float* b = std::copy(tensor.a, tensor.a + tensor.a_size, a);
    next = std::copy(tensor.b, tensor.b + tensor.b_size, b);
    at(tensor.layer, tensor.projection, slot) = {a, b, tensor.rank};
  }
}

void Adapters::unload(int slot) {
  if (slot < 0 || slot >= num_slots_) {
    throw std::runtime_error("adapter slot " + std::to_string(slot) + " of " + std::to_string(num_slots_));
  }
  for (int layer = 0; layer < num_layers_; layer++) {
    for (int p = 0; p < kNumProjections; p++) at(layer, static_cast<Projection>(p), slot) = {};
  }
  memory_[slot].clear();
  memory_[slot].shrink_to_fit();
}

}  // namespace quire
