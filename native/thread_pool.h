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
  // num_threads >= 1 counts the caller; num_threads - 1 threads are started. `cores` pins each, the caller
  // included, to the core of its number; empty leaves them where the system puts them. Throws
  // std::runtime_error for a core that this process may not use.
  explicit ThreadPool(int num_threads, const std::vector<int>& cores = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Memory for what an op keeps between its loops; what it held before is lost. Grows when `bytes` is more
  // than ever before, which a reserved pool never sees.
  char* workspace(size_t bytes) {
    reserve_workspace(bytes);
    return workspace_.get();
  }
  // At least so much from now on.
  void reserve_workspace(size_t bytes);

  // Calls body(piece, thread) once for every piece in [0, num_pieces), thread in [0, num_threads()), in any
  // order. Each thread has a share of neighbouring pieces, which it takes from the front: what it asks the
  // memory for ahead is its own next piece. One that is through with its share takes pieces from the ends of
  // others', so one that is descheduled delays the piece it holds and nothing else. Returns when all pieces
  // are done; rethrows the first exception of a piece. Fewer than 2^32 pieces. One loop at a time, from one
  // thread, and none from inside a piece.
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
  // What this thread can of the loop under way.
  void work(int thread);
  void share_out(int64_t num_pieces);
  // -1: none is left.
  int64_t take_piece(int thread);
  void wait_for_others();
  void worker_loop(int thread);
  // Until there has been another loop than those counted.
  void wait_for_loop(uint64_t num_loops);

  // Pieces that nobody has taken yet: the first in the upper half of the word, the end in the lower one, so
  // that owner and thieves change them at once.
  struct alignas(64) Share {
    std::atomic<uint64_t> pieces{0};

    void set(int64_t first, int64_t end) { pieces.store(static_cast<uint64_t>(first) << 32 | end); }
    int64_t take(bool is_own);
  };

  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  std::unique_ptr<char[], Free> workspace_;
  size_t workspace_bytes_ = 0;

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;  // of workers, when there is a loop
  std::condition_variable done_;  // of the caller, when it is over
  std::atomic<int> num_asleep_{0};
  std::atomic<bool> stopping_{false};

  // The loop under way. The caller writes it while no piece is left to take, so nobody reads it; a thread
  // reads it once it holds a piece, and then the caller waits for that piece. Who took none has seen nothing
  // but the shares and may come late, to this loop or to a later one.
  Call call_ = nullptr;
  const void* body_ = nullptr;
  std::exception_ptr error_;
  std::vector<Share> shares_;  // a thread's own
  alignas(64) std::atomic<uint64_t> num_loops_{0};
  alignas(64) std::atomic<int64_t> num_unfinished_{0};
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
