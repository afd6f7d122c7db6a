// One decoder and its KV cache: the forward pass, written once over the op table.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "adapters.h"
#include "arena.h"
#include "backend.h"
#include "batch_checks.h"
#include "model_config.h"
#include "moe.h"
#include "ops.h"
#include "rounded_activations.h"
#include "weights.h"

namespace quire {

class Model {
 public:
  // Throws std::runtime_error in one line when a size, a tensor or the kernels asked for cannot be had.
  Model(ModelConfig config, const ModelFiles& files, const ModelOptions& options);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // Block 0 is the null block. Memory is zero.
  void allocate_kv_cache(int num_blocks);
  // Gives it back, with all that it holds. No step may be under way.
  void free_kv_cache();

  // Starts one step over the first entries of the batch. At most two are launched and not collected; with a
  // backend that is not asynchronous the step is done when this returns.
  void launch(int num_tokens, int num_seqs, int num_logits_rows, int num_hidden_rows = 0);
  // The same in two: the layers, which need nothing of the logits rows, and what is made of their results.
  // What was launched before may be collected in between.
  void forward(int num_tokens, int num_seqs);
  void sample(int num_logits_rows, int num_hidden_rows = 0);
  // Waits until the results of the oldest launched step are in the batch.
  void collect();
  bool is_async() const { return backend_->is_async(); }

  // pairs: [num_pairs, 2] from, to.
  void copy_blocks(const int32_t* pairs, int num_pairs);

  // Raw logits of the last step's row, [vocab_size]. Needs options.keep_logits.
  std::vector<float> logits(int row) const;

  // From now on a step keeps the inputs of one layer's matrices readable; -1 stops that. For quantisation.
  void capture(int layer);
  // [num_tokens of the last step, inputs of the matrix]
  const std::vector<float>& captured(Projection projection) const;

  // Between steps only. See adapters.h.
  Adapters& adapters() { return adapters_; }
  Arena& arena() { return arena_; }
  const ModelConfig& config() const { return config_; }
  const char* description() const { return backend_->description(); }
  PackedCacheReport packed_cache() const { return backend_->packed_cache(); }
  std::shared_ptr<ThreadPool> pool() const { return backend_->pool(); }
  int64_t weight_bytes() const { return weights_.bytes(); }
  int64_t kv_bytes_per_block() const;
  int64_t workspace_bytes() const;
  int64_t total_bytes() const { return static_cast<int64_t>(backend_->total_bytes()); }
  int64_t free_bytes() const { return static_cast<int64_t>(backend_->free_bytes()); }

 private:
  // A step of num_tokens tokens of nothing in num_seqs sequences, which writes nothing.
  void run_empty_step(int num_tokens, int num_seqs);
  // The largest step, over the smallest cache: what the first use of anything takes is taken then.
  void warm_up();
  void attach_kv_cache(int num_blocks);
  DType kv_dtype() const;
  // What a matmul reads: `values`, or the same in 8 bits where nothing but integer matmuls reads it.
  struct Inputs {
    const void* values;
    const RoundedRows* rounded = nullptr;
  };

  void begin_forward(int num_tokens, int num_seqs);
  void run_forward();
  void begin_sampling(int num_logits_rows, int num_hidden_rows);
  void run_sampling();
  void forward_layers(const StepShape& shape);
  void forward_layer(int layer, const StepShape& shape);
  void attention_block(int layer, const StepShape& shape);
  void mlp_block(int layer, int num_tokens);
  // The residual stream and what is added to it, normalised: to hidden_, or to `rounded`.
  Inputs add_and_normalise(const Tensor& weight, const void* added, const RoundedRows* rounded,
                           int num_tokens);
  void normalise_hidden(const Tensor& weight, int num_tokens);
  // Where the inputs of these matrices can go in 8 bits; null when one of them reads floats. Those that are
  // empty do not count. There is room for one at a time.
  const RoundedRows* rounded_for(std::initializer_list<const Tensor*> readers, int num_rows);
  // The same for matrices of a layer, which adapters and `capture` read beside them, as floats.
  const RoundedRows* rounded_for(int layer, std::initializer_list<const Tensor*> readers, int num_tokens);
  void matmul(void* out, int64_t out_stride, const Inputs& x, const Tensor& weight, const Tensor& bias,
              int num_tokens, bool is_f32_out = false);
  const Tensor& weight_of(int layer, Projection projection) const;
  // Several with the same inputs, whose outputs lie side by side: by the joined matrix where there is one.
  void project_side_by_side(void* out, int64_t out_stride, const Inputs& x, int layer, const Tensor& joined,
                            const Tensor& bias, std::initializer_list<Projection> parts, int num_tokens);
  // What the adapters of the rows add to a projection.
  void adapt(void* out, int64_t out_stride, const void* x, int layer, Projection projection, int num_tokens);
  // matmul, and what the adapters of the rows add to it.
  void project(void* out, int64_t out_stride, const Inputs& x, int layer, Projection projection,
               int num_tokens);
  // From a slot per sequence to a slot per row; whether any has one.
  bool spread_adapter_slots(int num_seqs);
  // What the host knows of the step's sequences.
  StepShape describe(int num_tokens, int num_seqs) const;
  void sample_rows(int num_logits_rows);
  void give_hidden_states(const StepShape& shape);
  void check_tokens(int num_tokens, int num_seqs) const;
  void check_rows(int num_tokens, int num_seqs, int num_logits_rows, int num_hidden_rows) const;
#if defined(NATIVE_CHECKS)
  BatchBounds bounds() const;  // of the step under way
#endif

  const std::unique_ptr<Backend> backend_;
  const Ops& ops_;
  Executor& executor_;
  const int norm_size_;       // of a head, before the backend pads it
  const ModelConfig config_;  // head_size as the backend pads it
  const ModelOptions options_;
  Weights weights_;
  Arena arena_;
  Adapters adapters_;
  Moe moe_;
  const Batch* batch_ = nullptr;  // of the step under way, as the ops can read it
  StepShape asked_;               // what it was asked for
  StepShape shape_;               // what the backend makes of that
  bool must_sample_ = false;      // its layers have been begun, and its rows not yet

  int num_blocks_ = 0;
  BackendMemory kv_memory_;
  std::vector<KvCache> kv_caches_;  // [num_layers]

  // Work buffers for max_num_batched_tokens rows; activations but where f32 stands.
  BackendMemory residual_;    // [T, H] f32
  BackendMemory hidden_;      // [T, H]
  BackendMemory qkv_;         // [T, (Hq + 2 Hkv) D]
  BackendMemory attention_;   // [T, Hq D]
  BackendMemory gate_up_;     // [T, 2 I]
  BackendMemory activated_;   // [T, I]
  BackendMemory rounded_;     // the inputs of the next matmuls in 8 bits, with a backend that rounds
  BackendMemory rope_table_;  // [T, 2 num_freqs] f32
  BackendMemory inv_freq_;    // [num_freqs] f32
  // Rows of residual_ and hidden_ whose logits are wanted, max_logits_rows of them.
  BackendMemory gathered_residual_;  // f32
  BackendMemory gathered_hidden_;
  BackendMemory logits_;           // [max_logits_rows, V], or [T, V] with keep_logits; f32
  BackendMemory scratch_;          // of sample
  RoundedRows rounded_rows_ = {};  // what rounded_ holds
  bool uses_adapters_ = false;     // in this step
  int num_launched_ = 0;           // steps, not collected yet
  int num_logits_rows_ = 0;        // of the last step
  int capture_layer_ = -1;
  std::vector<float> captured_[kNumProjections];
};

}  // namespace quire
