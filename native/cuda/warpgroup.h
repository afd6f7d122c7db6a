// What sm_90a's kernels are written in beside device.h: products of a warpgroup (128 threads) that the tensor
// cores take from shared memory and finish behind the program's back, barriers in shared memory that count
// phases, and the fence between a thread's own writes to shared memory and what wgmma reads. References: PTX
// ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate", "mbarrier", "Proxies".
//
// The registers of a product belong to it until it is waited for. They stand in an Accumulator or in
// Fragments, whose values() the emulator watches, and go through warpgroup_fence() before and
// warpgroup_wait() after, which also keep the compiler from moving what touches them.
#pragma once

#include "cuda/device.h"

namespace quire::cuda {

constexpr int kWarpgroup = 4 * kWarp;

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kHasWarpgroups = false;
#else
constexpr bool kHasWarpgroups = true;
#endif

struct PhaseBarrier {
  uint64_t state;
};

// A matrix of 16-bit numbers in shared memory, for wgmma: panels of 64 columns, each [rows, 64] with rows of
// 128 bytes, whose 16-byte parts are exchanged among eight rows so that no two meet in one bank ("128-byte
// swizzle": part c of row r lies where part c ^ (r % 8) would). Starts at a multiple of 1,024 bytes.
QUIRE_HOST_DEVICE constexpr int swizzled(int row, int column, int rows) {
  return column / 64 * rows * 64 + row * 64 + ((column / 8 % 8) ^ (row % 8)) * 8 + column % 8;
}

// The descriptor of such a matrix: its address, how far panels and how far eight rows lie apart, all in
// 16-byte units, and 1 for this swizzle.
QUIRE_HOST_DEVICE uint64_t matrix_descriptor(uint32_t address, int rows) {
  const uint64_t panel = static_cast<uint64_t>(rows) * 128 / 16;
  return (address & 0x3ffff) >> 4 | panel << 16 | uint64_t{1024 / 16} << 32 | uint64_t{1} << 62;
}
// The matrix that begins some bytes on, at a column or row the swizzle can start from.
QUIRE_HOST_DEVICE uint64_t advanced(uint64_t descriptor, int bytes) { return descriptor + (bytes >> 4); }

#if defined(__CUDACC__)

struct WatchedRegisters {
  QUIRE_DEVICE void touch() const {}
};

#else

// Of one thread: whether the program has changed them since the last fence, and who still works on them.
struct WatchedRegisters {
  bool is_touched = true;
  int num_products = 0;
  void touch() {
    if (num_products > 0) simt::fault("registers of a wgmma are touched before it is waited for");
    is_touched = true;
  }
};

#endif

// 64 rows of a product, 8 kTiles columns, f32. Warp w has rows 16 w to 16 w + 15, spread as those of mma are:
// lane l has rows l / 4 and l / 4 + 8, of columns 8 j on the two from 2 (l % 4).
template <int kTiles>
class Accumulator : public WatchedRegisters {
 public:
  QUIRE_DEVICE float (&values())[kTiles][4] {
    touch();
    return registers;
  }
  float registers[kTiles][4];
};

// 64 rows of a left operand of 16-bit numbers, 16 kSteps columns, each step spread as mma's is.
template <int kSteps>
class Fragments : public WatchedRegisters {
 public:
  QUIRE_DEVICE uint32_t (&values())[kSteps][4] {
    touch();
    return registers;
  }
  uint32_t registers[kSteps][4];
};

#if defined(__CUDACC__)

QUIRE_DEVICE void pin_one(float& value) { asm volatile("" : "+f"(value)::"memory"); }
QUIRE_DEVICE void pin_one(uint32_t& value) { asm volatile("" : "+r"(value)::"memory"); }
template <typename V, int kCount>
QUIRE_DEVICE void pin(V (&registers)[kCount][4]) {
#pragma unroll
  for (int i = 0; i < kCount; i++) {
#pragma unroll
    for (int j = 0; j < 4; j++) pin_one(registers[i][j]);
  }
}

// What the program did to these registers comes before the products that follow.
template <typename... Registers>
QUIRE_DEVICE void warpgroup_fence(Registers&... registers) {
  (pin(registers.registers), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
QUIRE_DEVICE void warpgroup_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most kGroupsLeft groups of products are under way; `registers` are the program's again.
template <int kGroupsLeft, typename... Registers>
QUIRE_DEVICE void warpgroup_wait(Registers&... registers) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroupsLeft) : "memory");
  (pin(registers.registers), ...);
}

#define QUIRE_SUMS_16(d, j)                                                                          \
  "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3]), "+f"(d[j + 1][0]), "+f"(d[j + 1][1]),  \
      "+f"(d[j + 1][2]), "+f"(d[j + 1][3]), "+f"(d[j + 2][0]), "+f"(d[j + 2][1]), "+f"(d[j + 2][2]), \
      "+f"(d[j + 2][3]), "+f"(d[j + 3][0]), "+f"(d[j + 3][1]), "+f"(d[j + 3][2]), "+f"(d[j + 3][3])
