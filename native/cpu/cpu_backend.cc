// The model on this machine's processor: everything is host memory, so nothing is moved.

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>
#include <vector>

#include "backend.h"
#include "coded_bf16.h"
#include "integer_rounding.h"
#include "packed_cache.h"
#include "rounded_activations.h"
#include "thread_pool.h"
#include "weight_panels.h"
#include "weight_tiles.h"

namespace quire {

namespace {

constexpr int kLogitsRows = 64;
const Ops* find_ops(const ModelOptions& options) {
  if (options.backend == "reference") return &reference_ops();
  if (options.kv_cache_dtype == DType::kF8) {
    throw std::runtime_error("fp8 keys and values need a GPU: on the CPU int8_per_token_head is as small");
  }
  // Without rounding there is nothing for tiles to multiply, and bf16 weights meet f32 activations.
  const bool rounds = options.rounds_activations;
  const Ops* avx512 = rounds && cpu_ops_avx512_bf16() != nullptr ? cpu_ops_avx512_bf16() : cpu_ops_avx512();
  const std::pair<const char*, const Ops*> best_first[] = {
      {"amx", rounds || cpu_ops_amx() == nullptr ? cpu_ops_amx() : avx512},
      {"avx512", avx512},
      {"avx2", cpu_ops_avx2()},
      {"portable", cpu_ops_portable()}};
  const std::string& wanted = options.cpu_variant;
  for (const auto& [name, ops] : best_first) {
    if (ops != nullptr && (wanted.empty() || wanted == name)) return ops;
  }
  throw std::runtime_error("this machine cannot run the CPU variant " + wanted);
}

std::shared_ptr<ThreadPool> find_pool(const ModelOptions& options) {
  if (options.pool != nullptr) return options.pool;
  const int threads = options.backend == "reference" ? 1 : options.threads;
  return std::make_shared<ThreadPool>(threads, options.cpu_affinity);
}

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(const ModelOptions& options)
      : ops_(find_ops(options)),
        shared_pool_(find_pool(options)),
        pool_(*shared_pool_),
        rounds_activations_(options.rounds_activations && options.backend != "reference"),
        packed_cache_(options.packed_cache) {}
  ~CpuBackend() override {
    for (const auto& [memory, bytes] : placed_) release(memory, bytes);
  }

  const char* description() const override { return ops_->name; }
  const Ops& ops() const override { return *ops_; }
  Executor& executor() override { return pool_; }
  std::shared_ptr<ThreadPool> pool() const override { return shared_pool_; }
  int max_logits_rows() const override { return kLogitsRows; }
  int padded_rows(int rows) const override { return rows; }
  size_t sample_scratch(int vocab_size) const override {
    return size_t{2} * pool_.num_threads() * vocab_size;
  }
  void prepare(const ModelConfig& config, const ModelOptions& options) override {
    const int64_t rows =
        int64_t{options.sizes.max_num_batched_tokens} * std::max(1, config.experts_per_token);
    const int64_t cols =
        std::max({config.hidden_size, config.intermediate_size, config.num_heads * config.head_size});
    pool_.reserve_workspace(std::max(int8_bytes(rows, cols), bf16_bytes(rows, cols)));
    packed_cache_.finish(pool_);
  }

  int padded_head_size(int head_size) const override {
    if (head_size % 2 == 0 && head_size <= 256) return head_size;
    throw std::runtime_error("head size " + std::to_string(head_size) +
                             " is not supported: even sizes up to 256 are");
  }

