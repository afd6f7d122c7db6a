// Where a model runs: the ops, what they run on, and the memory they work in. native/cpu and native/cuda each
// have one.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "arena.h"
#include "model_config.h"
#include "ops.h"

namespace quire {

// One step: what the batch holds, and what the host knows of its sequences.
struct StepShape {
  int num_tokens = 0;
  int num_seqs = 0;
  int num_logits_rows = 0;
  int num_decodes = 0;  // sequences at the front with one query each
  int max_queries = 0;  // of one sequence
  int max_context_len = 0;
  bool uses_adapters = false;
  int num_hidden_rows = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // E.g. "cpu avx512".
  virtual const char* description() const = 0;
  virtual const Ops& ops() const = 0;
  virtual Executor& executor() = 0;
  // The threads, for ModelOptions::pool of another model; null where no threads compute.
  virtual std::shared_ptr<ThreadPool> pool() const { return nullptr; }

  // Rows whose logits exist at the same time: bounds memory when a whole prompt's log-probabilities are
  // wanted.
  virtual int max_logits_rows() const = 0;
  // Rows that a matmul of `rows` rows may read and write.
  virtual int padded_rows(int rows) const = 0;
  // Floats of SampleArgs::scratch.
  virtual size_t sample_scratch(int vocab_size) const = 0;
  // What the heads are padded to with zeros; head_size itself where nothing is. Throws when there is no
  // kernel.
  virtual int padded_head_size(int head_size) const = 0;
  // Once, before the first step: what the ops need beside their arguments.
  virtual void prepare(const ModelConfig& config, const ModelOptions& options) = 0;

  // Memory that the ops can reach, zero at first. Throws when there is none.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* memory, size_t bytes) = 0;
  // Both wait until it is done.
  virtual void upload(void* to, const void* from, size_t bytes) = 0;
  virtual void download(void* to, const void* from, size_t bytes) = 0;

  // The device's memory and what is left of it; 0 where it is the host's own, which the engine knows better.
  virtual size_t total_bytes() const = 0;
  virtual size_t free_bytes() const = 0;

  // Whether matrices of this form with the same inputs are better multiplied as one.
  virtual bool joins(DType form) const = 0;
  // Whether activations become 8 bits on their way into a matmul with integer weights.
  virtual bool has_int8_activations() const { return false; }
  // Whether the ops multiply by a matrix of this size in kF8.
  virtual bool has_f8_matmul(int64_t, int64_t) const { return false; }
  // A weight of the host as the ops want it. What it points to is the host's own memory, or lives until the
  // backend ends.
  virtual Tensor place(const Tensor& host) = 0;
  // The same for a matrix whose rows are looked up and that is multiplied by nothing.
  virtual Tensor place_rows(const Tensor& host) { return place(host); }
  // The same for a matrix of plain numbers that is to be rounded to 8 or 6 bits (integer_rounding.h). Throws
  // where the ops have no such weights.
  virtual Tensor place_rounded(const Tensor& host, int bits) = 0;

  // Whether integer weights become tiles (weight_tiles.h). Then a matrix may come in kAwq, and those with the
  // same inputs come to place_stacked, one under the other; each but the last has whole tiles.
  virtual bool packs_tiles() const { return false; }
  virtual Tensor place_stacked(const std::vector<Tensor>&, int /* rounded_bits, 0: integers */) { return {}; }
  // What became of ModelOptions::packed_cache; after prepare.
  virtual PackedCacheReport packed_cache() const { return {}; }

  // Steps are done later than they are launched: two may be under way, and the second may be told to take
  // tokens of the first (Batch::token_ids).
  virtual bool is_async() const = 0;
  // The batch as the ops of this step can read it, once begin_sampling has brought what concerns its rows
  // too. Both may round the shape up to that of a step that is recorded, with tokens and rows that stand for
  // nothing. What they bring of the arena may be written again when they return.
  virtual const Batch& begin_forward(Arena& arena, const BatchSizes& sizes, StepShape& shape) = 0;
  virtual void begin_sampling(Arena& arena, const BatchSizes& sizes, StepShape& shape) = 0;
  // Call the ops of a step of this shape by `call`, or replay what it called when the shape was last run.
  virtual void run_forward(const StepShape& shape, const std::function<void()>& call) = 0;
  virtual void run_sampling(const StepShape& shape, const std::function<void()>& call) = 0;
  // Sizes of the steps of decodes alone that are recorded.
  virtual std::vector<int> recorded_sizes() const = 0;
  // What they point to goes.
  virtual void forget_recordings() = 0;
  virtual void end_step(const BatchSizes& sizes, const StepShape& shape) = 0;
  // Waits for the oldest step that has ended; its results are in the arena then.
  virtual void collect(Arena& arena, const BatchSizes& sizes) = 0;
};

// Throw in one line when what the options ask for cannot be had here.
std::unique_ptr<Backend> open_cpu_backend(const ModelOptions& options);
std::unique_ptr<Backend> open_cuda_backend(const ModelOptions& options);

// Memory of a backend, given back in the end.
class BackendMemory {
 public:
  BackendMemory() = default;
  BackendMemory(Backend& backend, size_t bytes)
      : backend_(&backend), bytes_(bytes), memory_(backend.allocate(bytes)) {}
  ~BackendMemory() { clear(); }
  BackendMemory(BackendMemory&& other) noexcept { *this = static_cast<BackendMemory&&>(other); }
  BackendMemory& operator=(BackendMemory&& other) noexcept {
    clear();
    backend_ = other.backend_;
    bytes_ = other.bytes_;
    memory_ = other.memory_;
    other.memory_ = nullptr;
    return *this;
  }
  void* get() const { return memory_; }
  size_t bytes() const { return bytes_; }
  void clear() {
    if (memory_ != nullptr) backend_->release(memory_, bytes_);
    memory_ = nullptr;
  }

 private:
  Backend* backend_ = nullptr;
  size_t bytes_ = 0;
  void* memory_ = nullptr;
};

}  // namespace quire
