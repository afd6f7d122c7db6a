// Where a model runs: the ops, what they run on, and the memory they work in. native/cpu and native/cuda each
// have one.
#pragma once

#include <cstddef>
#include <memory>

#include "arena.h"
#include "model_config.h"
#include "ops.h"

namespace quire {

struct StepCounts {
  int num_tokens;
  int num_seqs;
  int num_logits_rows;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // E.g. "cpu avx512".
  virtual const char* description() const = 0;
  virtual const Ops& ops() const = 0;
  virtual Executor& executor() = 0;

  // Rows whose logits exist at the same time: bounds memory when a whole prompt's log-probabilities are
  // wanted.
  virtual int max_logits_rows() const = 0;
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

  // A weight of the host as the ops want it. What it points to is the host's own memory, or lives until the
  // backend ends.
  virtual Tensor place(const Tensor& host) = 0;

  // The batch as the ops of this step can read it.
  virtual const Batch& begin_step(Arena& arena, const BatchSizes& sizes, const StepCounts& counts) = 0;
  // Waits until the results are in the arena.
  virtual void end_step(Arena& arena, const BatchSizes& sizes, const StepCounts& counts) = 0;
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
