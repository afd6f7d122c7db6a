// A small SIMT machine on the CPU: CUDA kernel sources, unchanged, run by g++'s code on a machine without a
// GPU.
//
// The threads of a block are fibers. They run one at a time, warps in a seeded random order, until each waits
// at a barrier or for the lanes of its warp. What a GPU would let pass, or would do wrong only sometimes, is
// a Fault here:
// - shared memory read before it was written, or outside what the launch asked for, or at a wrong alignment;
// - device memory outside its allocation (guard pages around each);
// - barriers and warp operations that not all threads reach;
// - asynchronous copies and products read too early (each lands at once or only when waited for, by chance);
// - what wgmma needs and a program leaves out: fences, whole warpgroups, registers that are there.
// What it cannot show: speed, races between warps that no order of whole phases brings out, and the GPU's own
// rounding of approximate instructions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

namespace quire::simt {

struct Index {
  unsigned x = 1, y = 1, z = 1;
};

// What a kernel did wrong: kernel, block and thread are in the message.
class Fault : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr int kWarpSize = 32;

// Runs `kernel` once for every thread of the grid. Not from several threads at once. Throws Fault.
void launch(const char* name, Index grid, Index block, size_t shared_bytes,
            const std::function<void()>& kernel);

// The order of warps and the landing of asynchronous copies follow from it.
void set_seed(uint64_t seed);

// The device's memory: filled with 0xff (NaN in every float format), a guard page on either side.
void* allocate(size_t bytes);
void release(void* memory);

// Of the thread that runs.
const Index& thread_index();
const Index& block_index();
const Index& block_size();
const Index& grid_size();

// __syncthreads.
void block_barrier();

// All 32 lanes meet; the last one computes for all. `lanes` holds each lane's arguments.
struct WarpOperation {
  const char* name;
  void (*compute)(void* const lanes[kWarpSize]);
};
void warp_meet(const WarpOperation& operation, void* arguments);

// Bytes of the block's shared memory, checked.
void read_shared(void* to, size_t offset, size_t bytes, size_t alignment);
void write_shared(size_t offset, const void* from, size_t bytes, size_t alignment);

// cp.async: 16 bytes from `from`, or zeros when it is null.
void copy_async(size_t offset, const void* from);
void copy_async_commit();
void copy_async_wait(int groups_left);

// The rest is of sm_90a (warpgroup.cc).
// wgmma: work of the warp that is done at once or when its group is waited for, by chance. The three are
// called by the compute of a WarpOperation.
void warp_async(std::function<void()> work);
void warp_async_commit();
void warp_async_wait(int groups_left);
// Shared memory as wgmma reads it: what threads wrote counts only after their fence.
void async_proxy_fence();
void read_shared_async(void* to, size_t offset, size_t bytes, size_t alignment);
// mbarrier: a phase ends with its last arrival. A wait passes when the phase of that parity has ended.
void barrier_init(size_t offset, int count);
void barrier_arrive(size_t offset);
void barrier_wait(size_t offset, int parity);
// setmaxnreg.
void set_registers(int count);

[[noreturn]] void fault(const std::string& what);

}  // namespace quire::simt
