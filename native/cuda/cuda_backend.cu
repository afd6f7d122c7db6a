// The model on a GPU: weights as the kernels want them, the batch copied over at the start of a step and the
// results back at its end, everything on one stream. The emulator (simt/) stands in for the GPU where there
// is none.

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "backend.h"
#include "cuda/attention_launch.h"
#include "cuda/awq_launch.h"
#include "cuda/awq_matmul.h"
#include "cuda/devices.h"
#include "cuda/kernels.h"
#include "cuda/stream.h"
#include "float16.h"

namespace quire {

namespace {

using cuda::Stream;

constexpr int kLogitsRows = 256;

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
  explicit CudaBackend(const ModelOptions& options) : ops_(find_ops(options)), stream_(0) {}
  ~CudaBackend() override {
    for (void* memory : weights_) stream_.release(memory);
    stream_.release(arena_);
    stream_.release(counts_);
  }

  const char* description() const override { return ops_.name; }
  const Ops& ops() const override { return ops_; }
  Executor& executor() override { return stream_; }
  int max_logits_rows() const override { return kLogitsRows; }
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
  Tensor place(const Tensor& host) override;
  const Batch& begin_step(Arena& arena, const BatchSizes& sizes, const StepCounts& counts) override;
  void end_step(Arena& arena, const BatchSizes& sizes, const StepCounts& counts) override;

 private:
  template <typename T>
  const T* upload_weight(const std::vector<T>& values) {
    void* memory = stream_.allocate(values.size() * sizeof(T));
    weights_.push_back(memory);
    upload(memory, values.data(), values.size() * sizeof(T));
    return static_cast<const T*>(memory);
  }
  Tensor place_w4(const Tensor& host);
  void mirror(Arena& arena);

