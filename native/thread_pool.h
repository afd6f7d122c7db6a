// A fixed set of threads that share the pieces of one loop, and the memory ops work in. The caller works as
// one of them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "ops.h"

namespace quire {

class ThreadPool : public Executor {
 public:
  // num_threads >= 1 counts the caller; num_threads - 1 threads are started.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Memory for what an op keeps between its loops; what it held before is lost. Grows when `bytes` is more
  // than ever before, which a reserved pool never sees.
  char* workspace(size_t bytes) {
    if (bytes > workspace_bytes_) reserve_workspace(bytes);
    return workspace_.get();
  }
  void reserve_workspace(size_t bytes);

  // Calls body(piece, thread) once for every piece in [0, num_pieces), thread in [0, num_threads()). Pieces
  // are handed out by a counter, so that a descheduled thread delays the piece it holds and not the loop.
  // Returns when all are done; rethrows the first exception of a piece. One loop at a time, from one thread.
  template <typename Body>
  void parallel_for(int64_t num_pieces, const Body& body) {
    run(
        num_pieces,
        [](const void* b, int64_t piece, int thread) { (*static_cast<const Body*>(b))(piece, thread); },
        &body);
  }

 private:
  using Call = void (*)(const void* body, int64_t piece, int thread);

  void run(int64_t num_pieces, Call call, const void* body);
  void work(int thread);
  void worker_loop(int thread);
  uint64_t wait_for_loop(uint64_t seen);

  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  std::unique_ptr<char[], Free> workspace_;
  size_t workspace_bytes_ = 0;

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  // Number of the newest loop; a worker that has seen it sleeps until the next.
  std::atomic<uint64_t> loop_{0};
  std::atomic<int> num_busy_{0};
  std::atomic<bool> stopping_{false};

  // The loop under way. Written before loop_ moves on, read by workers after they saw it move.
  Call call_ = nullptr;
  const void* body_ = nullptr;
  int64_t num_pieces_ = 0;
  std::atomic<int64_t> next_piece_{0};
  std::exception_ptr error_;
};

namespace internal {
template <auto kOp>
struct OnThreads;
template <typename Args, void (*kOp)(const Args&, ThreadPool&)>
struct OnThreads<kOp> {
  static void run(const Args& args, Executor& executor) { kOp(args, static_cast<ThreadPool&>(executor)); }
};
}  // namespace internal

// An op of the CPU, as the table wants it.
template <auto kOp>
constexpr auto on_threads = &internal::OnThreads<kOp>::run;

}  // namespace quire
