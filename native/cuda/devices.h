// The GPUs of this machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace quire::cuda {

struct Device {
  std::string name;
  int major, minor;  // compute capability
  int num_multiprocessors;
  int64_t free_bytes, total_bytes;
};

struct Devices {
  std::vector<Device> list;
  int driver_version = 0;  // as CUDA counts: 13000 is 13.0; 0 when there is no driver
  std::string problem;     // why the list is empty
};

Devices find_devices();

// Compute capabilities below this have no kernels here.
constexpr int kMinMajor = 8;

}  // namespace quire::cuda