  const Ops& ops_;
  Stream stream_;
  std::vector<void*> weights_;
  size_t scratch_bytes_ = 0;
  Batch batch_{};          // pointers into the two below
  void* arena_ = nullptr;  // the arena again, array for array
  void* counts_ = nullptr;
  int64_t counts_capacity_ = 0;
};

void CudaBackend::prepare(const ModelConfig& config, const ModelOptions& options) {
  const size_t rows = options.sizes.max_num_batched_tokens;
  const int heads = config.num_heads;
  scratch_bytes_ = std::max(scratch_bytes_,
                            cuda::decode_scratch_bytes(options.sizes.max_num_seqs, heads, config.head_size));
  if (options.max_loras > 0) scratch_bytes_ = std::max(scratch_bytes_, rows * kMaxLoraRank * sizeof(float));
  stream_.reserve_scratch(scratch_bytes_);
}

Tensor CudaBackend::place(const Tensor& host) {
  Tensor placed = host;
  if (host.dtype == DType::kW4) return place_w4(host);
  const int64_t count = host.rows * host.cols;
  if (host.rows == 1) {
    std::vector<float> values(count);
    for (int64_t i = 0; i < count; i++) values[i] = element(host.data, host.dtype, i);
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
  if (!cuda::can_pack(host.rows, host.cols, host.w4.group)) {
    std::vector<uint16_t> values(host.rows * host.cols);
    placed.dtype = ops_.activations;
    placed.w4 = {};
    for (int64_t i = 0; i < host.rows * host.cols; i++) {
      set_element(values.data(), placed.dtype, i, matrix_element(host, i / host.cols, i % host.cols));
    }
    placed.data = upload_weight(values);
    return placed;
  }
  const cuda::PackedW4 packed = cuda::pack_w4(host);
  placed.data = upload_weight(packed.data);
  placed.w4.scales = reinterpret_cast<const float*>(upload_weight(packed.scales));
  placed.w4.zeros = nullptr;
  // One kernel at a time uses the scratch: the sums of its splits, or the weights written out.
  scratch_bytes_ = std::max({scratch_bytes_, static_cast<size_t>(host.rows * host.cols) * 2,
                             cuda::awq_scratch_bytes(host.rows, host.cols, stream_.num_multiprocessors())});
  return placed;
}

// The device's copy of the arena, made once; the token counts grow.
void CudaBackend::mirror(Arena& arena) {
  if (arena_ == nullptr) {
    arena_ = stream_.allocate(static_cast<size_t>(arena.bytes()));
    batch_ = arena.batch();
    const char* host = static_cast<const char*>(arena.memory().get());
    // Batch is nothing but pointers into the arena, and the two of the counts.
    auto** pointers = reinterpret_cast<char**>(&batch_);
    for (size_t i = 0; i < sizeof(Batch) / sizeof(char*); i++) {
      if (pointers[i] >= host && pointers[i] < host + arena.bytes()) {
        pointers[i] = static_cast<char*>(arena_) + (pointers[i] - host);
      }
    }
  }
  if (counts_capacity_ != arena.token_count_capacity()) {
    stream_.release(counts_);
    counts_capacity_ = arena.token_count_capacity();
    counts_ = stream_.allocate(static_cast<size_t>(counts_capacity_) * 2 * sizeof(int32_t));
    batch_.token_count_ids = static_cast<int32_t*>(counts_);
    batch_.token_counts = batch_.token_count_ids + counts_capacity_;
  }
}

const Batch& CudaBackend::begin_step(Arena& arena, const BatchSizes& sizes, const StepCounts& counts) {
  mirror(arena);
  const Batch& host = arena.batch();
  stream_.upload(arena_, arena.memory().get(), static_cast<size_t>(arena.front_bytes()));
  // Of the block table only the columns in use.
  int last_row = 0, blocks = 0;
  for (int i = 0; i < counts.num_seqs; i++) {
    last_row = std::max(last_row, host.seq_rows[i]);
    blocks = std::max(blocks, host.context_lens[i]);
  }
  // A block has at least 8 tokens.
  blocks = std::min(sizes.max_blocks_per_seq, blocks / 8 + 1);
  const size_t pitch = static_cast<size_t>(sizes.max_blocks_per_seq) * sizeof(int32_t);
  stream_.upload_rows(batch_.block_table, host.block_table, static_cast<size_t>(blocks) * sizeof(int32_t),
                      pitch, static_cast<size_t>(last_row) + 1);
  const int rows = counts.num_logits_rows;
  const auto upload_some = [&](void* to, const void* from, int count) {
    if (count > 0) stream_.upload(to, from, static_cast<size_t>(count) * 4);
  };
  upload_some(batch_.logit_bias_ids, host.logit_bias_ids, host.logit_bias_start[rows]);
  upload_some(batch_.logit_bias_values, host.logit_bias_values, host.logit_bias_start[rows]);
  upload_some(batch_.token_count_ids, host.token_count_ids, host.token_count_start[rows]);
  upload_some(batch_.token_counts, host.token_counts, host.token_count_start[rows]);
  return batch_;
}

void CudaBackend::end_step(Arena& arena, const BatchSizes& sizes, const StepCounts& counts) {
  const Batch& host = arena.batch();
  const size_t rows = static_cast<size_t>(counts.num_logits_rows);
  if (rows > 0) {
    stream_.download(host.sampled_token_ids, batch_.sampled_token_ids, rows * 4);
    stream_.download(host.sampled_logprobs, batch_.sampled_logprobs, rows * 4);
    stream_.download(host.sampled_ranks, batch_.sampled_ranks, rows * 4);
    int most = 0;
    for (size_t i = 0; i < rows; i++) most = std::max(most, host.num_logprobs[i]);
    if (most > 0) {
      const size_t bytes = rows * static_cast<size_t>(sizes.max_logprobs) * 4;
      stream_.download(host.top_token_ids, batch_.top_token_ids, bytes);
      stream_.download(host.top_logprobs, batch_.top_logprobs, bytes);
    }
  }
  stream_.synchronise();
}

}  // namespace

std::unique_ptr<Backend> open_cuda_backend(const ModelOptions& options) {
  return std::make_unique<CudaBackend>(options);
}

}  // namespace quire
