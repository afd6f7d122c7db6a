// What the kernels are written in. The same sources are compiled by nvcc for a GPU and by g++ for the
// emulator (simt/simt.h), so everything that is not plain C++ stands here: qualifiers, launches, shared
// memory, warp operations, and each PTX instruction behind one function. References: PTX ISA, "Warp-level
// matrix instructions" and "Data movement".
#pragma once

#include <cstdint>
#include <cstring>

#include "tensor.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define QUIRE_DEVICE __device__ __forceinline__
#define QUIRE_HOST_DEVICE __host__ __device__ __forceinline__
#else
#include <cmath>

#include "float16.h"
#include "simt/simt.h"
#define __global__
#define __launch_bounds__(...)
#define QUIRE_DEVICE inline
#define QUIRE_HOST_DEVICE inline
#define threadIdx (::quire::simt::thread_index())
#define blockIdx (::quire::simt::block_index())
#define blockDim (::quire::simt::block_size())
#define gridDim (::quire::simt::grid_size())
#endif

namespace quire::cuda {

constexpr int kWarp = 32;
QUIRE_HOST_DEVICE int div_up(int a, int b) { return (a + b - 1) / b; }

// The two forms of an activation or a cached key. 16 bits each, arithmetic is f32.
struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<Half> {
  static constexpr DType value = DType::kF16;
};
template <>
struct DTypeOf<BFloat> {
  static constexpr DType value = DType::kBF16;
};

struct alignas(16) Words4 {
  uint32_t w[4];
};

#if defined(__CUDACC__)

QUIRE_DEVICE float to_float(Half x) {
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(x.bits));
  return out;
}
QUIRE_DEVICE float to_float(BFloat x) { return __uint_as_float(uint32_t{x.bits} << 16); }
template <typename T>
QUIRE_DEVICE T from_float(float x);
template <>
QUIRE_DEVICE Half from_float<Half>(float x) {
  Half out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(x));
  return out;
}
template <>
QUIRE_DEVICE BFloat from_float<BFloat>(float x) {
  BFloat out;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(x));
  return out;
}
// Two numbers in a register, `low` in the low half.
template <typename T>
QUIRE_DEVICE uint32_t pack(float low, float high);
template <>
QUIRE_DEVICE uint32_t pack<Half>(float low, float high) {
  uint32_t out;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
template <>
QUIRE_DEVICE uint32_t pack<BFloat>(float low, float high) {
  uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
QUIRE_DEVICE float bits_as_float(uint32_t bits) { return __uint_as_float(bits); }
QUIRE_DEVICE uint32_t float_as_bits(float value) { return __float_as_uint(value); }
QUIRE_DEVICE float exp2_fast(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

QUIRE_DEVICE void block_sync() { __syncthreads(); }
QUIRE_DEVICE void warp_sync() { __syncwarp(); }
QUIRE_DEVICE float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffff, value, mask); }
QUIRE_DEVICE uint32_t shuffle(uint32_t value, int lane) { return __shfl_sync(0xffffffff, value, lane); }
QUIRE_DEVICE uint32_t ballot(bool vote) { return __ballot_sync(0xffffffff, vote); }
QUIRE_DEVICE int count_bits(uint32_t bits) { return __popc(bits); }

// A view of the block's shared memory; indices count elements of T.
template <typename T>
struct Shared {
  T* at;
  QUIRE_DEVICE T load(int i) const { return at[i]; }
  QUIRE_DEVICE void store(int i, T value) const { at[i] = value; }
  template <typename U>
  QUIRE_DEVICE U load_as(int i) const {
    return *reinterpret_cast<const U*>(at + i);
  }
  template <typename U>
  QUIRE_DEVICE void store_as(int i, U value) const {
    *reinterpret_cast<U*>(at + i) = value;
  }
  QUIRE_DEVICE Shared operator+(int i) const { return {at + i}; }
  QUIRE_DEVICE uint32_t address(int i) const {
    return static_cast<uint32_t>(__cvta_generic_to_shared(at + i));
  }
};

extern __shared__ __align__(1024) unsigned char quire_dynamic_shared[];

// The launch's shared memory from a byte on.
template <typename T>
QUIRE_DEVICE Shared<T> shared_at(int byte) {
  return {reinterpret_cast<T*>(quire_dynamic_shared + byte)};
}

QUIRE_DEVICE void atomic_add(Shared<unsigned long long> to, int i, unsigned long long value) {
  atomicAdd(to.at + i, value);
}
QUIRE_DEVICE uint32_t atomic_add_global(uint32_t* to, uint32_t value) { return atomicAdd(to, value); }
// What this thread wrote to device memory before is seen by whoever sees what it writes after.
QUIRE_DEVICE void device_fence() { __threadfence(); }

// 16 bytes from device memory to shared memory, behind the program's back; zeros when not `valid`, with
// `from` any address of device memory.
template <typename T>
QUIRE_DEVICE void copy_async(Shared<T> to, int i, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to.address(i)), "l"(from),
               "r"(valid ? 16 : 0));
}
QUIRE_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;"); }
template <int kGroupsLeft>
QUIRE_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft));
}