#define QUIRE_NAMES_32                                                   \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define QUIRE_NAMES_64                                                               \
  QUIRE_NAMES_32                                                                     \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// One step, 16 columns of the left operand, for T and its name in PTX.
#define QUIRE_WGMMA(T, type)                                                                  \
  QUIRE_DEVICE void multiply_step(float(&d)[16][4], uint64_t a, uint64_t b, bool adds, T) {   \
    asm volatile(                                                                             \
        "{\n.reg .pred adds;\nsetp.ne.b32 adds, %66, 0;\n"                                    \
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {" QUIRE_NAMES_64      \
        "}, %64, %65, adds, 1, 1, 0, 0;\n}\n"                                                 \
        : QUIRE_SUMS_16(d, 0), QUIRE_SUMS_16(d, 4), QUIRE_SUMS_16(d, 8), QUIRE_SUMS_16(d, 12) \
        : "l"(a), "l"(b), "r"(adds ? 1 : 0));                                                 \
  }                                                                                           \
  QUIRE_DEVICE void multiply_step(float(&d)[16][4], const uint32_t(&a)[4], uint64_t b, T) {   \
    asm volatile(                                                                             \
        "{\n.reg .pred adds;\nsetp.ne.b32 adds, %69, 0;\n"                                    \
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {" QUIRE_NAMES_64      \
        "}, {%64, %65, %66, %67}, %68, adds, 1, 1, 1;\n}\n"                                   \
        : QUIRE_SUMS_16(d, 0), QUIRE_SUMS_16(d, 4), QUIRE_SUMS_16(d, 8), QUIRE_SUMS_16(d, 12) \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));                        \
  }                                                                                           \
  QUIRE_DEVICE void multiply_step(float(&d)[8][4], const uint32_t(&a)[4], uint64_t b, T) {    \
    asm volatile(                                                                             \
        "{\n.reg .pred adds;\nsetp.ne.b32 adds, %37, 0;\n"                                    \
        "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" QUIRE_NAMES_32       \
        "}, {%32, %33, %34, %35}, %36, adds, 1, 1, 1;\n}\n"                                   \
        : QUIRE_SUMS_16(d, 0), QUIRE_SUMS_16(d, 4)                                            \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));                        \
  }
QUIRE_WGMMA(Half, "f16")
QUIRE_WGMMA(BFloat, "bf16")
#undef QUIRE_WGMMA
#undef QUIRE_NAMES_64
#undef QUIRE_NAMES_32
#undef QUIRE_SUMS_16

// d = a b^T, or d += a b^T: a [64, 16] and b [8 kTiles, 16] in shared memory, both along their rows.
template <typename T, int kTiles>
QUIRE_DEVICE void warpgroup_multiply(Accumulator<kTiles>& d, uint64_t a, uint64_t b, bool adds) {
  multiply_step(d.registers, a, b, adds, T{});
}
// d += a b: step `step` of a, and b [16, 8 kTiles] in shared memory.
template <typename T, int kTiles, int kSteps>
QUIRE_DEVICE void warpgroup_multiply(Accumulator<kTiles>& d, Fragments<kSteps>& a, int step, uint64_t b) {
  multiply_step(d.registers, a.registers[step], b, T{});
}

// What this thread wrote to shared memory is seen by the products of whoever it tells.
QUIRE_DEVICE void async_proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// A barrier whose phases end with `count` arrivals each. Others may use it after the block's next barrier.
QUIRE_DEVICE void barrier_init(Shared<PhaseBarrier> at, int i, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at.address(i)), "r"(count) : "memory");
}
QUIRE_DEVICE void barrier_arrive(Shared<PhaseBarrier> at, int i) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at.address(i)) : "memory");
}
// Until the phase of this parity has ended; the one before the first counts as odd.
QUIRE_DEVICE void barrier_wait(Shared<PhaseBarrier> at, int i, int parity) {
  const uint32_t address = at.address(i);
  uint32_t has_ended = 0;
  while (has_ended == 0) {
    asm volatile(
        "{\n.reg .pred ended;\nmbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
        "selp.u32 %0, 1, 0, ended;\n}\n"
        : "=r"(has_ended)
        : "r"(address), "r"(parity)
        : "memory");
  }
}

// Registers of each thread of this warpgroup from now on; what one gives back another can take.
template <int kCount>
QUIRE_DEVICE void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
QUIRE_DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

#endif

}  // namespace quire::cuda

#if !defined(__CUDACC__)
#include "cuda/warpgroup_emulated.h"
#endif
