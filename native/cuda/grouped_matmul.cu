// Rows sorted by expert, each group times its expert's weights: one launch for all experts, whose sizes only
// the device knows. Grid (128 outputs, tile of 64 rows): there are at most rows / 64 + experts tiles, and
// each block finds its own among them. Rows and weights come 64 inputs at a time through a ring of
// asynchronous copies; a warp holds 32 outputs of all 64 rows, and skips the 16-row tiles that the expert
// does not fill. Bound: with few rows an expert, memory bandwidth over the weights; with many, the tensor
// cores.

#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace quire::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kRows = 64;
constexpr int kOutputs = 128;
constexpr int kInputs = 64;
constexpr int kStages = 3;
constexpr int kPitch = kInputs + 8;  // so that eight rows never meet in one bank
constexpr int kStage = (kRows + kOutputs) * kPitch;

template <typename T>
struct GroupedParams {
  T* out;
  const T* x;
  const T* const* weights;
  const int32_t* expert_start;
  int num_experts, num_inputs, num_outputs;
  int64_t out_stride;
};

struct RowTile {
  int expert;  // -1: there are fewer tiles
  int first, count;
};

// Tile `index` of all experts' tiles in their order; every lane of the warp gets it.
QUIRE_DEVICE RowTile find_tile(const int32_t* expert_start, int num_experts, int index, int lane) {
  int before = 0;
  for (int base = 0; base < num_experts; base += kWarp) {
    const int e = base + lane;
    const int rows = e < num_experts ? expert_start[e + 1] - expert_start[e] : 0;
    const int tiles = (rows + kRows - 1) / kRows;
    int through = tiles;
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const int lower =
          static_cast<int>(shuffle(static_cast<uint32_t>(through), (lane - distance) & (kWarp - 1)));
      if (lane >= distance) through += lower;
    }
    const uint32_t past = ballot(before + through > index);
    if (past != 0) {
      const int found = count_bits((past & (0u - past)) - 1);
      const int tile =
          index - before - static_cast<int>(shuffle(static_cast<uint32_t>(through - tiles), found));
      const int start = expert_start[base + found];
      const int left = expert_start[base + found + 1] - start - tile * kRows;
      return {base + found, start + tile * kRows, left < kRows ? left : kRows};
    }
    before += static_cast<int>(shuffle(static_cast<uint32_t>(through), kWarp - 1));
  }
  return {-1, 0, 0};
}

// Rows [0, kCount) of a [.., num_inputs] matrix, 64 inputs from `at` on; what lies outside is zero.
template <int kCount, typename T>
QUIRE_DEVICE void load_rows(Shared<T> to, const T* from, int rows, int num_inputs, int at) {
  constexpr int kChunks = kInputs / 8;
  for (int i = threadIdx.x; i < kCount * kChunks; i += kThreads) {
    const int row = i / kChunks;
    const int column = at + i % kChunks * 8;
    const bool valid = row < rows && column < num_inputs;
    copy_async(to, row * kPitch + i % kChunks * 8, from + (valid ? int64_t{row} * num_inputs + column : 0),
               valid);
  }
}

// acc += rows times weights over the 64 inputs of a stage.
template <typename T>
QUIRE_DEVICE void multiply_stage(float (&acc)[4][4][4], Shared<T> rows, Shared<T> weights, int row_tiles,
                                 int lane) {
#pragma unroll
  for (int step = 0; step < kInputs / 16; step++) {
    uint32_t w[2][4];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int row = 16 * i + lane / 16 * 8 + lane % 8;
      load_matrices(w[i], weights, row * kPitch + 16 * step + lane / 8 % 2 * 8);
    }
#pragma unroll
    for (int r = 0; r < 4; r++) {
      if (r >= row_tiles) break;
      uint32_t x[4];
      load_matrices(x, rows, (16 * r + lane % 16) * kPitch + 16 * step + lane / 16 * 8);
#pragma unroll
      for (int i = 0; i < 2; i++) {
        multiply_add(acc[r][2 * i], x, w[i][0], w[i][1], T{});
        multiply_add(acc[r][2 * i + 1], x, w[i][2], w[i][3], T{});
      }
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) grouped_matmul_kernel(GroupedParams<T> p) {
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const RowTile tile = find_tile(p.expert_start, p.num_experts, static_cast<int>(blockIdx.y), lane);
  if (tile.expert < 0) return;
  const int first_output = static_cast<int>(blockIdx.x) * kOutputs;
  const int outputs = p.num_outputs - first_output < kOutputs ? p.num_outputs - first_output : kOutputs;
  const T* x = p.x + int64_t{tile.first} * p.num_inputs;
  const T* weights = p.weights[tile.expert] + int64_t{first_output} * p.num_inputs;
  const Shared<T> ring = shared_at<T>(0);
  const int num_steps = (p.num_inputs + kInputs - 1) / kInputs;
  const auto fetch = [&](int n) {
    if (n < num_steps) {
      const Shared<T> stage = ring + n % kStages * kStage;
      load_rows<kRows>(stage, x, tile.count, p.num_inputs, n * kInputs);
      load_rows<kOutputs>(stage + kRows * kPitch, weights, outputs, p.num_inputs, n * kInputs);
    }
    copy_async_commit();
  };
  for (int n = 0; n < kStages - 1; n++) fetch(n);
  float acc[4][4][4] = {};
  const int row_tiles = (tile.count + 15) / 16;
  for (int n = 0; n < num_steps; n++) {
    copy_async_wait<kStages - 2>();
    // The stage has come, and every warp has done with the one that is filled next.
    block_sync();
    fetch(n + kStages - 1);
    const Shared<T> stage = ring + n % kStages * kStage;
    multiply_stage(acc, stage, stage + (kRows + 32 * warp) * kPitch, row_tiles, lane);
  }
#pragma unroll
  for (int r = 0; r < 4; r++) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
      for (int c = 0; c < 4; c++) {
        const int row = 16 * r + lane / 4 + c / 2 * 8;
        const int n = 32 * warp + 8 * j + 2 * (lane % 4) + c % 2;
        if (row >= tile.count || n >= outputs) continue;
        p.out[(tile.first + row) * p.out_stride + first_output + n] = from_float<T>(acc[r][j][c]);
      }
    }
  }
}

}  // namespace

template <typename T>
void grouped_matmul(const GroupedMatmulArgs& a, Executor& executor) {
  const Tensor& w = a.weights[0];
  const GroupedParams<T> params = {static_cast<T*>(a.out),
                                   static_cast<const T*>(a.x),
                                   reinterpret_cast<const T* const*>(a.pointers),
                                   a.expert_start,
                                   a.num_experts,
                                   static_cast<int>(w.cols),
                                   static_cast<int>(w.rows),
                                   a.out_stride};
  const int tiles = a.num_rows / kRows + (a.num_experts < a.num_rows ? a.num_experts : a.num_rows);
  launch("grouped_matmul", grouped_matmul_kernel<T>,
         {static_cast<unsigned>(div_up(params.num_outputs, kOutputs)), static_cast<unsigned>(tiles)},
         kThreads, size_t{kStages} * kStage * sizeof(T), static_cast<Stream&>(executor), params);
}

template void grouped_matmul<Half>(const GroupedMatmulArgs&, Executor&);
template void grouped_matmul<BFloat>(const GroupedMatmulArgs&, Executor&);

}  // namespace quire::cuda