// Four 8x8 matrices of 16-bit numbers; lane 8 m + r names row r of matrix m. Register m of a lane then holds
// two neighbours of row lane / 4, columns 2 (lane % 4) and the next.
template <typename T>
QUIRE_DEVICE void load_matrices(uint32_t (&out)[4], Shared<T> rows, int i) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(rows.address(i)));
}
// The same, each matrix transposed.
template <typename T>
QUIRE_DEVICE void load_matrices_transposed(uint32_t (&out)[4], Shared<T> rows, int i) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(rows.address(i)));
}

// d += a b with a [16, 16], b [16, 8], d [16, 8] in f32, spread over the warp as the PTX ISA draws it.
QUIRE_DEVICE void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Half) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, "
      "%1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
QUIRE_DEVICE void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, BFloat) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// (x & mask) | bits, one instruction.
QUIRE_DEVICE uint32_t and_or(uint32_t x, uint32_t mask, uint32_t bits) {
  uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(out) : "r"(x), "r"(mask), "r"(bits));
  return out;
}
// Both halves: a - b, exact where the result has a 16-bit form.
QUIRE_DEVICE uint32_t subtract_pair(uint32_t a, uint32_t b, Half) {
  uint32_t out;
  asm("sub.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  return out;
}
QUIRE_DEVICE uint32_t subtract_pair(uint32_t a, uint32_t b, BFloat) {
  uint32_t out;
  // b * -1 + a: sm_80 has no bf16 subtraction.
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(b), "r"(0xbf80bf80u), "r"(a));
  return out;
}

QUIRE_DEVICE uint32_t multiply_pair(uint32_t a, uint32_t b, Half) {
  uint32_t out;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  return out;
}
QUIRE_DEVICE uint32_t multiply_pair(uint32_t a, uint32_t b, BFloat) {
  uint32_t out;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(0x80008000u));
  return out;
}
QUIRE_DEVICE uint64_t multiply_high(uint64_t a, uint64_t b) { return __umul64hi(a, b); }
QUIRE_DEVICE void atomic_add_global(float* to, float value) { atomicAdd(to, value); }

// 16 bytes that are read once: they need no place in the first cache.
QUIRE_DEVICE Words4 load_streaming(const Words4* from) {
  Words4 out;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(out.w[0]), "=r"(out.w[1]), "=r"(out.w[2]), "=r"(out.w[3])
               : "l"(from));
  return out;
}

#else  // the emulator

inline float to_float(Half x) { return f16_to_float(x.bits); }
inline float to_float(BFloat x) { return bf16_to_float(x.bits); }
template <typename T>
T from_float(float x);
template <>
inline Half from_float<Half>(float x) {
  return {float_to_f16(x)};
}
template <>
inline BFloat from_float<BFloat>(float x) {
  return {float_to_bf16(x)};
}
template <typename T>
uint32_t pack(float low, float high) {
  return from_float<T>(low).bits | uint32_t{from_float<T>(high).bits} << 16;
}
inline float bits_as_float(uint32_t bits) { return bits_to_float(bits); }
inline uint32_t float_as_bits(float value) { return float_to_bits(value); }
inline float exp2_fast(float x) { return std::exp2(x); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }

