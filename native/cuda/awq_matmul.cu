// out = x w^T with 4-bit weights (AWQ, arXiv 2306.00978) and few rows of x, on the tensor cores (after
// Marlin, arXiv 2408.11743). The weights are the left operand, so that one mma multiplies 256 of them by
// eight rows.
//
// Grid (64 outputs, split of the inputs, up to 64 rows). Four pairs of warps take 16 outputs each; the two
// warps of a pair take turns of 128 inputs. Weights, scales and x come through a ring of asynchronous copies.
// Integers become 16-bit floats exactly (a magic exponent, less the zero), products are summed in f32 over a
// group, and only then scaled: no rounding of weights at all. Splits leave f32 sums in the scratch; the last
// block of a tile adds them in their order. How inputs are split depends on the weight's shape alone, so that
// a row does not depend on its neighbours. Bound: memory bandwidth up to about 16 rows, then the tensor
// cores. Layout of the weights: awq_matmul.h.

#include "cuda/awq_matmul.h"

#include "cuda/awq_launch.h"
#include "cuda/launch.h"

namespace quire::cuda {

namespace {

constexpr int kOutputWarps = 4;
constexpr int kInputWarps = 2;
constexpr int kThreads = kOutputWarps * kInputWarps * kWarp;
constexpr int kOutputs = kOutputWarps * 16;  // of a block
constexpr int kStep = 128;                   // inputs of a warp in one turn
constexpr int kChunk = kInputWarps * kStep;  // of the block
constexpr int kTilesPerStep = kStep / 64;    // 16-byte words a lane reads
constexpr int kPitch = kChunk + 8;           // of a row of x in shared memory
constexpr int kMinChunksPerSplit = 4;

template <typename T>
struct AwqParams {
  T* out;
  const T* x;
  const Words4* weights;
  const uint32_t* scales;
  const float* bias;  // may be null
  float* partials;    // [splits, rows, outputs]
  uint32_t* counters;
  int64_t x_stride, out_stride;
  int num_rows, num_inputs, num_outputs;
  int chunks_per_split;
};

// One turn of the ring.
template <int kTokenTiles, int kGroup>
struct Stage {
  static constexpr int kWeightBytes = kThreads * kTilesPerStep * 16;
  static constexpr int kScaleBytes = kChunk / kGroup * kOutputs * 4;
  static constexpr int kInputBytes = 8 * kTokenTiles * kPitch * 2;
  static constexpr int kBytes = kWeightBytes + kScaleBytes + kInputBytes;
  static constexpr int kCount = kTokenTiles <= 2 ? 4 : kTokenTiles == 4 ? 3 : 2;
  // Blocks of a multiprocessor that registers are counted out for; 0 leaves it to the compiler, which has
  // three in mind here and spills, where this memory is enough for two.
  static constexpr int kBlocks = kTokenTiles == 4 && kGroup == 128 ? 2 : 0;

