// A GPU's queue of work, and its memory: everything on one stream, nothing synchronises but synchronise().
// Implemented over the CUDA runtime (stream.cu), and over the emulator (simt/stream.cc), where nothing is
// done before it is waited for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "ops.h"

namespace quire::cuda {

class Stream : public Executor {
 public:
  // Takes device `device` for the calling thread. Throws std::runtime_error naming what the driver said.
  explicit Stream(int device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void* handle() const { return handle_; }
  int num_multiprocessors() const { return num_multiprocessors_; }

  // Throws when there is none. Releasing waits for all work.
  void* allocate(size_t bytes);
  void release(void* memory);
  // Page-locked memory of the host: copies from and to it run beside the host, which must leave it alone
  // until they are done.
  void* allocate_host(size_t bytes);
  void release_host(void* memory);

  void upload(void* to, const void* from, size_t bytes);
  // rows of `bytes` bytes, `pitch` apart on both sides.
  void upload_rows(void* to, const void* from, size_t bytes, size_t pitch, size_t rows);
  void download(void* to, const void* from, size_t bytes);
  void clear(void* memory, size_t bytes);
  // Waits for everything before. Throws what went wrong in any of it: a kernel's error is heard of only here,
  // so that the message names the newest launch, how far the host had come.
  void synchronise();

  // Two marks in the queue, to wait for what lies before one and not for what comes after.
  void mark(int which);
  void wait(int which);

  // Between begin and end nothing is done: the launches are recorded, to be replayed as one (CUDA graphs).
  // Their arguments are those of the recording.
  void begin_recording();
  std::shared_ptr<void> end_recording();
  void replay(const std::shared_ptr<void>& recording);

  // Emulator only: puts work into the queue.
  void enqueue(std::function<void()> work);

  // Of the launch that is about to be made: blocks in three directions, threads of a block.
  void note_launch(const char* name, unsigned x, unsigned y, unsigned z, int threads);
  // Of the step that the next launches belong to.
  void note_step(int num_tokens, int num_seqs) { step_ = {num_tokens, num_seqs}; }
  std::string last_launch() const;

  size_t free_bytes() const;
  size_t total_bytes() const;

  // kCounters numbers that are zero whenever no kernel runs: for blocks that count each other.
  uint32_t* counters() const { return counters_; }
  static constexpr int kCounters = 1 << 16;

  // Of the GPU, ten times major plus minor: which variants of a kernel it can run. A test may lower it.
  int compute_capability = 0;

  // Every row's arithmetic is the same whatever rows come with it: slower (matmul.cu, attention.cu).
  bool is_batch_invariant = false;

  // The dense matmul's own state; gone before the stream.
  std::shared_ptr<void> blas;

  // Scratch of the ops: grows only between steps, so that a step allocates nothing.
  void reserve_scratch(size_t bytes);
  void* scratch() const { return scratch_; }
  size_t scratch_bytes() const { return scratch_bytes_; }

 private:
  void* handle_ = nullptr;
  struct {
    const char* name = "nothing";
    unsigned x = 0, y = 0, z = 0;
    int threads = 0;
  } last_;
  struct {
    int num_tokens = 0, num_seqs = 0;
  } step_;
  uint32_t* counters_ = nullptr;
  void* scratch_ = nullptr;
  size_t scratch_bytes_ = 0;
  int num_multiprocessors_ = 1;
  void* marks_[2] = {};
  struct Queue;
  std::shared_ptr<Queue> queue_;  // of the emulator
};

}  // namespace quire::cuda
