// The model on a GPU: weights as the kernels want them, the batch copied over at the start of a step and the
// results back at its end, everything on one stream, two steps under way. The emulator (simt/) stands in for
// the GPU where there is none.

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "backend.h"
#include "cuda/attention_launch.h"
#include "cuda/awq_launch.h"
#include "cuda/awq_matmul.h"
#include "cuda/devices.h"
#include "cuda/f8_matmul.h"
#include "cuda/kernels.h"
#include "cuda/step_buffers.h"
#include "cuda/stream.h"
#include "float16.h"

namespace quire {

namespace {

using cuda::Stream;

constexpr int kLogitsRows = 256;
constexpr int kLargestRecorded = 512;
constexpr int kSmallestRecordedContext = 512;

template <typename T>
constexpr Ops make_table(const char* name) {
  return {name,
          cuda::DTypeOf<T>::value,
          cuda::embed,
          cuda::rms_norm<T>,
          cuda::matmul<T>,
          cuda::lora_matmul<T>,
          cuda::rope_table,
          cuda::rope_and_cache<T>,
          cuda::attention<T>,
          cuda::silu_mul<T>,
          cuda::gelu_mul<T>,
          cuda::moe_route,
          cuda::grouped_matmul<T>,
          cuda::moe_combine<T>,
          cuda::soft_cap,
          cuda::gather_rows,
          cuda::sample,
          cuda::copy_blocks};
}

constexpr Ops kHalfOps = make_table<cuda::Half>("cuda f16");
constexpr Ops kBFloatOps = make_table<cuda::BFloat>("cuda bf16");

const Ops& find_ops(const ModelOptions& options) {
  const cuda::Devices devices = cuda::find_devices();
  if (devices.list.empty()) throw std::runtime_error("no GPU can be used: " + devices.problem);
  const cuda::Device& device = devices.list[0];
  if (device.major < cuda::kMinMajor) {
    throw std::runtime_error("the GPU " + device.name + " has compute capability " +
                             std::to_string(device.major) + "." + std::to_string(device.minor) +
                             ", at least " + std::to_string(cuda::kMinMajor) +
                             ".0 is supported: use --backend cpu");
  }
  if (options.keep_dtype || options.dtype == DType::kF32) {
    throw std::runtime_error("a GPU runs float16 or bfloat16: name one of them as --dtype");
  }
  return options.dtype == DType::kF16 ? kHalfOps : kBFloatOps;
}

class CudaBackend : public Backend {
 public:
  explicit CudaBackend(const ModelOptions& options) : ops_(find_ops(options)), stream_(0), buffers_(stream_) {
    stream_.is_batch_invariant = options.batch_invariant;
  }
  ~CudaBackend() override {
    stream_.synchronise();
    for (void* memory : weights_) stream_.release(memory);
  }

  const char* description() const override { return ops_.name; }
  const Ops& ops() const override { return ops_; }
  Executor& executor() override { return stream_; }
  int max_logits_rows() const override { return kLogitsRows; }
  int padded_rows(int rows) const override {
    if (!stream_.is_batch_invariant) return rows;
    return cuda::div_up(rows, cuda::kInvariantRows) * cuda::kInvariantRows;
  }
  size_t sample_scratch(int vocab_size) const override { return size_t{kLogitsRows} * vocab_size; }

  int padded_head_size(int head_size) const override {
    for (int size : cuda::kHeadSizes) {
      if (head_size <= size) return size;
    }
    throw std::runtime_error("head size " + std::to_string(head_size) + " is not supported: up to 256 is");
  }

  void prepare(const ModelConfig& config, const ModelOptions& options) override;

  void* allocate(size_t bytes) override {
    void* memory = stream_.allocate(bytes);
    stream_.clear(memory, bytes);
    return memory;
  }
  void release(void* memory, size_t) override { stream_.release(memory); }
  void upload(void* to, const void* from, size_t bytes) override {
    stream_.upload(to, from, bytes);
    stream_.synchronise();
  }
  void download(void* to, const void* from, size_t bytes) override {
    stream_.download(to, from, bytes);
    stream_.synchronise();
  }

