// The GPU's memory and queue, as the emulator has them: every call is done when it returns.
#include "cuda/stream.h"

#include <cstring>

#include "simt/simt.h"

namespace quire::cuda {

Stream::Stream(int) : counters_(static_cast<uint32_t*>(simt::allocate(kCounters * sizeof(uint32_t)))) {
  clear(counters_, kCounters * sizeof(uint32_t));
}
Stream::~Stream() {
  simt::release(counters_);
  simt::release(scratch_);
}

void* Stream::allocate(size_t bytes) { return simt::allocate(bytes); }
void Stream::release(void* memory) { simt::release(memory); }

void Stream::upload(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
void Stream::upload_rows(void* to, const void* from, size_t bytes, size_t pitch, size_t rows) {
  for (size_t i = 0; i < rows; i++) {
    std::memcpy(static_cast<char*>(to) + i * pitch, static_cast<const char*>(from) + i * pitch, bytes);
  }
}
void Stream::download(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
void Stream::clear(void* memory, size_t bytes) { std::memset(memory, 0, bytes); }
void Stream::synchronise() {}
size_t Stream::free_bytes() const { return size_t{1} << 30; }
size_t Stream::total_bytes() const { return size_t{1} << 30; }

void Stream::reserve_scratch(size_t bytes) {
  if (bytes <= scratch_bytes_) return;
  simt::release(scratch_);
  scratch_ = simt::allocate(bytes);
  scratch_bytes_ = bytes;
}

}  // namespace quire::cuda
