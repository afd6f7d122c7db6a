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

Adapters::Adapters(const ModelConfig& config, int padded_head_size, int num_slots, Backend& backend)
    : backend_(backend),
      head_size_(config.head_size),
      padded_head_size_(padded_head_size),
      num_slots_(num_slots),
      num_layers_(config.num_layers),
      memory_(num_slots) {
  const int64_t q = int64_t{config.num_heads} * config.head_size;
  const int64_t kv = int64_t{config.num_kv_heads} * config.head_size;
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t inputs[] = {hidden, hidden, hidden, q, hidden, hidden, inner};
  const int64_t outputs[] = {q, kv, kv, hidden, inner, inner, hidden};
  std::copy(inputs, inputs + kNumProjections, inputs_);
  std::copy(outputs, outputs + kNumProjections, outputs_);
  matrices_.resize(index_of(num_layers_, Projection::kQ, 0));
  if (num_slots > 0) placed_matrices_ = BackendMemory(backend, matrices_.size() * sizeof(LoraMatrix));
}

size_t Adapters::index_of(int layer, Projection projection, int slot) const {
  return (static_cast<size_t>(layer) * kNumProjections + static_cast<size_t>(projection)) * num_slots_ + slot;
}

const LoraMatrix* Adapters::matrices(int layer, Projection projection) const {
  return static_cast<const LoraMatrix*>(placed_matrices_.get()) + index_of(layer, projection, 0);
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

std::vector<float> Adapters::padded(const float* values, int rank, int64_t size, bool pads) const {
  const int64_t width = pads ? widened(size) : size;
  std::vector<float> out(static_cast<size_t>(rank * width), 0.0f);
  for (int64_t r = 0; r < rank; r++) {
    for (int64_t i = 0; i < size; i++) {
      const int64_t to = pads ? i / head_size_ * padded_head_size_ + i % head_size_ : i;
      out[static_cast<size_t>(r * width + to)] = values[r * size + i];
    }
  }
  return out;
}

void Adapters::load(int slot, const std::vector<AdapterTensor>& tensors) {
  unload(slot);
  struct Place {
    const AdapterTensor* tensor;
    size_t a, b;
  };
  std::vector<float> values;
  std::vector<Place> places;
  for (const AdapterTensor& tensor : tensors) {
    check(tensor);
    const Projection p = tensor.projection;
    const bool is_qkv = p == Projection::kQ || p == Projection::kK || p == Projection::kV;
    const std::vector<float> a =
        padded(tensor.a, tensor.rank, tensor.a_size / tensor.rank, p == Projection::kO);
    const std::vector<float> b = padded(tensor.b, tensor.rank, tensor.b_size / tensor.rank, is_qkv);
    places.push_back({&tensor, values.size(), values.size() + a.size()});
    values.insert(values.end(), a.begin(), a.end());
    values.insert(values.end(), b.begin(), b.end());
  }
  memory_[slot] = BackendMemory(backend_, values.size() * sizeof(float));
  backend_.upload(memory_[slot].get(), values.data(), values.size() * sizeof(float));
  const float* memory = static_cast<const float*>(memory_[slot].get());
  for (const auto& [tensor, a, b] : places) {
    matrices_[index_of(tensor->layer, tensor->projection, slot)] = {memory + a, memory + b, tensor->rank};
  }
  backend_.upload(placed_matrices_.get(), matrices_.data(), placed_matrices_.bytes());
}

void Adapters::unload(int slot) {
  if (slot < 0 || slot >= num_slots_) {
    throw std::runtime_error("adapter slot " + std::to_string(slot) + " of " + std::to_string(num_slots_));
  }
  for (int layer = 0; layer < num_layers_; layer++) {
    for (int p = 0; p < kNumProjections; p++)
      matrices_[index_of(layer, static_cast<Projection>(p), slot)] = {};
  }
  backend_.upload(placed_matrices_.get(), matrices_.data(), placed_matrices_.bytes());
  memory_[slot].clear();
}

}  // namespace quire