  int byte;
  QUIRE_DEVICE Shared<Words4> weights() const { return shared_at<Words4>(byte); }
  QUIRE_DEVICE Shared<uint32_t> scales() const { return shared_at<uint32_t>(byte + kWeightBytes); }
  template <typename T>
  QUIRE_DEVICE Shared<T> inputs() const {
    return shared_at<T>(byte + kWeightBytes + kScaleBytes);
  }
};

template <typename T, int kTokenTiles, int kGroup>
QUIRE_DEVICE void fetch(const Stage<kTokenTiles, kGroup>& stage, const AwqParams<T>& p, int chunk,
                        int first_output, int first_row) {
  const int first_input = chunk * kChunk;
  const int thread = threadIdx.x;
  const int warp = thread / kWarp;
  const int output = first_output + warp / kInputWarps * 16;
#pragma unroll
  for (int i = 0; i < kTilesPerStep; i++) {
    const int input = first_input + warp % kInputWarps * kStep + i * 64;
    const bool valid = output < p.num_outputs && input < p.num_inputs;
    const int64_t tile = int64_t{output / 16} * (p.num_inputs / 64) + input / 64;
    copy_async(stage.weights(), i * kThreads + thread,
               p.weights + (valid ? tile * kWarp + thread % kWarp : 0), valid);
  }
  for (int i = thread; i < kChunk / kGroup * (kOutputs / 4); i += kThreads) {
    const int group = first_input / kGroup + i / (kOutputs / 4);
    const int column = i % (kOutputs / 4) * 4;
    const bool valid = group * kGroup < p.num_inputs && first_output + column < p.num_outputs;
    copy_async(stage.scales(), i * 4,
               p.scales + (valid ? int64_t{group} * p.num_outputs + first_output + column : 0), valid);
  }
  for (int i = thread; i < 8 * kTokenTiles * (kChunk / 8); i += kThreads) {
    const int row = i / (kChunk / 8);
    const int column = i % (kChunk / 8) * 8;
    const bool valid = first_row + row < p.num_rows && first_input + column < p.num_inputs;
    const T* from = p.x + (valid ? (first_row + row) * p.x_stride + first_input + column : 0);
    copy_async(stage.template inputs<T>(), row * kPitch + column, from, valid);
  }
}

// 2^10 for f16, 2^7 for bf16: where one step of the mantissa is 1, so that or-ing an integer in adds it.
template <typename T>
struct Magic;
template <>
struct Magic<Half> {
  static constexpr uint32_t kPair = 0x64006400;
};
template <>
struct Magic<BFloat> {
  static constexpr uint32_t kPair = 0x43004300;
};

// The integers of a word, less their zeros, as the left operand.
template <typename T>
QUIRE_DEVICE void unpack(uint32_t (&a)[4], uint32_t word, const uint32_t (&zeros)[2]) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    a[i] = subtract_pair(and_or(word >> (4 * i), 0x000f000f, Magic<T>::kPair), zeros[i % 2], T{});
  }
}

// One turn of one warp: 128 inputs of 16 outputs against all rows.
template <typename T, int kTokenTiles, int kGroup>
QUIRE_DEVICE void multiply_step(float (&acc)[kTokenTiles][4], const Stage<kTokenTiles, kGroup>& stage,
                                int warp, int lane) {
  const int input_warp = warp % kInputWarps;
  const int output = warp / kInputWarps * 16 + lane / 4;
  uint32_t words[kTilesPerStep * 4];
#pragma unroll
  for (int i = 0; i < kTilesPerStep; i++) {
    const Words4 four = stage.weights().load(i * kThreads + warp * kWarp + lane);
#pragma unroll
    for (int j = 0; j < 4; j++) words[4 * i + j] = four.w[j];
  }
#pragma unroll
  for (int g = 0; g < kStep / kGroup; g++) {
    const int group = input_warp * (kStep / kGroup) + g;
    float scales[2];
    uint32_t zeros[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const uint32_t word = stage.scales().load(group * kOutputs + output + 8 * i);
      scales[i] = to_float(Half{static_cast<uint16_t>(word)});
      zeros[i] = Magic<T>::kPair + (word >> 16) * 0x00010001u;
    }
    float sums[kTokenTiles][4] = {};
#pragma unroll
    for (int pair = 0; pair < kGroup / 32; pair++) {
      uint32_t a[2][4];
      unpack<T>(a[0], words[g * (kGroup / 16) + 2 * pair], zeros);
      unpack<T>(a[1], words[g * (kGroup / 16) + 2 * pair + 1], zeros);
      const int column = input_warp * kStep + g * kGroup + pair * 32 + lane / 8 * 8;
#pragma unroll
      for (int t = 0; t < kTokenTiles; t++) {
        uint32_t x[4];
        load_matrices(x, stage.template inputs<T>(), (8 * t + lane % 8) * kPitch + column);
        multiply_add(sums[t], a[0], x[0], x[1], T{});
        multiply_add(sums[t], a[1], x[2], x[3], T{});
      }
    }
#pragma unroll
    for (int t = 0; t < kTokenTiles; t++) {
#pragma unroll
      for (int i = 0; i < 4; i++) acc[t][i] += scales[i / 2] * sums[t][i];
    }
  }
}