inline void block_sync() { simt::block_barrier(); }

// Runs compute(lanes) once for the warp, lanes[i] being lane i's Lane.
template <typename Lane>
void meet(const char* name, void (*compute)(Lane* const* lanes), Lane& lane) {
  struct Call {
    Lane* lane;
    void (*compute)(Lane* const*);
  } call{&lane, compute};
  static const simt::WarpOperation operation{name, [](void* const* calls) {
                                               Lane* lanes[kWarp];
                                               for (int i = 0; i < kWarp; i++) {
                                                 lanes[i] = static_cast<Call*>(calls[i])->lane;
                                               }
                                               static_cast<Call*>(calls[0])->compute(lanes);
                                             }};
  simt::warp_meet(operation, &call);
}

inline void warp_sync() {
  struct Lane {
  } lane;
  meet<Lane>(
      "warp_sync", [](Lane* const*) {}, lane);
}
inline float shuffle_xor(float value, int mask) {
  struct Lane {
    float value;
    int mask;
    float result;
  } lane{value, mask, 0};
  meet<Lane>(
      "shuffle_xor",
      [](Lane* const* lanes) {
        for (int i = 0; i < kWarp; i++) lanes[i]->result = lanes[i ^ lanes[i]->mask]->value;
      },
      lane);
  return lane.result;
}
inline uint32_t shuffle(uint32_t value, int from) {
  struct Lane {
    uint32_t value;
    int from;
    uint32_t result;
  } lane{value, from, 0};
  meet<Lane>(
      "shuffle",
      [](Lane* const* lanes) {
        for (int i = 0; i < kWarp; i++) lanes[i]->result = lanes[lanes[i]->from & 31]->value;
      },
      lane);
  return lane.result;
}
inline uint32_t ballot(bool vote) {
  struct Lane {
    bool vote;
    uint32_t result;
  } lane{vote, 0};
  meet<Lane>(
      "ballot",
      [](Lane* const* lanes) {
        uint32_t votes = 0;
        for (int i = 0; i < kWarp; i++) votes |= uint32_t{lanes[i]->vote} << i;
        for (int i = 0; i < kWarp; i++) lanes[i]->result = votes;
      },
      lane);
  return lane.result;
}
inline int count_bits(uint32_t bits) { return __builtin_popcount(bits); }

template <typename T>
struct Shared {
  size_t byte;
  T load(int i) const { return load_as<T>(i); }
  void store(int i, T value) const { store_as<T>(i, value); }
  template <typename U>
  U load_as(int i) const {
    U value;
    simt::read_shared(&value, byte + i * sizeof(T), sizeof(U), alignof(U));
    return value;
  }
  template <typename U>
  void store_as(int i, U value) const {
    simt::write_shared(byte + i * sizeof(T), &value, sizeof(U), alignof(U));
  }
  Shared operator+(int i) const { return {byte + i * sizeof(T)}; }
  uint32_t address(int i) const { return static_cast<uint32_t>(byte + i * sizeof(T)); }
};

template <typename T>
Shared<T> shared_at(int byte) {
  return {static_cast<size_t>(byte)};
}

inline void atomic_add(Shared<unsigned long long> to, int i, unsigned long long value) {
  to.store(i, to.load(i) + value);
}
inline void device_fence() {}
inline uint32_t atomic_add_global(uint32_t* to, uint32_t value) {
  const uint32_t before = *to;
  *to += value;
  return before;
}

template <typename T>
void copy_async(Shared<T> to, int i, const void* from, bool valid) {
  simt::copy_async(to.byte + i * sizeof(T), valid ? from : nullptr);
}
inline void copy_async_commit() { simt::copy_async_commit(); }
template <int kGroupsLeft>
void copy_async_wait() {
  simt::copy_async_wait(kGroupsLeft);
}