  size_t total_bytes() const override { return stream_.total_bytes(); }
  size_t free_bytes() const override { return stream_.free_bytes(); }
  bool joins(DType) const override { return true; }
  bool has_f8_matmul(int64_t rows, int64_t cols) const override {
    return stream_.compute_capability >= cuda::kF8Capability && cuda::can_multiply_f8(rows, cols);
  }
  Tensor place(const Tensor& host) override;
  Tensor place_rounded(const Tensor&, int) override {
    throw std::runtime_error("weights rounded to integers need the CPU: set --quantization to auto");
  }
  bool is_async() const override { return true; }
  const Batch& begin_forward(Arena& arena, const BatchSizes& sizes, StepShape& shape) override;
  void begin_sampling(Arena& arena, const BatchSizes& sizes, StepShape& shape) override;
  void run_forward(const StepShape& shape, const std::function<void()>& call) override;
  void run_sampling(const StepShape& shape, const std::function<void()>& call) override;
  std::vector<int> recorded_sizes() const override;
  void forget_recordings() override {
    forward_recordings_.clear();
    sampling_recordings_.clear();
  }
  void end_step(const BatchSizes& sizes, const StepShape& shape) override { buffers_.download(sizes, shape); }
  void collect(Arena& arena, const BatchSizes&) override { buffers_.collect(arena); }

 private:
  template <typename T>
  const T* upload_weight(const std::vector<T>& values) {
    void* memory = stream_.allocate(values.size() * sizeof(T));
    weights_.push_back(memory);
    upload(memory, values.data(), values.size() * sizeof(T));
    return static_cast<const T*>(memory);
  }
  Tensor place_w4(const Tensor& host);
  Tensor place_f8(const Tensor& host);
  // By what a recording depends on: tokens, rounded context and whether adapters are used, or rows alone.
  using Recordings = std::map<std::tuple<int, int, bool>, std::shared_ptr<void>>;
  bool has_recordable_layers(const StepShape& shape) const;
  bool has_recordable_rows(const StepShape& shape) const;
  int rounded_up(int size) const;
  void replay(Recordings& recordings, const Recordings::key_type& key, const std::function<void()>& call);

