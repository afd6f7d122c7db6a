#include "thread_pool.h"

#if defined(__linux__)
#include <sched.h>
#endif

#include <chrono>
#include <new>
#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace quire {

namespace {

using Clock = std::chrono::steady_clock;

// Long enough to bridge the gap between two ops of a step, short enough to leave the core to a neighbour.
constexpr std::chrono::microseconds kSpinTime{30};
constexpr std::chrono::microseconds kNapTime{250};

void pause_core() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// True as soon as `is_over`, false when it was not for as long as a thread may spin.
template <typename Condition>
bool spin_until(const Condition& is_over) {
  constexpr int kSpinsPerLook = 16;
  const Clock::time_point end = Clock::now() + kSpinTime;
  do {
    for (int spin = 0; spin < kSpinsPerLook; spin++) {
      if (is_over()) return true;
      pause_core();
    }
  } while (Clock::now() < end);
  return false;
}

bool pin_this_thread(int core) {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  return sched_setaffinity(0, sizeof(set), &set) == 0;
#else
  return false;
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads, const std::vector<int>& cores) : shares_(num_threads) {
  // The caller visits every core and stays on the first, so that a core it may not use is an error here.
  for (auto core = cores.rbegin(); core != cores.rend(); core++) {
    if (pin_this_thread(*core)) continue;
    throw std::runtime_error("this process may not use core " + std::to_string(*core));
  }
  for (int thread = 1; thread < num_threads; thread++) {
    const int core = cores.empty() ? -1 : cores[thread % cores.size()];
    workers_.emplace_back([this, thread, core] {
      if (core >= 0) pin_this_thread(core);
      worker_loop(thread);
    });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::reserve_workspace(size_t bytes) {
  constexpr size_t kLine = 64;
  if (bytes <= workspace_bytes_) return;
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
  call_ = call;
  body_ = body;
  error_ = nullptr;
  num_unfinished_.store(num_pieces, std::memory_order_relaxed);
  share_out(num_pieces);
  // Either this sees the sleeper, or the sleeper sees the pieces before it sleeps: both are in one order.
  if (num_asleep_.load() > 0) {
    { std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
  }
  work(0);
  wait_for_others();
  if (error_) std::rethrow_exception(error_);
}

void ThreadPool::share_out(int64_t num_pieces) {
  const auto num_shares = static_cast<int64_t>(shares_.size());
  for (int64_t i = 0; i < num_shares; i++) {
    shares_[i].set(num_pieces * i / num_shares, num_pieces * (i + 1) / num_shares);
  }
  num_loops_++;
}

// From the front by its owner, from the end by others.
int64_t ThreadPool::Share::take(bool is_own) {
  uint64_t now = pieces.load(std::memory_order_relaxed);
  while (true) {
    const auto first = static_cast<int64_t>(now >> 32), end = static_cast<int64_t>(now & 0xffffffff);
    if (first == end) return -1;
    const uint64_t then = is_own ? now + (uint64_t{1} << 32) : now - 1;
    if (pieces.compare_exchange_weak(now, then, std::memory_order_acquire, std::memory_order_relaxed)) {
      return is_own ? first : end - 1;
    }
  }
}

int64_t ThreadPool::take_piece(int thread) {
  const int num_shares = static_cast<int>(shares_.size());
  for (int i = 0; i < num_shares; i++) {
    const int64_t piece = shares_[(thread + i) % num_shares].take(i == 0);
    if (piece >= 0) return piece;
  }
  return -1;
}

void ThreadPool::work(int thread) {
  int64_t num_done = 0;
  for (int64_t piece = take_piece(thread); piece >= 0; piece = take_piece(thread)) {
    try {
      call_(body_, piece, thread);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    num_done++;
  }
  if (num_done == 0) return;
  if (num_unfinished_.fetch_sub(num_done, std::memory_order_acq_rel) == num_done && thread != 0) {
    // The lock keeps the wake-up from falling between the caller's check and its sleep.
    { std::lock_guard<std::mutex> lock(mutex_); }
    done_.notify_one();
  }
}

void ThreadPool::wait_for_others() {
  const auto is_done = [this] { return num_unfinished_.load(std::memory_order_acquire) == 0; };
  if (spin_until(is_done)) return;
  // Whoever is this late has lost its core. Each time this one falls idle the system may move that thread
  // here, but only when it has been off for a while: so naps and no long sleep.
  std::unique_lock<std::mutex> lock(mutex_);
  while (!done_.wait_for(lock, kNapTime, is_done)) continue;
}

void ThreadPool::wait_for_loop(uint64_t num_loops) {
  const auto is_wanted = [=] { return num_loops_.load() != num_loops || stopping_; };
  if (spin_until(is_wanted)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  num_asleep_++;
  wake_.wait(lock, is_wanted);
  num_asleep_--;
}

void ThreadPool::worker_loop(int thread) {
  uint64_t num_loops = 0;
  while (!stopping_) {
    wait_for_loop(num_loops);
    num_loops = num_loops_.load();
    work(thread);
  }
}

}  // namespace quire
