// One decoder and its KV cache: the forward pass, written once over the op table.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "adapters.h"
#include "arena.h"
#include "model_config.h"
#include "ops.h"
#include "thread_pool.h"
#include "weights.h"

namespace quire {

class Model {
 public:
  // Throws std::runtime_error in one line when a size, a tensor or the kernels asked for cannot be had.
  Model(ModelConfig config, const ModelFiles& files, const ModelOptions& options);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // Once. Block 0 is the null block. Memory is zero and taken from the system as it is touched.
  void allocate_kv_cache(int num_blocks);

  // One step over the first entries of the batch; blocks until the sampled tokens are in it.
  void step(int num_tokens, int num_seqs, int num_logits_rows);

  // pairs: [num_pairs, 2] from, to.
  void copy_blocks(const int32_t* pairs, int num_pairs);

  // Raw logits of the last step's row, [vocab_size]. Needs options.keep_logits.
  const float* logits(int row) const;

  // From now on a step keeps the inputs of one layer's matrices readable; -1 stops that. For quantisation.
  void capture(int layer);
  // [num_tokens of the last step, inputs of the matrix]
  const std::vector<float>& captured(Projection projection) const;

  // Between steps only. See adapters.h.
  Adapters& adapters() { return adapters_; }
  Arena& arena() { return arena_; }
  const ModelConfig& config() const { return config_; }
  const char* description() const { return ops_->name; }
  int64_t weight_bytes() const { return weights_.bytes(); }
  int64_t kv_bytes_per_block() const;
  int64_t workspace_bytes() const;

 private:
  void forward_layer(int layer, int num_tokens, int num_seqs);
  void attention_block(int layer, int num_tokens, int num_seqs);
  void mlp_block(int layer, int num_tokens);
  void matmul(float* out, int64_t out_stride, const float* x, const Tensor& weight, const Tensor& bias,
              int num_tokens);
  // matmul, and what the adapters of the rows add to it.
  void project(float* out, int64_t out_stride, const float* x, int layer, Projection projection,
               int num_tokens);
  void spread_adapter_slots(int num_seqs);
  void sample(int num_logits_rows);
  void check_counts(int num_tokens, int num_seqs, int num_logits_rows) const;

  const ModelConfig config_;
  const ModelOptions options_;
  const Ops* const ops_;
  ThreadPool pool_;
  Weights weights_;
  Arena arena_;
  Adapters adapters_;

  int num_blocks_ = 0;
  void* kv_memory_ = nullptr;
  int64_t kv_bytes_ = 0;
  std::vector<KvCache> kv_caches_;  // [num_layers]

  // Work buffers for max_num_batched_tokens rows.
  std::vector<float> residual_;       // [T, H]
  std::vector<float> hidden_;         // [T, H]
  std::vector<float> qkv_;            // [T, (Hq + 2 Hkv) D]
  std::vector<float> attention_;      // [T, Hq D]
  std::vector<float> gate_up_;        // [T, 2 I]
  std::vector<float> activated_;      // [T, I]
  std::vector<float> rope_table_;     // [T, 2 num_freqs]
  std::vector<int32_t> token_slots_;  // [T] adapter slot of each row
  bool uses_adapters_ = false;        // in this step
  // Rows of residual_ and hidden_ whose logits are wanted, [kLogitsRows, H].
  std::vector<float> gathered_residual_;
  std::vector<float> gathered_hidden_;
  std::vector<float> logits_;   // [kLogitsRows, V], or [T, V] with keep_logits
  std::vector<float> scratch_;  // [threads, 2 V]
  int num_logits_rows_ = 0;     // of the last step
  int capture_layer_ = -1;
  std::vector<float> captured_[kNumProjections];
};

}  // namespace quire
