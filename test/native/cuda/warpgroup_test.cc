// The canaries of what the emulator knows of sm_90a: a product that is right, and everything that can be left
// out of it.

#include <string>

#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda_cases.h"
#include "device_buffer.h"

#if !defined(__CUDACC__)

#include "cuda/warpgroup.h"

namespace quire::test {

namespace {

using cuda::shared_at;
using Sums = cuda::Accumulator<16>;

constexpr int kRows = 128;
constexpr int kMatrixBytes = kRows * 128;

int thread() { return static_cast<int>(threadIdx.x); }

// Panels of 64 columns of small numbers, row r and column c holding (r + c) % 5: at byte 0 for both operands.
void write_matrix() {
  for (int i = thread(); i < kRows * 64; i += cuda::kWarpgroup) {
    const int row = i / 64, column = i % 64;
    const auto number = cuda::from_float<cuda::BFloat>(static_cast<float>((row + column) % 5));
    shared_at<cuda::BFloat>(0).store(cuda::swizzled(row, column, kRows), number);
  }
}
uint64_t matrix() { return cuda::matrix_descriptor(0, kRows); }
void multiply(Sums& sums, uint64_t a) {
  cuda::warpgroup_multiply<cuda::BFloat>(sums, a, matrix(), false);
  cuda::warpgroup_commit();
}
void write_and_fence() {
  write_matrix();
  cuda::async_proxy_fence();
  cuda::block_sync();
}

// out[row, column] of the 64 x 128 product of the first 16 columns.
void multiplies_right(float* out) {
  write_and_fence();
  Sums sums;
  cuda::warpgroup_fence(sums);
  multiply(sums, matrix());
  cuda::warpgroup_wait<0>(sums);
  const int lane = thread() % 32, row = thread() / 32 * 16 + lane / 4;
  for (int j = 0; j < 16; j++) {
    for (int i = 0; i < 4; i++) {
      out[(row + i / 2 * 8) * 128 + 8 * j + lane % 4 * 2 + i % 2] = sums.values()[j][i];
    }
  }
}

void reads_sums_before_the_wait(float*) {
  write_and_fence();
  Sums sums;
  cuda::warpgroup_fence(sums);
  multiply(sums, matrix());
  sums.values();
}
void waits_for_too_few(float*) {
  write_and_fence();
  Sums sums;
  cuda::warpgroup_fence(sums);
  multiply(sums, matrix());
  cuda::warpgroup_wait<1>(sums);
}
void does_not_wait(float*) {
  write_and_fence();
  Sums sums;
  cuda::warpgroup_fence(sums);
  multiply(sums, matrix());
}
void does_not_fence_registers(float*) {
  write_and_fence();
  Sums sums;
  sums.values()[0][0] = 0;
  multiply(sums, matrix());
}
void does_not_fence_memory(float*) {
  write_matrix();
  cuda::block_sync();
  Sums sums;
  cuda::warpgroup_fence(sums);
  multiply(sums, matrix());
  cuda::warpgroup_wait<0>(sums);
}
void fences_before_the_copy_lands(float* memory) {
  for (int i = thread(); i < kMatrixBytes / 16; i += cuda::kWarpgroup) {
    cuda::copy_async(shared_at<float>(0), i * 4, memory, true);
  }
  cuda::copy_async_commit();
  cuda::async_proxy_fence();
  cuda::copy_async_wait<0>();
  cuda::block_sync();
  Sums sums;
  cuda::warpgroup_fence(sums);
  multiply(sums, matrix());
  cuda::warpgroup_wait<0>(sums);
}
void describes_no_swizzle(float*) {
  write_and_fence();
  Sums sums;
  cuda::warpgroup_fence(sums);
  multiply(sums, matrix() & ~(uint64_t{3} << 62));
  cuda::warpgroup_wait<0>(sums);
}
void describes_a_row_inside_eight(float*) {
  write_and_fence();
  Sums sums;
  cuda::warpgroup_fence(sums);
  multiply(sums, cuda::advanced(matrix(), 128));
  cuda::warpgroup_wait<0>(sums);
}
void multiplies_beyond_memory(float*) {
  write_and_fence();
  Sums sums;
  cuda::warpgroup_fence(sums);
  multiply(sums, cuda::advanced(matrix(), kMatrixBytes));
  cuda::warpgroup_wait<0>(sums);
}
void multiplies_with_three_warps(float*) {
  write_and_fence();
  if (thread() >= 96) return;
  Sums sums;
  cuda::warpgroup_fence(sums);
  multiply(sums, matrix());
  cuda::warpgroup_wait<0>(sums);
}

cuda::Shared<cuda::PhaseBarrier> barriers() { return shared_at<cuda::PhaseBarrier>(0); }
void init_one(int count) {
  if (thread() == 0) cuda::barrier_init(barriers(), 0, count);
  cuda::block_sync();
}
void uses_a_barrier_too_early(float*) { cuda::barrier_arrive(barriers(), 0); }
void waits_for_more_than_come(float*) {
  init_one(cuda::kWarpgroup + 1);
  cuda::barrier_arrive(barriers(), 0);
  cuda::barrier_wait(barriers(), 0, 0);
}
void waits_for_the_wrong_phase(float*) {
  init_one(32);
  // The phase before the first has ended: nothing keeps the others from reading.
  const cuda::Shared<int> shared = shared_at<int>(16);
  if (thread() < 32) {
    shared.store(thread(), 1);
    cuda::barrier_arrive(barriers(), 0);
  } else {
    cuda::barrier_wait(barriers(), 0, 1);
    shared.load(thread() % 32);
  }
}
void takes_registers_that_none_gave(float*) {
  // 640 threads are launched with 96 each.
  if (thread() < 512) cuda::take_registers<168>();
}
void sets_registers_in_one_warp(float*) {
  if (thread() < 32) cuda::give_registers<40>();
}

struct Canary {
  const char* name;
  void (*kernel)(float*);
  const char* message;
  int threads = cuda::kWarpgroup;
};
constexpr Canary kCanaries[] = {
    {"reads_sums_before_the_wait", reads_sums_before_the_wait, "touched before it is waited for"},
    {"waits_for_too_few", waits_for_too_few, "still under way after the wait"},
    {"does_not_wait", does_not_wait, "a warp ends before its wgmma does"},
    {"does_not_fence_registers", does_not_fence_registers, "registers go to wgmma without a fence"},
    {"does_not_fence_memory", does_not_fence_memory, "wrote without a fence"},
    {"fences_before_the_copy_lands", fences_before_the_copy_lands, "wrote without a fence"},
    {"describes_no_swizzle", describes_no_swizzle, "a wgmma descriptor of swizzle 0"},
    {"describes_a_row_inside_eight", describes_a_row_inside_eight, "inside the eight rows of a swizzle"},
    {"multiplies_beyond_memory", multiplies_beyond_memory, "read of shared memory at byte"},
    {"multiplies_with_three_warps", multiplies_with_three_warps, "do not call wgmma or setmaxnreg as one"},
    {"uses_a_barrier_too_early", uses_a_barrier_too_early, "used before it is initialised"},
    {"waits_for_more_than_come", waits_for_more_than_come, "128 for a phase, 0 have ended"},
    {"waits_for_the_wrong_phase", waits_for_the_wrong_phase, "before it is written"},
    {"takes_registers_that_none_gave", takes_registers_that_none_gave, "it was launched with", 640},
    {"sets_registers_in_one_warp", sets_registers_in_one_warp, "do not call wgmma or setmaxnreg as one"},
};

void check_product(Run& run, cuda::Stream& stream) {
  const DeviceBuffer<float> out(stream, 64 * 128);
  cuda::launch("multiplies_right", multiplies_right, {1}, cuda::kWarpgroup, kMatrixBytes, stream, out.get());
  const std::vector<float> found = out.read();
  for (int row = 0; row < 64; row++) {
    for (int column = 0; column < 128; column++) {
      float sum = 0;
      for (int k = 0; k < 16; k++) sum += static_cast<float>((row + k) % 5 * ((column + k) % 5));
      run.near(found[row * 128 + column], sum, 0, "wgmma");
    }
  }
}

}  // namespace

void test_warpgroup_emulator(Run& run, cuda::Stream& stream) {
  check_product(run, stream);
  const DeviceBuffer<float> memory(stream, std::vector<float>(64));
  for (const Canary& canary : kCanaries) {
    std::string found = "nothing";
    // What depends on an order comes to light in some of a few.
    for (uint64_t seed = 1; seed <= 8 && found == "nothing"; seed++) {
      simt::set_seed(seed);
      try {
        cuda::launch(canary.name, canary.kernel, {1}, canary.threads, kMatrixBytes, stream, memory.get());
        stream.synchronise();
      } catch (const simt::Fault& fault) {
        found = fault.what();
      }
    }
    const bool is_caught = found.find(canary.message) != std::string::npos && found.find(canary.name) == 0;
    run.check(is_caught, (std::string(canary.name) + " was taken for: " + found).c_str());
  }
  check_product(run, stream);
}

}  // namespace quire::test

#else

void quire::test::test_warpgroup_emulator(Run&, cuda::Stream&) {}

#endif
