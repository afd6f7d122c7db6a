// A step's inputs on their way to the device, and its results on their way back. Two steps may be under way,
// so that there are two copies of the arena in page-locked memory, used in turn: copies run beside the host,
// which fills the arena for the next step meanwhile.
#pragma once

#include <vector>

#include "backend.h"
#include "cuda/stream.h"

namespace quire::cuda {

class StepBuffers {
 public:
  explicit StepBuffers(Stream& stream) : stream_(stream) {}
  ~StepBuffers();
  StepBuffers(const StepBuffers&) = delete;

  // Bring the arena's inputs over: those of tokens and sequences, then those of rows. A shape that is larger
  // than what was asked is filled up with tokens that are written nowhere, each a sequence of its own, and
  // with greedy rows.
  const Batch& upload_tokens(const Arena& arena, const BatchSizes& sizes, const StepShape& asked,
                             const StepShape& run);
  void upload_rows(const Arena& arena, const BatchSizes& sizes, const StepShape& asked, const StepShape& run);
  // As the device sees it.
  const Batch& batch() const { return batch_; }
  // The step takes tokens that the step before samples.
  bool has_pending() const { return has_pending_; }
  // How often the device's arrays have moved.
  int generation() const { return generation_; }

  void download(const BatchSizes& sizes, const StepShape& shape);
  // Waits for the oldest download; its results are in the arena then.
  void collect(Arena& arena);

 private:
  struct Slot {
    char* memory = nullptr;
    int32_t* counts = nullptr;
    Batch batch{};
    int num_rows = 0;
    int64_t num_top = 0;
    int64_t num_hidden = 0;
  };

  void open(const Arena& arena);
  void reserve_counts(const Arena& arena);
  void copy_tokens(const Batch& from, const Batch& to, const StepShape& shape);
  void copy_rows(const Batch& from, const Batch& to, const StepShape& shape);
  void copy_lists(const Batch& from, const Batch& to, const BatchSizes& sizes, int num_rows);
  void copy_block_table(const Batch& from, const Batch& to, const BatchSizes& sizes, const StepShape& shape);

  Stream& stream_;
  char* device_ = nullptr;
  int32_t* device_counts_ = nullptr;
  int64_t counts_capacity_ = 0;
  Batch batch_{};  // of the device
  Slot slots_[2];
  int uploading_ = 0, collecting_ = 0;  // slot of the next
  bool has_pending_ = false;
  int generation_ = 0;
};

// Put the tokens that the step before has sampled in the place of the numbers that stand for them.
void feed_back_tokens(const Batch& batch, int num_tokens, Stream& stream);
void feed_back_counts(const Batch& batch, int num_logits_rows, Stream& stream);

}  // namespace quire::cuda
