#include "cuda/stream.h"

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace quire::cuda {

namespace {

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA ") + what + ": " + cudaGetErrorString(error));
}

cudaStream_t as_stream(void* handle) { return static_cast<cudaStream_t>(handle); }

}  // namespace

Stream::Stream(int device) {
  check(cudaSetDevice(device), "device");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  handle_ = stream;
  counters_ = static_cast<uint32_t*>(allocate(kCounters * sizeof(uint32_t)));
  clear(counters_, kCounters * sizeof(uint32_t));
  for (void*& mark : marks_) {
    cudaEvent_t event = nullptr;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
    mark = event;
  }
  int major = 0, minor = 0;
  for (const auto& [value, attribute] : {std::pair{&num_multiprocessors_, cudaDevAttrMultiProcessorCount},
                                         std::pair{&major, cudaDevAttrComputeCapabilityMajor},
                                         std::pair{&minor, cudaDevAttrComputeCapabilityMinor}}) {
    check(cudaDeviceGetAttribute(value, attribute, device), "device attributes");
  }
  compute_capability = 10 * major + minor;
}

Stream::~Stream() {
  blas.reset();
  cudaFree(counters_);
  cudaFree(scratch_);
  for (void* mark : marks_) cudaEventDestroy(static_cast<cudaEvent_t>(mark));
  cudaStreamDestroy(as_stream(handle_));
}

void* Stream::allocate(size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), ("memory of " + std::to_string(bytes) + " bytes").c_str());
  return memory;
}

void Stream::release(void* memory) { cudaFree(memory); }

void* Stream::allocate_host(size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes),
        ("page-locked memory of " + std::to_string(bytes) + " bytes").c_str());
  return memory;
}

void Stream::release_host(void* memory) { cudaFreeHost(memory); }

void Stream::upload(void* to, const void* from, size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, as_stream(handle_)), "upload");
}

void Stream::upload_rows(void* to, const void* from, size_t bytes, size_t pitch, size_t rows) {
  check(cudaMemcpy2DAsync(to, pitch, from, pitch, bytes, rows, cudaMemcpyHostToDevice, as_stream(handle_)),
        "upload");
}

void Stream::download(void* to, const void* from, size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, as_stream(handle_)), "download");
}

void Stream::clear(void* memory, size_t bytes) {
  check(cudaMemsetAsync(memory, 0, bytes, as_stream(handle_)), "clearing of memory");
}

void Stream::note_launch(const char* name, unsigned x, unsigned y, unsigned z, int threads) {
  last_ = {name, x, y, z, threads};
}

std::string Stream::last_launch() const {
  return std::string(last_.name) + " of " + std::to_string(last_.x) + " x " + std::to_string(last_.y) +
         " x " + std::to_string(last_.z) + " blocks of " + std::to_string(last_.threads) +
         " threads, in a step of " + std::to_string(step_.num_tokens) + " tokens in " +
         std::to_string(step_.num_seqs) + " sequences";
}

void Stream::synchronise() {
  const cudaError_t error = cudaStreamSynchronize(as_stream(handle_));
  if (error != cudaSuccess) check(error, ("step, last launched " + last_launch()).c_str());
}

void Stream::mark(int which) {
  check(cudaEventRecord(static_cast<cudaEvent_t>(marks_[which]), as_stream(handle_)), "event");
}

void Stream::wait(int which) {
  const cudaError_t error = cudaEventSynchronize(static_cast<cudaEvent_t>(marks_[which]));
  if (error != cudaSuccess) check(error, ("step, last launched " + last_launch()).c_str());
}

void Stream::begin_recording() {
  check(cudaStreamBeginCapture(as_stream(handle_), cudaStreamCaptureModeRelaxed), "recording");
}

std::shared_ptr<void> Stream::end_recording() {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(as_stream(handle_), &graph), "recording");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "recording");
  return {executable, [](void* recording) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(recording)); }};
}

void Stream::replay(const std::shared_ptr<void>& recording) {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(recording.get()), as_stream(handle_)), "replay");
}

size_t Stream::free_bytes() const {
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "free memory");
  return free;
}

size_t Stream::total_bytes() const {
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "memory");
  return total;
}

void Stream::reserve_scratch(size_t bytes) {
  if (bytes <= scratch_bytes_) return;
  synchronise();
  release(scratch_);
  scratch_ = nullptr;
  scratch_ = allocate(bytes);
  scratch_bytes_ = bytes;
}

}  // namespace quire::cuda