  // Taken from the system as it is touched, in large pages where it has them: weights are read from end to
  // end in every step, and keys and values lie in runs of a few KB, which would otherwise need a translation
  // each.
  void* allocate(size_t bytes) override {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
  }
  void release(void* memory, size_t bytes) override { munmap(memory, bytes); }
  void upload(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  size_t total_bytes() const override { return 0; }
  size_t free_bytes() const override { return 0; }
  bool joins(DType form) const override { return rounds_activations_ && is_integer(form); }
  bool has_int8_activations() const override { return rounds_activations_; }
  Tensor place(const Tensor& host) override;
  // What is looked up stays where it is, in the mapped file.
  Tensor place_rows(const Tensor& host) override { return host; }
  Tensor place_rounded(const Tensor& host, int bits) override;
  bool packs_tiles() const override { return rounds_activations_; }
  Tensor place_stacked(const std::vector<Tensor>& parts, int rounded_bits) override;
  PackedCacheReport packed_cache() const override { return packed_cache_.report(); }
  bool is_async() const override { return false; }
  const Batch& begin_forward(Arena& arena, const BatchSizes&, StepShape&) override { return arena.batch(); }
  void begin_sampling(Arena&, const BatchSizes&, StepShape&) override {}
  void run_forward(const StepShape&, const std::function<void()>& call) override { call(); }
  void run_sampling(const StepShape&, const std::function<void()>& call) override { call(); }
  std::vector<int> recorded_sizes() const override { return {}; }
  void forget_recordings() override {}
  void end_step(const BatchSizes&, const StepShape&) override {}
  void collect(Arena&, const BatchSizes&) override {}

 private:
  // Until the backend ends.
  void* place_memory(size_t bytes) {
    void* memory = allocate(bytes);
    placed_.emplace_back(memory, bytes);
    return memory;
  }
  PackedCache::Place next_packed(size_t bytes) {
    return packed_cache_.next(
        bytes, [this](size_t count) { return place_memory(count); }, pool_);
  }
  void pack_rounded(const TilePacker& packer, const Tensor& part, int64_t first_row, int bits);
  Tensor place_in_rows(const Tensor& host, int bits);
  const void* pack_coded_once(const Tensor& host);

  const Ops* const ops_;
  const std::shared_ptr<ThreadPool> shared_pool_;
  ThreadPool& pool_;
  const bool rounds_activations_;
  PackedCache packed_cache_;
  std::vector<std::pair<void*, size_t>> placed_;
};

// A list of exceptions says where to write, so one from a file is looked at first.
const void* CpuBackend::pack_coded_once(const Tensor& host) {
  auto [memory, is_packed] = next_packed(coded_bytes(host));
  if (is_packed && is_sound_coded(host, memory)) return memory;
  if (is_packed) memory = place_memory(coded_bytes(host));
  pack_coded(host, memory, pool_);
  return memory;
}

Tensor CpuBackend::place(const Tensor& host) {
  const bool is_matrix = host.rows > 1;
  if (is_matrix && !is_integer(host.dtype) && ops_ != &reference_ops()) {
    if (host.dtype == DType::kBF16) {
      const void* memory = pack_coded_once(host);
      if (is_coded_at(memory)) return coded_at(host, memory);
    }
    const auto [memory, is_packed] = next_packed(panel_bytes(host));
    if (!is_packed) pack_panels(host, memory, pool_);
    return panels_at(host, memory);
  }
  return is_integer(host.dtype) && rounds_activations_ ? place_stacked({host}, 0) : host;
}

Tensor CpuBackend::place_rounded(const Tensor& host, int bits) {
  return rounds_activations_ ? place_stacked({host}, bits) : place_in_rows(host, bits);
}

Tensor CpuBackend::place_stacked(const std::vector<Tensor>& parts, int rounded_bits) {
  Tensor shape = {nullptr, DType::kW8, 0, parts[0].cols, {nullptr, nullptr, rounding_group(parts[0].cols)}};
  if (rounded_bits == 0) {
    shape.dtype = parts[0].dtype;
    shape.groups.group = parts[0].groups.group;
  }
  for (const Tensor& part : parts) shape.rows += part.rows;
  const int bits = rounded_bits > 0 ? rounded_bits : bits_of(shape.dtype);
  const bool has_zeros = rounded_bits == 0 && std::any_of(parts.begin(), parts.end(), needs_zeros);
  TilePacker packer(shape, bits, has_zeros);
  const auto [memory, is_packed] = next_packed(packer.bytes());
  packer.start(memory);
  if (is_packed) return packer.tiles();
  int64_t first_row = 0;
  for (const Tensor& part : parts) {
    if (rounded_bits > 0) {
      pack_rounded(packer, part, first_row, bits);
    } else {
      packer.pack(part, first_row, pool_);
    }
    first_row += part.rows;
  }
  return packer.tiles();
}

// Some rows at a time, so that a whole copy never lies between the matrix and its tiles.
void CpuBackend::pack_rounded(const TilePacker& packer, const Tensor& matrix, int64_t first_row, int bits) {
  constexpr int64_t kRows = 1024;
  static_assert(kRows % kTileRows == 0, "parts begin with a tile");
  const int group = rounding_group(matrix.cols);
  const int64_t part_rows = std::min(matrix.rows, kRows);
  std::vector<uint8_t> data(static_cast<size_t>(part_rows * matrix.cols));
  std::vector<float> scales(data.size() / group);
  std::vector<uint8_t> zeros(scales.size());
  Tensor part = {data.data(), DType::kW8, 0, matrix.cols, {scales.data(), zeros.data(), group}};
  for (int64_t row = 0; row < matrix.rows; row += kRows) {
    part.rows = std::min(kRows, matrix.rows - row);
    round_to_integers(matrix, bits, row, part, pool_);
    packer.pack(part, first_row + row, pool_);
  }
}

Tensor CpuBackend::place_in_rows(const Tensor& host, int bits) {
  const int group = rounding_group(host.cols);
  const auto count = static_cast<size_t>(host.rows * host.cols);
  auto* data = static_cast<uint8_t*>(place_memory(count));
  auto* scales = static_cast<float*>(place_memory(count / group * sizeof(float)));
  auto* zeros = static_cast<uint8_t*>(place_memory(count / group));
  const Tensor rounded = {data, DType::kW8, host.rows, host.cols, {scales, zeros, group}};
  round_to_integers(host, bits, 0, rounded, pool_);
  return rounded;
}

}  // namespace

std::unique_ptr<Backend> open_cpu_backend(const ModelOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

}  // namespace quire
