// 4-bit weights written out as 16-bit floats, [outputs, inputs]: what a dense matmul of many rows then reads.
// One warp a tile of 16 outputs by 64 inputs. Bound: memory bandwidth, mostly the writing.

#include "cuda/awq_launch.h"
#include "cuda/awq_matmul.h"
#include "cuda/launch.h"

namespace quire::cuda {

namespace {

constexpr int kWarpsPerBlock = 4;

template <typename T>
__global__ void awq_dequantise_kernel(T* out, const Words4* weights, const uint32_t* scales, int num_outputs,
                                      int num_inputs, int group) {
  const int64_t tile = int64_t{blockIdx.x} * kWarpsPerBlock + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int tiles_per_row = num_inputs / 64;
  if (tile >= int64_t{num_outputs / 16} * tiles_per_row) return;
  const int output = static_cast<int>(tile / tiles_per_row) * 16 + lane / 4;
  const int input = static_cast<int>(tile % tiles_per_row) * 64 + 2 * (lane % 4);
  const Words4 words = load_streaming(weights + tile * kWarp + lane);
#pragma unroll
  for (int w = 0; w < 4; w++) {
#pragma unroll
    for (int pair = 0; pair < 4; pair++) {
      const int row = output + 8 * (pair % 2);
      const int col = input + 16 * w + 8 * (pair / 2);
      const uint32_t scale_and_zero = scales[int64_t{col / group} * num_outputs + row];
      const float scale = to_float(Half{static_cast<uint16_t>(scale_and_zero)});
      const int zero = static_cast<int>(scale_and_zero >> 16);
      const int low = static_cast<int>(words.w[w] >> (4 * pair) & 15) - zero;
      const int high = static_cast<int>(words.w[w] >> (4 * pair + 16) & 15) - zero;
      const uint32_t two = pack<T>(static_cast<float>(low) * scale, static_cast<float>(high) * scale);
      memcpy(out + int64_t{row} * num_inputs + col, &two, 4);
    }
  }
}

}  // namespace

template <typename T>
void awq_dequantise(T* out, const Tensor& w, Stream& stream) {
  const int64_t tiles = w.rows / 16 * (w.cols / 64);
  launch("awq_dequantise", awq_dequantise_kernel<T>,
         {static_cast<unsigned>((tiles + kWarpsPerBlock - 1) / kWarpsPerBlock)}, kWarpsPerBlock * kWarp, 0,
         stream, out, static_cast<const Words4*>(w.data), reinterpret_cast<const uint32_t*>(w.groups.scales),
         static_cast<int>(w.rows), static_cast<int>(w.cols), w.groups.group);
}

template void awq_dequantise<Half>(Half*, const Tensor&, Stream&);
template void awq_dequantise<BFloat>(BFloat*, const Tensor&, Stream&);

}  // namespace quire::cuda