struct MatrixLane {
  size_t byte;
  uint32_t out[4];
};
inline uint16_t shared_half(size_t byte) {
  uint16_t half;
  simt::read_shared(&half, byte, 2, 2);
  return half;
}
template <typename T>
void load_matrices(uint32_t (&out)[4], Shared<T> rows, int i) {
  MatrixLane lane{rows.byte + i * sizeof(T), {}};
  if (lane.byte % 16 != 0) simt::fault("ldmatrix of a row that is not aligned to 16 bytes");
  meet<MatrixLane>(
      "ldmatrix",
      [](MatrixLane* const* lanes) {
        for (int at = 0; at < kWarp; at++) {
          for (int m = 0; m < 4; m++) {
            const size_t row = lanes[8 * m + at / 4]->byte + 4 * (at % 4);
            lanes[at]->out[m] = shared_half(row) | uint32_t{shared_half(row + 2)} << 16;
          }
        }
      },
      lane);
  std::memcpy(out, lane.out, sizeof out);
}
template <typename T>
void load_matrices_transposed(uint32_t (&out)[4], Shared<T> rows, int i) {
  MatrixLane lane{rows.byte + i * sizeof(T), {}};
  if (lane.byte % 16 != 0) simt::fault("ldmatrix of a row that is not aligned to 16 bytes");
  meet<MatrixLane>(
      "ldmatrix.trans",
      [](MatrixLane* const* lanes) {
        for (int at = 0; at < kWarp; at++) {
          for (int m = 0; m < 4; m++) {
            const int row = 8 * m + 2 * (at % 4);
            lanes[at]->out[m] = shared_half(lanes[row]->byte + 2 * (at / 4)) |
                                uint32_t{shared_half(lanes[row + 1]->byte + 2 * (at / 4))} << 16;
          }
        }
      },
      lane);
  std::memcpy(out, lane.out, sizeof out);
}

template <typename T>
void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, T) {
  struct Lane {
    float* d;
    const uint32_t* a;
    uint32_t b[2];
  } lane{d, a, {b0, b1}};
  meet<Lane>(
      "mma",
      [](Lane* const* lanes) {
        const auto part = [](uint32_t pair, int i) {
          return to_float(T{static_cast<uint16_t>(i == 0 ? pair : pair >> 16)});
        };
        float a[16][16], b[16][8];
        for (int at = 0; at < kWarp; at++) {
          for (int i = 0; i < 2; i++) {
            for (int r = 0; r < 4; r++) {
              a[at / 4 + 8 * (r % 2)][2 * (at % 4) + 8 * (r / 2) + i] = part(lanes[at]->a[r], i);
            }
            for (int r = 0; r < 2; r++) b[2 * (at % 4) + 8 * r + i][at / 4] = part(lanes[at]->b[r], i);
          }
        }
        for (int at = 0; at < kWarp; at++) {
          for (int r = 0; r < 4; r++) {
            const int row = at / 4 + 8 * (r / 2), col = 2 * (at % 4) + r % 2;
            float sum = 0;
            for (int k = 0; k < 16; k++) sum += a[row][k] * b[k][col];
            lanes[at]->d[r] += sum;
          }
        }
      },
      lane);
}

inline uint32_t and_or(uint32_t x, uint32_t mask, uint32_t bits) { return (x & mask) | bits; }
template <typename T>
float part(uint32_t pair, int i) {
  return to_float(T{static_cast<uint16_t>(i == 0 ? pair : pair >> 16)});
}
template <typename T>
uint32_t subtract_pair(uint32_t a, uint32_t b, T) {
  return pack<T>(part<T>(a, 0) - part<T>(b, 0), part<T>(a, 1) - part<T>(b, 1));
}
template <typename T>
uint32_t multiply_pair(uint32_t a, uint32_t b, T) {
  return pack<T>(part<T>(a, 0) * part<T>(b, 0), part<T>(a, 1) * part<T>(b, 1));
}
inline uint64_t multiply_high(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline void atomic_add_global(float* to, float value) { *to += value; }
inline Words4 load_streaming(const Words4* from) { return *from; }

#endif

// The sum over the warp, the same in every lane, in a fixed order.
QUIRE_DEVICE float warp_sum(float value) {
  for (int mask = 16; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}
QUIRE_DEVICE uint64_t shuffle(uint64_t value, int lane) {
  const uint32_t low = shuffle(static_cast<uint32_t>(value), lane);
  return uint64_t{shuffle(static_cast<uint32_t>(value >> 32), lane)} << 32 | low;
}

}  // namespace quire::cuda