// The sums of both warps of each pair, in shared memory: [rows][kOutputs]. The first warp's come first.
template <int kTokenTiles>
QUIRE_DEVICE void add_pairs(Shared<float> sums, const float (&acc)[kTokenTiles][4], int warp, int lane) {
  for (int turn = 0; turn < kInputWarps; turn++) {
    if (warp % kInputWarps == turn) {
#pragma unroll
      for (int t = 0; t < kTokenTiles; t++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int row = 8 * t + 2 * (lane % 4) + i % 2;
          const int at = row * kOutputs + warp / kInputWarps * 16 + lane / 4 + i / 2 * 8;
          sums.store(at, turn == 0 ? acc[t][i] : sums.load(at) + acc[t][i]);
        }
      }
    }
    block_sync();
  }
}

// Whether this block is the last of the splits of its tile; the others' sums can then be read.
QUIRE_DEVICE bool is_last_split(uint32_t* counter, int num_splits, Shared<uint32_t> flag) {
  device_fence();
  block_sync();
  if (threadIdx.x == 0) {
    const uint32_t before = atomic_add_global(counter, 1);
    if (before + 1 == static_cast<uint32_t>(num_splits)) *counter = 0;
    flag.store(0, before + 1 == static_cast<uint32_t>(num_splits) ? 1 : 0);
    device_fence();
  }
  block_sync();
  return flag.load(0) != 0;
}

template <typename T, int kTokenTiles, int kGroup>
__global__ void __launch_bounds__(kThreads, Stage<kTokenTiles, kGroup>::kBlocks)
    awq_matmul_kernel(AwqParams<T> p) {
  using S = Stage<kTokenTiles, kGroup>;
  const int first_output = blockIdx.x * kOutputs;
  const int split = blockIdx.y;
  const int num_splits = gridDim.y;
  const int first_row = blockIdx.z * 8 * kTokenTiles;
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const int num_chunks = (p.num_inputs + kChunk - 1) / kChunk;
  const int first = split * p.chunks_per_split;
  const int last = first + p.chunks_per_split < num_chunks ? first + p.chunks_per_split : num_chunks;
  const auto start = [&](int chunk) {
    if (chunk < last) fetch<T>(S{chunk % S::kCount * S::kBytes}, p, chunk, first_output, first_row);
    copy_async_commit();
  };
  float acc[kTokenTiles][4] = {};
  for (int chunk = first; chunk < first + S::kCount - 1; chunk++) start(chunk);
  for (int chunk = first; chunk < last; chunk++) {
    copy_async_wait<S::kCount - 2>();
    // The chunk is there for all, and all have done with the one whose place the next takes.
    block_sync();
    start(chunk + S::kCount - 1);
    multiply_step<T>(acc, S{chunk % S::kCount * S::kBytes}, warp, lane);
  }
  copy_async_wait<0>();
  block_sync();
  const Shared<float> sums = shared_at<float>(0);
  add_pairs(sums, acc, warp, lane);
  const int rows = p.num_rows - first_row < 8 * kTokenTiles ? p.num_rows - first_row : 8 * kTokenTiles;
  const auto for_each_sum = [&](auto body) {
    for (int i = threadIdx.x; i < rows * kOutputs; i += kThreads) {
      const int n = first_output + i % kOutputs;
      if (n < p.num_outputs) body(first_row + i / kOutputs, n, sums.load(i));
    }
  };
  const auto write = [&](int row, int n, float sum) {
    p.out[row * p.out_stride + n] = from_float<T>(p.bias != nullptr ? sum + p.bias[n] : sum);
  };
  if (num_splits == 1) return for_each_sum(write);
  const auto partial = [&](int s, int row, int n) -> float& {
    return p.partials[(int64_t{s} * p.num_rows + row) * p.num_outputs + n];
  };
  for_each_sum([&](int row, int n, float sum) { partial(split, row, n) = sum; });
  const Shared<uint32_t> flag = shared_at<uint32_t>(8 * kTokenTiles * kOutputs * 4);
  if (!is_last_split(p.counters + blockIdx.z * gridDim.x + blockIdx.x, num_splits, flag)) return;
  for_each_sum([&](int row, int n, float) {
    float sum = 0;
    for (int s = 0; s < num_splits; s++) sum += partial(s, row, n);
    write(row, n, sum);
  });
}

