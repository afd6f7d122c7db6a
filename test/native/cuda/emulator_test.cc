// The canaries of the emulator: kernels that are wrong must be caught, each for its own reason.

#include <cstring>
#include <string>

#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda_cases.h"
#include "device_buffer.h"

#if !defined(__CUDACC__)

namespace quire::test {

namespace {

using cuda::block_sync;
using cuda::shared_at;

void reads_unwritten_shared(int*) {
  if (threadIdx.x == 0) shared_at<int>(0).store(0, 1);
  block_sync();
  shared_at<int>(0).load(1);
}
void reads_before_the_barrier(int*) {
  // Some order of the warps reads first.
  if (threadIdx.x / 32 == 0) shared_at<int>(0).store(static_cast<int>(threadIdx.x), 1);
  if (threadIdx.x / 32 == 1) shared_at<int>(0).load(static_cast<int>(threadIdx.x) - 32);
}
void writes_outside_shared(int*) { shared_at<int>(0).store(1 << 20, 1); }
void reads_shared_unaligned(int*) {
  shared_at<float>(0).store(static_cast<int>(threadIdx.x), 1);
  block_sync();
  shared_at<float>(0).load_as<cuda::Words4>(1);
}
void diverges_at_a_barrier(int*) {
  if (threadIdx.x < 7) block_sync();
}
void diverges_in_a_warp(int*) {
  if (threadIdx.x % 2 == 0) cuda::ballot(true);
}
void writes_outside_memory(int* out) { out[1 << 20] = 1; }
void writes_past_the_end(int* out) { out[8] = 1; }
void reads_a_copy_too_early(int* out) {
  cuda::copy_async(shared_at<int>(0), static_cast<int>(threadIdx.x) * 4, out, true);
  cuda::copy_async_commit();
  shared_at<int>(0).load(static_cast<int>(threadIdx.x) * 4);
}
void copies_from_an_unaligned_address(int* out) { cuda::copy_async(shared_at<int>(0), 0, out + 1, true); }

void is_right(int* out) {
  const cuda::Shared<int> shared = shared_at<int>(0);
  shared.store(static_cast<int>(threadIdx.x), static_cast<int>(threadIdx.x));
  block_sync();
  if (threadIdx.x < 8) out[threadIdx.x] = shared.load(63 - static_cast<int>(threadIdx.x));
}

}  // namespace

void test_emulator(Run& run, cuda::Stream& stream) {
  const struct {
    const char* name;
    void (*kernel)(int*);
    const char* message;
  } canaries[] = {
      {"reads_unwritten_shared", reads_unwritten_shared,
       "shared memory is read at byte 4 before it is written"},
      {"reads_before_the_barrier", reads_before_the_barrier, "before it is written"},
      {"writes_outside_shared", writes_outside_shared,
       "write of shared memory at byte 4194304, the block has 1024"},
      {"reads_shared_unaligned", reads_shared_unaligned, "is not aligned to 16"},
      {"diverges_at_a_barrier", diverges_at_a_barrier,
       "7 threads wait at a barrier, 0 for their warp (), 0 for a phase, 57 have ended"},
      {"diverges_in_a_warp", diverges_in_a_warp, "32 for their warp (ballot), 0 for a phase, 32 have ended"},
      {"writes_outside_memory", writes_outside_memory, "device memory is accessed outside its allocations"},
      {"writes_past_the_end", writes_past_the_end, "device memory is accessed outside its allocations"},
      {"reads_a_copy_too_early", reads_a_copy_too_early, "before it is written"},
      {"copies_from_an_unaligned_address", copies_from_an_unaligned_address, "from an unaligned address"},
  };
  const DeviceBuffer<int> memory(stream, 8);
  for (const auto& canary : canaries) {
    std::string found = "nothing";
    // What depends on an order comes to light in some of a few.
    for (uint64_t seed = 1; seed <= 8 && found == "nothing"; seed++) {
      simt::set_seed(seed);
      try {
        cuda::launch(canary.name, canary.kernel, {1}, 64, 1024, stream, memory.get());
        stream.synchronise();
      } catch (const simt::Fault& fault) {
        found = fault.what();
      }
    }
    const bool is_caught = found.find(canary.message) != std::string::npos && found.find(canary.name) == 0;
    run.check(is_caught, (std::string(canary.name) + " was taken for: " + found).c_str());
  }
  cuda::launch("is_right", is_right, {2}, 64, 256, stream, memory.get());
  run.check(memory.read() == std::vector<int>({63, 62, 61, 60, 59, 58, 57, 56}),
            "a right kernel after broken ones");
}

}  // namespace quire::test

#else

// A GPU has no such checks of its own; compute-sanitizer does that there.
void quire::test::test_emulator(Run&, cuda::Stream&) {}

#endif