  const Ops& ops_;
  Stream stream_;
  std::vector<void*> weights_;
  size_t scratch_bytes_ = 0;
  cuda::StepBuffers buffers_;
  int largest_recorded_ = 0;
  int recorded_generation_ = 0;
  Recordings forward_recordings_, sampling_recordings_;
};

void CudaBackend::prepare(const ModelConfig& config, const ModelOptions& options) {
  const size_t rows = options.sizes.max_num_batched_tokens;
  const int heads = config.num_heads;
  scratch_bytes_ = std::max(scratch_bytes_,
                            cuda::decode_scratch_bytes(options.sizes.max_num_seqs, heads, config.head_size));
  if (options.max_loras > 0) scratch_bytes_ = std::max(scratch_bytes_, rows * kMaxLoraRank * sizeof(float));
  stream_.reserve_scratch(scratch_bytes_);
  largest_recorded_ =
      std::min({kLargestRecorded, options.sizes.max_num_seqs, options.sizes.max_num_batched_tokens});
}

Tensor CudaBackend::place(const Tensor& host) {
  Tensor placed = host;
  if (host.dtype == DType::kW4) return place_w4(host);
  if (host.dtype == DType::kF8) return place_f8(host);
  const int64_t count = host.rows * host.cols;
  if (host.rows == 1) {
    std::vector<char> values(cuda::narrow_copy(count) + static_cast<size_t>(count) * 2);
    for (int64_t i = 0; i < count; i++) {
      const float value = element(host.data, host.dtype, i);
      set_element(values.data(), DType::kF32, i, value);
      set_element(values.data() + cuda::narrow_copy(count), ops_.activations, i, value);
    }
    placed.dtype = DType::kF32;
    placed.data = upload_weight(values);
    return placed;
  }
  std::vector<uint16_t> values(count);
  placed.dtype = ops_.activations;
  if (host.dtype == placed.dtype) {
    std::memcpy(values.data(), host.data, values.size() * 2);
  } else {
    for (int64_t i = 0; i < count; i++)
      set_element(values.data(), placed.dtype, i, element(host.data, host.dtype, i));
  }
  placed.data = upload_weight(values);
  return placed;
}

// A shape that the 4-bit kernels do not have becomes dense.
Tensor CudaBackend::place_w4(const Tensor& host) {
  Tensor placed = host;
  if (!cuda::can_pack(host.rows, host.cols, host.groups.group)) {
    std::vector<uint16_t> values(host.rows * host.cols);
    placed.dtype = ops_.activations;
    placed.groups = {};
    for (int64_t i = 0; i < host.rows * host.cols; i++) {
      set_element(values.data(), placed.dtype, i, matrix_element(host, i / host.cols, i % host.cols));
    }
    placed.data = upload_weight(values);
    return placed;
  }
  const cuda::PackedW4 packed = cuda::pack_w4(host);
  placed.data = upload_weight(packed.data);
  placed.groups.scales = reinterpret_cast<const float*>(upload_weight(packed.scales));
  placed.groups.zeros = nullptr;
  // One kernel at a time uses the scratch: the sums of its splits, or the weights written out.
  scratch_bytes_ = std::max({scratch_bytes_, static_cast<size_t>(host.rows * host.cols) * 2,
                             cuda::awq_scratch_bytes(host.rows, host.cols, stream_.num_multiprocessors())});
  return placed;
}

Tensor CudaBackend::place_f8(const Tensor& host) {
  Tensor placed = host;
  const auto* data = static_cast<const uint8_t*>(host.data);
  placed.data = upload_weight(std::vector<uint8_t>(data, data + host.rows * host.cols));
  placed.row_scales = upload_weight(std::vector<float>(host.row_scales, host.row_scales + host.rows));
  scratch_bytes_ = std::max(scratch_bytes_, cuda::f8_scratch_bytes(host.rows, host.cols));
  return placed;
}

// Steps of nothing but decodes, in a few sizes, are recorded when they first run, and replayed from then on.
bool CudaBackend::has_recordable_layers(const StepShape& shape) const {
  return shape.num_decodes == shape.num_tokens && shape.num_tokens <= largest_recorded_;
}

bool CudaBackend::has_recordable_rows(const StepShape& shape) const {
  return has_recordable_layers(shape) && shape.num_logits_rows > 0 && shape.num_hidden_rows == 0;
}

// A power of two up to 8, then multiples of 8.
std::vector<int> CudaBackend::recorded_sizes() const {
  std::vector<int> sizes;
  for (int size = 1; size < largest_recorded_; size += size < 8 ? size : 8) sizes.push_back(size);
  sizes.push_back(largest_recorded_);
  return sizes;
}

int CudaBackend::rounded_up(int asked) const {
  int size = 1;
  while (size < asked) size += size < 8 ? size : 8;
  return std::min(size, largest_recorded_);
}

// The context goes to the next power of two, which bounds the splits of paged_attention_decode.
const Batch& CudaBackend::begin_forward(Arena& arena, const BatchSizes& sizes, StepShape& shape) {
  const StepShape asked = shape;
  if (has_recordable_layers(asked)) {
    shape.num_tokens = shape.num_seqs = shape.num_decodes = rounded_up(asked.num_tokens);
    int context_len = kSmallestRecordedContext;
    while (context_len < shape.max_context_len) context_len *= 2;
    shape.max_context_len = context_len;
  }
  stream_.note_step(shape.num_tokens, shape.num_seqs);
  const Batch& batch = buffers_.upload_tokens(arena, sizes, asked, shape);
  if (buffers_.has_pending()) cuda::feed_back_tokens(batch, asked.num_tokens, stream_);
  return batch;
}

void CudaBackend::begin_sampling(Arena& arena, const BatchSizes& sizes, StepShape& shape) {
  const StepShape asked = shape;
  if (has_recordable_rows(asked)) shape.num_logits_rows = rounded_up(asked.num_logits_rows);
  buffers_.upload_rows(arena, sizes, asked, shape);
  if (buffers_.has_pending() && asked.num_logits_rows > 0)
    cuda::feed_back_counts(buffers_.batch(), asked.num_logits_rows, stream_);
}

void CudaBackend::run_forward(const StepShape& shape, const std::function<void()>& call) {
  if (!has_recordable_layers(shape)) return call();
  replay(forward_recordings_, {shape.num_tokens, shape.max_context_len, shape.uses_adapters}, call);
}

void CudaBackend::run_sampling(const StepShape& shape, const std::function<void()>& call) {
  if (!has_recordable_rows(shape)) return call();
  replay(sampling_recordings_, {shape.num_logits_rows, 0, false}, call);
}

void CudaBackend::replay(Recordings& recordings, const Recordings::key_type& key,
                         const std::function<void()>& call) {
  // The recorded launches point to the arrays as they lay then.
  if (recorded_generation_ != buffers_.generation()) forget_recordings();
  recorded_generation_ = buffers_.generation();
  auto& recording = recordings[key];
  if (recording != nullptr) return stream_.replay(recording);
  // Once as it is: what is looked up or loaded on first use must not be in the middle of a recording.
  call();
  stream_.begin_recording();
  call();
  recording = stream_.end_recording();
}

}  // namespace

std::unique_ptr<Backend> open_cuda_backend(const ModelOptions& options) {
  return std::make_unique<CudaBackend>(options);
}

}  // namespace quire
