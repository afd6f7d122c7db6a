// The weights of one model: files mapped read-only, tensors found by slot, converted only where the form must
// change.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"
#include "model_config.h"
#include "tensor.h"
#include "thread_pool.h"

namespace quire {

// Of the random numbers that stand in for weights.
constexpr float kDummyStddev = 0.02f;

// "layer 3 q_proj of expert 1".
std::string source_name(const TensorSource& source);
// Of the random numbers of one tensor.
uint64_t stream_of(const TensorSource& source);

struct LayerWeights {
  Tensor input_norm;
  Tensor q_proj, k_proj, v_proj, o_proj;
  Tensor q_bias, k_bias, v_bias, o_bias;
  Tensor q_norm, k_norm;
  Tensor attention_out_norm;   // with out_norms
  Tensor post_attention_norm;  // before the MLP
  Tensor mlp_out_norm;         // with out_norms
  Tensor gate_proj, up_proj, down_proj;
  Tensor gate_bias, up_bias, down_bias;
  // With a backend that joins matrices, instead of q, k, v and of gate and up, of which shapes are left.
  Tensor qkv_proj, qkv_bias, gate_up_proj, gate_up_bias;
  // A mixture of experts has these instead of gate, up and down.
  Tensor router;                                            // [num_experts, H]
  std::vector<Tensor> expert_gate, expert_up, expert_down;  // [num_experts] each
};

class Weights {
 public:
  // Throws std::runtime_error naming slot, found and expected when a tensor is missing, misshapen or outside
  // its file.
  Weights(const ModelConfig& config, const ModelFiles& files, const ModelOptions& options, Backend& backend);
  ~Weights();
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  Tensor embed_tokens;
  Tensor final_norm;
  Tensor lm_head;  // embed_tokens when the file has none
  std::vector<LayerWeights> layers;
  // Counted once per tensor, in the form the backend has it.
  int64_t bytes() const { return bytes_; }

 private:
  struct Mapping {
    void* data;
    int64_t size;
  };

  void map_file(const std::string& path);
  // `find` gives a tensor in the host's memory, nothing if it is missing and not required.
  void place_layer(int layer, const ModelConfig& config, Backend& backend, int rounded_bits,
                   const std::function<Tensor(const TensorSource&, bool)>& find);
  // Takes the tensor of a place in the model to the backend, rounded to so many bits if it can be and they
  // are not 0; the place may be empty.
  Tensor put(const Tensor& host, Backend& backend, int rounded_bits = 0);
  // The same for a table whose rows are looked up.
  Tensor put_rows(const Tensor& host, Backend& backend);
  // What became of the hosts stays; their pages need not.
  Tensor take(const std::vector<Tensor>& hosts, const Tensor& placed);
  // In the host's memory, as the backend wants it.
  Tensor prepare(const TensorSource& source, const ModelConfig& config, const ModelOptions& options,
                 const Backend& backend);
  // One under the other in the host's memory.
  Tensor join(const std::vector<Tensor>& parts);
  // One under the other at the backend; nothing when their forms differ.
  Tensor put_joined(const std::vector<Tensor>& parts, Backend& backend, int rounded_bits);
  // parts become joined, when they can; their shapes stay. The biases go with them, zeros where there is
  // none.
  void join_matrices(Tensor& joined, Tensor& joined_bias, const std::vector<Tensor*>& parts,
                     const std::vector<Tensor*>& biases, Backend& backend, int rounded_bits);
  // The tensor in the host's memory.
  Tensor read(const TensorSource& source, const ModelOptions& options, const Backend& backend);
  Tensor read_awq(const TensorSource& source, bool goes_into_tiles);
  Tensor dummy_w4(const TensorSource& source, int64_t groups);
  Tensor read_f8(const TensorSource& source);
  // A matrix of any form in plain numbers of 16 bits.
  Tensor widen(const Tensor& matrix, const ModelOptions& options);
  // A norm's weight from a file that holds what is over 1.
  Tensor plus_one(const Tensor& norm);
  // Every head of a matrix or bias of attention, with zeros up to the size that the backend has kernels for.
  Tensor pad_heads(const Tensor& tensor, const std::string& slot, int head_size, int padded);
  const char* part(const TensorSource& source, const FilePart& part, int64_t expected_bytes);
  // Pages of the files that were read and are not needed again leave this process's memory.
  void forget_pages();
  // Memory on its way to the backend, given back when a layer is placed, unless the backend leaves it here.
  void* allocate(int64_t bytes);
  void keep(const void* memory);

  ThreadPool pool_;  // for reading
  std::vector<Mapping> mappings_;
  std::vector<std::pair<const char*, int64_t>> read_;
  std::map<const void*, std::unique_ptr<char[]>> passing_;
  std::map<const void*, std::unique_ptr<char[]>> kept_;
  int64_t bytes_ = 0;
};

}  // namespace quire
