// Launches: the one place where a kernel meets a grid.
#pragma once

#include <stdexcept>
#include <string>

#include "cuda/device.h"
#include "cuda/stream.h"

namespace quire::cuda {

struct Grid {
  unsigned x = 1, y = 1, z = 1;
};

template <typename T>
struct Same {
  using type = T;
};

// "rms_norm of 12 x 1 x 1 blocks of 256 threads"
inline std::string launch_text(const char* name, const Grid& grid, int threads) {
  return std::string(name) + " of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " +
         std::to_string(grid.z) + " blocks of " + std::to_string(threads) + " threads";
}

#if defined(__CUDACC__)

inline void check_launch(const std::string& what, cudaError_t error) {
  if (error == cudaSuccess) return;
  throw std::runtime_error("CUDA kernel " + what + ": " + cudaGetErrorString(error));
}

// Beyond 48 kB of shared memory a kernel must be told so once.
template <typename... P>
void launch(const char* name, void (*kernel)(P...), Grid grid, int threads, size_t shared_bytes,
            Stream& stream, typename Same<P>::type... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  stream.note_launch(name, {grid.x, grid.y, grid.z, static_cast<unsigned>(threads)});
  if (shared_bytes > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(shared_bytes));
    if (error != cudaSuccess) check_launch(launch_text(name, grid, threads), error);
  }
  kernel<<<dim3(grid.x, grid.y, grid.z), threads, shared_bytes, static_cast<cudaStream_t>(stream.handle())>>>(
      arguments...);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) check_launch(launch_text(name, grid, threads), error);
}

#else

template <typename... P>
void launch(const char* name, void (*kernel)(P...), Grid grid, int threads, size_t shared_bytes, Stream&,
            typename Same<P>::type... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  simt::launch(name, {grid.x, grid.y, grid.z}, {static_cast<unsigned>(threads), 1, 1}, shared_bytes,
               [&] { kernel(arguments...); });
}

#endif

}  // namespace quire::cuda
