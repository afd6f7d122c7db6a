#include "thread_pool.h"

#include <new>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace quire {

namespace {

// Long enough to bridge the gap between two ops of a step, short enough to leave the core to a neighbour.
constexpr int kSpins = 2000;

void pause_core() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  for (int thread = 1; thread < num_threads; thread++) {
    workers_.emplace_back([this, thread] { worker_loop(thread); });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    loop_++;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::reserve_workspace(size_t bytes) {
  constexpr size_t kLine = 64;
  workspace_bytes_ = (bytes + kLine - 1) / kLine * kLine;
  workspace_.reset(static_cast<char*>(std::aligned_alloc(kLine, workspace_bytes_)));
  if (workspace_ == nullptr) throw std::bad_alloc();
}

void ThreadPool::run(int64_t num_pieces, Call call, const void* body) {
  if (num_pieces <= 0) return;
  if (workers_.empty() || num_pieces == 1) {
    for (int64_t piece = 0; piece < num_pieces; piece++) call(body, piece, 0);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    call_ = call;
    body_ = body;
    num_pieces_ = num_pieces;
    next_piece_.store(0, std::memory_order_relaxed);
    error_ = nullptr;
    num_busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    loop_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  work(0);
  for (int spin = 0; spin < kSpins && num_busy_.load(std::memory_order_acquire) > 0; spin++) pause_core();
  if (num_busy_.load(std::memory_order_acquire) > 0) {
    std::unique_lock<std::mutex> lock(mutex_);
    idle_.wait(lock, [this] { return num_busy_.load(std::memory_order_acquire) == 0; });
  }
  if (error_) std::rethrow_exception(error_);
}

void ThreadPool::work(int thread) {
  for (;;) {
    const int64_t piece = next_piece_.fetch_add(1, std::memory_order_relaxed);
    if (piece >= num_pieces_) return;
    try {
      call_(body_, piece, thread);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }
}

uint64_t ThreadPool::wait_for_loop(uint64_t seen) {
  for (int spin = 0; spin < kSpins; spin++) {
    const uint64_t loop = loop_.load(std::memory_order_acquire);
    if (loop != seen) return loop;
    pause_core();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  wake_.wait(lock, [this, seen] { return loop_.load(std::memory_order_acquire) != seen; });
  return loop_.load(std::memory_order_acquire);
}

void ThreadPool::worker_loop(int thread) {
  uint64_t seen = 0;
  for (;;) {
    seen = wait_for_loop(seen);
    if (stopping_) return;
    work(thread);
    // The last to finish wakes the caller; the lock keeps the wake-up from falling between its check and its
    // sleep.
    if (num_busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      std::lock_guard<std::mutex> lock(mutex_);
      idle_.notify_one();
    }
  }
}

}  // namespace quire
