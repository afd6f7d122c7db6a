// Memory of the device under test, GPU or emulator, filled from and read back into vectors.
#pragma once

#include <cstring>
#include <vector>

#include "cuda/device.h"
#include "cuda/stream.h"
#include "float16.h"

namespace quire::test {

template <typename T>
class DeviceBuffer {
 public:
  // What is not given is poison: NaN in every float format.
  DeviceBuffer(cuda::Stream& stream, size_t size) : stream_(stream), size_(size) {
    memory_ = static_cast<T*>(stream.allocate(size * sizeof(T) + (size == 0)));
    std::vector<char> poison(size * sizeof(T), '\xff');
    stream.upload(memory_, poison.data(), poison.size());
    stream.synchronise();
  }
  DeviceBuffer(cuda::Stream& stream, const std::vector<T>& values) : DeviceBuffer(stream, values.size()) {
    stream.upload(memory_, values.data(), values.size() * sizeof(T));
    stream.synchronise();
  }
  ~DeviceBuffer() { stream_.release(memory_); }
  DeviceBuffer(const DeviceBuffer&) = delete;

  T* get() const { return memory_; }
  std::vector<T> read() const {
    std::vector<T> values(size_);
    stream_.download(values.data(), memory_, size_ * sizeof(T));
    stream_.synchronise();
    return values;
  }

 private:
  cuda::Stream& stream_;
  size_t size_;
  T* memory_ = nullptr;
};

// 16-bit activations and what they stand for.
template <typename T>
std::vector<T> rounded(const std::vector<float>& values) {
  std::vector<T> out(values.size());
  for (size_t i = 0; i < values.size(); i++) {
    set_element(out.data(), cuda::DTypeOf<T>::value, static_cast<int64_t>(i), values[i]);
  }
  return out;
}
template <typename T>
std::vector<float> widened(const std::vector<T>& values) {
  std::vector<float> out(values.size());
  for (size_t i = 0; i < values.size(); i++) {
    out[i] = element(values.data(), cuda::DTypeOf<T>::value, static_cast<int64_t>(i));
  }
  return out;
}

// Half the distance of neighbours at 1: what rounding to the format may cost, relatively.
template <typename T>
constexpr double rounding = cuda::DTypeOf<T>::value == DType::kF16    ? 0x1.0p-11
                            : cuda::DTypeOf<T>::value == DType::kBF16 ? 0x1.0p-8
                                                                      : 0x1.0p-4;

}  // namespace quire::test
