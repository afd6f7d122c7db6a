// warpgroup.h for the emulator. A product is computed by each warp for its 16 rows, at once or when it is
// waited for, from shared memory as the 64-bit descriptor says. Part of warpgroup.h, which alone includes it.
#pragma once

#include <string>
#include <vector>

namespace quire::cuda {

// What a descriptor says, as the PTX ISA lays it out.
class DescribedMatrix {
 public:
  // Rows of 16 numbers (K-major), or 16 rows of numbers (MN-major).
  DescribedMatrix(uint64_t descriptor, bool is_k_major)
      : start_((descriptor & 0x3fff) << 4),
        panel_((descriptor >> 16 & 0x3fff) << 4),
        eight_((descriptor >> 32 & 0x3fff) << 4),
        is_k_major_(is_k_major) {
    if (descriptor >> 62 != 1) {
      simt::fault("a wgmma descriptor of swizzle " + std::to_string(descriptor >> 62) + ": only 1 is known");
    }
    if ((descriptor >> 49 & 7) != 0) simt::fault("a wgmma descriptor with a base offset");
    if ((start_ & 0x380) != 0) {
      simt::fault("a wgmma descriptor to byte " + std::to_string(start_) +
                  ", inside the eight rows of a swizzle");
    }
  }

  // Number k of row (K-major) or column (MN-major) i.
  uint16_t at(int i, int k) const {
    const size_t outer = static_cast<size_t>(is_k_major_ ? i : k), inner = is_k_major_ ? k : i;
    // K-major has one panel: the step's place in it is in the start.
    const size_t byte = start_ + inner / 64 * panel_ + outer / 8 * eight_ + outer % 8 * 128 + inner % 64 * 2;
    uint16_t number;
    simt::read_shared_async(&number, byte ^ (byte >> 3 & 0x70), 2, 2);
    return number;
  }

 private:
  size_t start_, panel_, eight_;
  bool is_k_major_;
};

// 16 rows of the warp by 8 kTiles columns: sums[l] are lane l's.
template <typename T, int kTiles>
void multiply_rows(float (*const* sums)[4], const float (&a)[16][16], const DescribedMatrix& b, bool adds) {
  for (int col = 0; col < 8 * kTiles; col++) {
    float column[16];
    for (int k = 0; k < 16; k++) column[k] = to_float(T{b.at(col, k)});
    for (int row = 0; row < 16; row++) {
      float sum = 0;
      for (int k = 0; k < 16; k++) sum += a[row][k] * column[k];
      float& d = sums[row % 8 * 4 + col % 8 / 2][col / 8][row / 8 * 2 + col % 2];
      d = adds ? d + sum : sum;
    }
  }
}

template <int kTiles>
struct ProductLane {
  Accumulator<kTiles>* d;
  WatchedRegisters* fragments;  // null: a is in shared memory
  const uint32_t (*fragment)[4];
  uint64_t a, b;
  bool adds;
};

// The warp's rows of a, from its lanes' registers or from shared memory.
template <typename T, int kTiles>
void read_left(float (&a)[16][16], const ProductLane<kTiles>* lanes, int warp_row) {
  if (lanes[0].fragments == nullptr) {
    const DescribedMatrix matrix(lanes[0].a, true);
    for (int row = 0; row < 16; row++) {
      for (int k = 0; k < 16; k++) a[row][k] = to_float(T{matrix.at(warp_row + row, k)});
    }
    return;
  }
  for (int at = 0; at < kWarp; at++) {
    for (int r = 0; r < 4; r++) {
      for (int i = 0; i < 2; i++) {
        a[at / 4 + 8 * (r % 2)][2 * (at % 4) + 8 * (r / 2) + i] = part<T>((*lanes[at].fragment)[r], i);
      }
    }
  }
}

template <int kTiles>
void begin_product(const ProductLane<kTiles>& lane) {
  for (WatchedRegisters* registers : {static_cast<WatchedRegisters*>(lane.d), lane.fragments}) {
    if (registers == nullptr) continue;
    if (registers->is_touched) simt::fault("registers go to wgmma without a fence");
    registers->num_products++;
  }
}

template <int kTiles>
void end_product(const ProductLane<kTiles>& lane) {
  lane.d->num_products--;
  if (lane.fragments != nullptr) lane.fragments->num_products--;
}

template <typename T, int kTiles>
void start_product(ProductLane<kTiles>& mine) {
  using Lane = ProductLane<kTiles>;
  begin_product(mine);
  struct Call {
    Lane lane;
    int warp_row;
  } call{mine, static_cast<int>(threadIdx.x) % kWarpgroup / kWarp * 16};
  meet<Call>(
      "wgmma",
      [](Call* const* calls) {
        std::vector<Lane> lanes;
        for (int i = 0; i < kWarp; i++) lanes.push_back(calls[i]->lane);
        simt::warp_async([lanes, warp_row = calls[0]->warp_row] {
          float a[16][16];
          read_left<T>(a, lanes.data(), warp_row);
          float(*sums[kWarp])[4];
          for (int i = 0; i < kWarp; i++) sums[i] = lanes[i].d->registers;
          const bool is_k_major = lanes[0].fragments == nullptr;
          multiply_rows<T, kTiles>(sums, a, DescribedMatrix(lanes[0].b, is_k_major), lanes[0].adds);
          for (const Lane& lane : lanes) end_product(lane);
        });
      },
      call);
}

template <typename T, int kTiles>
void warpgroup_multiply(Accumulator<kTiles>& d, uint64_t a, uint64_t b, bool adds) {
  ProductLane<kTiles> lane{&d, nullptr, nullptr, a, b, adds};
  start_product<T>(lane);
}
template <typename T, int kTiles, int kSteps>
void warpgroup_multiply(Accumulator<kTiles>& d, Fragments<kSteps>& a, int step, uint64_t b) {
  ProductLane<kTiles> lane{&d, &a, &a.registers[step], 0, b, true};
  start_product<T>(lane);
}

struct NoLane {
  int groups_left;
};
template <typename... Registers>
void warpgroup_fence(Registers&... registers) {
  NoLane lane{0};
  meet<NoLane>(
      "wgmma.fence", [](NoLane* const*) {}, lane);
  ((registers.is_touched = false), ...);
}
inline void warpgroup_commit() {
  NoLane lane{0};
  meet<NoLane>(
      "wgmma.commit_group", [](NoLane* const*) { simt::warp_async_commit(); }, lane);
}
template <int kGroupsLeft, typename... Registers>
void warpgroup_wait(Registers&... registers) {
  NoLane lane{kGroupsLeft};
  meet<NoLane>(
      "wgmma.wait_group", [](NoLane* const* lanes) { simt::warp_async_wait(lanes[0]->groups_left); }, lane);
  if (((registers.num_products > 0) || ...)) simt::fault("a wgmma is still under way after the wait for it");
}

inline void async_proxy_fence() { simt::async_proxy_fence(); }

inline void barrier_init(Shared<PhaseBarrier> at, int i, int count) {
  simt::barrier_init(at.byte + i * sizeof(PhaseBarrier), count);
}
inline void barrier_arrive(Shared<PhaseBarrier> at, int i) {
  simt::barrier_arrive(at.byte + i * sizeof(PhaseBarrier));
}
inline void barrier_wait(Shared<PhaseBarrier> at, int i, int parity) {
  simt::barrier_wait(at.byte + i * sizeof(PhaseBarrier), parity);
}

template <int kCount>
void give_registers() {
  simt::set_registers(kCount);
}
template <int kCount>
void take_registers() {
  simt::set_registers(kCount);
}

}  // namespace quire::cuda
