#include "cuda/devices.h"

#include <cuda_runtime.h>

namespace quire::cuda {

Devices find_devices() {
  Devices devices;
  cudaDriverGetVersion(&devices.driver_version);
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    devices.problem = cudaGetErrorString(error);
    return devices;
  }
  for (int i = 0; i < count; i++) {
    cudaDeviceProp properties{};
    size_t free = 0, total = 0;
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess || cudaSetDevice(i) != cudaSuccess) continue;
    cudaMemGetInfo(&free, &total);
    devices.list.push_back({properties.name, properties.major, properties.minor,
                            properties.multiProcessorCount, static_cast<int64_t>(free),
                            static_cast<int64_t>(total)});
  }
  if (devices.list.empty()) devices.problem = "no CUDA device was found";
  return devices;
}

}  // namespace quire::cuda