// Splits that give every multiprocessor two blocks, each with enough turns to hide its first.
int chunks_per_split(int64_t outputs, int64_t inputs, int num_multiprocessors) {
  const int tiles = static_cast<int>((outputs + kOutputs - 1) / kOutputs);
  const int chunks = static_cast<int>((inputs + kChunk - 1) / kChunk);
  int splits = 2 * num_multiprocessors / tiles;
  if (splits > chunks / kMinChunksPerSplit) splits = chunks / kMinChunksPerSplit;
  if (splits < 1) splits = 1;
  return div_up(chunks, splits);
}

template <typename T, int kTokenTiles, int kGroup>
void launch_awq(const AwqParams<T>& p, Stream& stream) {
  using S = Stage<kTokenTiles, kGroup>;
  constexpr size_t kSums = 8 * kTokenTiles * kOutputs * 4 + 16;
  constexpr size_t kRing = size_t{S::kBytes} * S::kCount;
  const Grid grid = {static_cast<unsigned>(div_up(p.num_outputs, kOutputs)),
                     static_cast<unsigned>(div_up(div_up(p.num_inputs, kChunk), p.chunks_per_split)),
                     static_cast<unsigned>(div_up(p.num_rows, 8 * kTokenTiles))};
  if (grid.x * grid.z > Stream::kCounters) throw std::runtime_error("awq_matmul: more tiles than counters");
  launch("awq_matmul", awq_matmul_kernel<T, kTokenTiles, kGroup>, grid, kThreads,
         kRing > kSums ? kRing : kSums, stream, p);
}

template <typename T, int kGroup>
void launch_rows(const AwqParams<T>& p, Stream& stream) {
  if (p.num_rows <= 8) return launch_awq<T, 1, kGroup>(p, stream);
  if (p.num_rows <= 16) return launch_awq<T, 2, kGroup>(p, stream);
  if (p.num_rows <= 32) return launch_awq<T, 4, kGroup>(p, stream);
  launch_awq<T, 8, kGroup>(p, stream);
}

}  // namespace

size_t awq_scratch_bytes(int64_t outputs, int64_t inputs, int num_multiprocessors) {
  const int chunks = static_cast<int>((inputs + kChunk - 1) / kChunk);
  const int splits = div_up(chunks, chunks_per_split(outputs, inputs, num_multiprocessors));
  return splits == 1
             ? 0
             : static_cast<size_t>(splits) * kMaxAwqRows * static_cast<size_t>(outputs) * sizeof(float);
}

template <typename T>
void awq_matmul(const MatmulArgs& a, Stream& stream) {
  const Tensor& w = *a.weight;
  const AwqParams<T> params = {static_cast<T*>(a.out),
                               static_cast<const T*>(a.x),
                               static_cast<const Words4*>(w.data),
                               reinterpret_cast<const uint32_t*>(w.groups.scales),
                               a.bias == nullptr ? nullptr : static_cast<const float*>(a.bias->data),
                               static_cast<float*>(stream.scratch()),
                               stream.counters(),
                               a.x_stride,
                               a.out_stride,
                               a.num_tokens,
                               static_cast<int>(w.cols),
                               static_cast<int>(w.rows),
                               chunks_per_split(w.rows, w.cols, stream.num_multiprocessors())};
  switch (w.groups.group) {
    case 32:
      return launch_rows<T, 32>(params, stream);
    case 64:
      return launch_rows<T, 64>(params, stream);
    case 128:
      return launch_rows<T, 128>(params, stream);
    default:
      throw std::runtime_error("awq_matmul: no kernel for groups of " + std::to_string(w.groups.group));
  }
}

template void awq_matmul<Half>(const MatmulArgs&, Stream&);
template void awq_matmul<BFloat>(const MatmulArgs&, Stream&);

}  // namespace quire::cuda
