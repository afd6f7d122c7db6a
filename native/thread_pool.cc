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

ThreadPool::ThreadPool(int num_threads, const std::vector<int>& cores) {
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
  num_pieces_ = num_pieces;
  error_ = nullptr;
  num_unfinished_.store(num_pieces, std::memory_order_relaxed);
  num_untaken_.store(num_pieces);
  // Either this sees the sleeper, or the sleeper sees the pieces before it sleeps: both are in one order.
  if (num_asleep_.load() > 0) {
    { std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
  }
  work(0);
  wait_for_others();
  if (error_) std::rethrow_exception(error_);
}

int64_t ThreadPool::take_piece() {
  int64_t left = num_untaken_.load(std::memory_order_relaxed);
  while (left > 0) {
    if (num_untaken_.compare_exchange_weak(left, left - 1, std::memory_order_acquire,
                                           std::memory_order_relaxed)) {
      return num_pieces_ - left;
    }
  }
  return -1;
}

void ThreadPool::work(int thread) {
  int64_t num_done = 0;
  for (int64_t piece = take_piece(); piece >= 0; piece = take_piece()) {
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

void ThreadPool::wait_for_loop() {
  const auto is_wanted = [this] { return num_untaken_.load() > 0 || stopping_; };
  if (spin_until(is_wanted)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  num_asleep_++;
  wake_.wait(lock, is_wanted);
  num_asleep_--;
}

void ThreadPool::worker_loop(int thread) {
  while (!stopping_) {
    wait_for_loop();
    work(thread);
  }
}

}  // namespace quire
