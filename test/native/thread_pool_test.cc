// ThreadPool: every piece once, by one thread at a time, whatever the number of threads and cores is.

#include "thread_pool.h"

#include <chrono>
#include <stdexcept>
#include <string>

#include "thread_pool_cases.h"

namespace quire::test {

namespace {

// Loops of a few pieces, one right after the other: workers come late to most of them. A loop's numbers live
// on the stack, so a piece that ran after its loop would be seen (by a sanitizer at the latest).
void test_many_loops(Run& run, int num_threads) {
  ThreadPool pool(num_threads);
  bool all_once = true, threads_fit = true;
  for (int loop = 0; loop < 3000; loop++) {
    const int num_pieces = run.below(3 * num_threads + 1);
    std::vector<int> times(num_pieces, 0);
    std::vector<int> threads(num_pieces, 0);
    pool.parallel_for(num_pieces, [&](int64_t piece, int thread) {
      times[piece]++;
      threads[piece] = thread;
    });
    for (int piece = 0; piece < num_pieces; piece++) {
      all_once = all_once && times[piece] == 1;
      threads_fit = threads_fit && threads[piece] >= 0 && threads[piece] < pool.num_threads();
    }
  }
  run.check(all_once, "every piece runs once before the loop is over");
  run.check(threads_fit, "threads are numbered from 0");
}

// Of its own share a thread takes the next piece, of others' the last one that is left.
void test_shares(Run& run, int num_threads) {
  ThreadPool pool(num_threads);
  constexpr int64_t kPieces = 1000;
  std::vector<std::vector<int64_t>> taken(num_threads);
  pool.parallel_for(kPieces, [&](int64_t piece, int thread) { taken[thread].push_back(piece); });
  bool in_order = true;
  const auto owner = [&](int64_t piece) {
    int share = 0;
    while (piece >= kPieces * (share + 1) / num_threads) share++;
    return share;
  };
  for (int thread = 0; thread < num_threads; thread++) {
    std::vector<int64_t> last(num_threads, -1);
    for (int64_t piece : taken[thread]) {
      int64_t& before = last[owner(piece)];
      const bool is_own = owner(piece) == thread;
      in_order = in_order && (before < 0 || (is_own ? piece == before + 1 : piece < before));
      before = piece;
    }
  }
  run.check(in_order, "a thread goes through its share from the front and through others' from the end");
}

// A thread that is stuck holds up the piece it has and nothing else.
void test_stuck_thread(Run& run, int num_threads) {
  ThreadPool pool(num_threads);
  std::atomic<int> count{0};
  pool.parallel_for(100, [&](int64_t piece, int) {
    while (piece == 0 && count < 99) std::this_thread::yield();
    count++;
  });
  run.check(count == 100, "others take the rest of its share");
}

// What a thread keeps for itself is never shared by two pieces at once.
void test_thread_memory(Run& run, int num_threads) {
  ThreadPool pool(num_threads);
  std::vector<int64_t> sums(num_threads, 0);
  constexpr int64_t kPieces = 20000;
  pool.parallel_for(kPieces, [&](int64_t piece, int thread) { sums[thread] += piece; });
  int64_t total = 0;
  for (int64_t sum : sums) total += sum;
  run.check(total == kPieces * (kPieces - 1) / 2, "sums kept by thread are whole");
}

void test_exceptions(Run& run, int num_threads) {
  ThreadPool pool(num_threads);
  for (int64_t num_pieces : {1, 2, 50}) {
    std::string message;
    try {
      pool.parallel_for(num_pieces, [&](int64_t piece, int) {
        if (piece == num_pieces - 1) throw std::runtime_error("the last piece");
      });
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    run.check(message == "the last piece", "an exception reaches the caller");
    std::atomic<int64_t> count{0};
    pool.parallel_for(num_pieces, [&](int64_t, int) { count++; });
    run.check(count == num_pieces, "the next loop runs as ever");
  }
}

// Long enough asleep that every worker has gone to sleep too.
void test_sleep(Run& run) {
  ThreadPool pool(4);
  for (int loop = 0; loop < 20; loop++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> count{0};
    pool.parallel_for(8, [&](int64_t piece, int) {
      if (piece == 7) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      count++;
    });
    run.check(count == 8, "sleepers are woken, and a late piece is waited for");
  }
}

void test_affinity(Run& run) {
  std::string message;
  // On a thread of its own: whoever makes the pool is pinned with it.
  std::thread([&] {
    try {
      ThreadPool pool(2, {0, 1023});
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
  }).join();
  run.check(message == "this process may not use core 1023", "a core that is not there is named");
}

}  // namespace

void test_thread_pool(Run& run, const Ops&) {
  for (int num_threads : {1, 2, 3, 16}) {
    test_many_loops(run, num_threads);
    test_thread_memory(run, num_threads);
    test_exceptions(run, num_threads);
    test_shares(run, num_threads);
    if (num_threads > 1) test_stuck_thread(run, num_threads);
  }
  test_sleep(run);
  test_affinity(run);
}

}  // namespace quire::test
