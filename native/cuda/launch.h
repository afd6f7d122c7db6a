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

#if defined(__CUDACC__)

inline void check_launch(const Stream& stream, cudaError_t error) {
  if (error == cudaSuccess) return;
  throw std::runtime_error("CUDA kernel " + stream.last_launch() + ": " + cudaGetErrorString(error));
}

// Beyond 48 kB of shared memory a kernel must be told so once.
template <typename... P>
void launch(const char* name, void (*kernel)(P...), Grid grid, int threads, size_t shared_bytes,
            Stream& stream, typename Same<P>::type... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  stream.note_launch(name, grid.x, grid.y, grid.z, threads);
  if (shared_bytes > 48 * 1024) {
    check_launch(stream, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                              static_cast<int>(shared_bytes)));
  }
  kernel<<<dim3(grid.x, grid.y, grid.z), threads, shared_bytes, static_cast<cudaStream_t>(stream.handle())>>>(
      arguments...);
  check_launch(stream, cudaGetLastError());
}

#else

template <typename... P>
void launch(const char* name, void (*kernel)(P...), Grid grid, int threads, size_t shared_bytes,
            Stream& stream, typename Same<P>::type... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  stream.enqueue([=] {
    simt::launch(name, {grid.x, grid.y, grid.z}, {static_cast<unsigned>(threads), 1, 1}, shared_bytes,
                 [&] { kernel(arguments...); });
  });
}

#endif

}  // namespace quire::cuda
