// The GPU's memory and queue, as the emulator has them: nothing is done before it is waited for, so that what
// touches memory too early or too late shows.
#include "cuda/stream.h"

#include <cstring>
#include <deque>
#include <utility>
#include <vector>

#include "simt/simt.h"

namespace quire::cuda {

using Work = std::function<void()>;

struct Stream::Queue {
  std::deque<Work> work;
  size_t num_done = 0;
  size_t marks[2] = {};  // work that lies before each
  std::unique_ptr<std::vector<Work>> recording;

  void run_until(size_t count) {
    if (recording != nullptr) simt::fault("the host waits in the middle of a recording");
    while (num_done < count) {
      const Work next = std::move(work.front());
      work.pop_front();
      num_done++;
      try {
        next();
      } catch (...) {
        // After an error nothing that was queued is done, as on a GPU.
        num_done += work.size();
        work.clear();
        throw;
      }
    }
  }
};

Stream::Stream(int)
    : counters_(static_cast<uint32_t*>(simt::allocate(kCounters * sizeof(uint32_t)))),
      queue_(std::make_shared<Queue>()) {
  compute_capability = 90;
  clear(counters_, kCounters * sizeof(uint32_t));
}

Stream::~Stream() {
  simt::release(counters_);
  simt::release(scratch_);
}

void Stream::enqueue(Work work) {
  if (queue_->recording != nullptr) {
    queue_->recording->push_back(std::move(work));
  } else {
    queue_->work.push_back(std::move(work));
  }
}

void Stream::synchronise() { queue_->run_until(queue_->num_done + queue_->work.size()); }
void Stream::mark(int which) { queue_->marks[which] = queue_->num_done + queue_->work.size(); }
void Stream::wait(int which) { queue_->run_until(queue_->marks[which]); }

void Stream::begin_recording() { queue_->recording = std::make_unique<std::vector<Work>>(); }

std::shared_ptr<void> Stream::end_recording() {
  return std::shared_ptr<std::vector<Work>>(std::move(queue_->recording));
}

void Stream::replay(const std::shared_ptr<void>& recording) {
  for (const Work& work : *static_cast<std::vector<Work>*>(recording.get())) enqueue(work);
}

void* Stream::allocate(size_t bytes) { return simt::allocate(bytes); }

void Stream::release(void* memory) {
  if (memory == nullptr) return;
  synchronise();
  simt::release(memory);
}

void* Stream::allocate_host(size_t bytes) { return simt::allocate(bytes); }
void Stream::release_host(void* memory) { release(memory); }

void Stream::upload(void* to, const void* from, size_t bytes) {
  enqueue([=] { std::memcpy(to, from, bytes); });
}

void Stream::upload_rows(void* to, const void* from, size_t bytes, size_t pitch, size_t rows) {
  enqueue([=] {
    for (size_t i = 0; i < rows; i++) {
      std::memcpy(static_cast<char*>(to) + i * pitch, static_cast<const char*>(from) + i * pitch, bytes);
    }
  });
}

void Stream::download(void* to, const void* from, size_t bytes) { upload(to, from, bytes); }

void Stream::clear(void* memory, size_t bytes) {
  enqueue([=] { std::memset(memory, 0, bytes); });
}

size_t Stream::free_bytes() const { return size_t{1} << 30; }
size_t Stream::total_bytes() const { return size_t{1} << 30; }

void Stream::reserve_scratch(size_t bytes) {
  if (bytes <= scratch_bytes_) return;
  release(scratch_);
  scratch_ = simt::allocate(bytes);
  scratch_bytes_ = bytes;
}

}  // namespace quire::cuda
