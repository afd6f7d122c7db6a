// The model on this machine's processor: everything is host memory, so nothing is moved.

#include <sys/mman.h>

#include <cstring>
#include <new>
#include <stdexcept>

#include "backend.h"
#include "thread_pool.h"

namespace quire {

namespace {

constexpr int kLogitsRows = 64;

const Ops* find_ops(const ModelOptions& options) {
  if (options.backend == "reference") return &reference_ops();
  if (options.cpu_variant.empty()) {
    if (const Ops* ops = cpu_ops_avx512()) return ops;
    if (const Ops* ops = cpu_ops_avx2()) return ops;
    return cpu_ops_portable();
  }
  const Ops* ops = options.cpu_variant == "avx512"     ? cpu_ops_avx512()
                   : options.cpu_variant == "avx2"     ? cpu_ops_avx2()
                   : options.cpu_variant == "portable" ? cpu_ops_portable()
                                                       : nullptr;
  if (options.kv_cache_dtype == DType::kF8) {
    throw std::runtime_error("keys and values in 8 bits need a GPU: set --kv-cache-dtype to bfloat16");
  }
  if (ops == nullptr)
    throw std::runtime_error("this machine cannot run the CPU variant " + options.cpu_variant);
  return ops;
}

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(const ModelOptions& options)
      : ops_(find_ops(options)), pool_(options.backend == "reference" ? 1 : options.threads) {}

  const char* description() const override { return ops_->name; }
  const Ops& ops() const override { return *ops_; }
  Executor& executor() override { return pool_; }
  int max_logits_rows() const override { return kLogitsRows; }
  int padded_rows(int rows) const override { return rows; }
  size_t sample_scratch(int vocab_size) const override {
    return size_t{2} * pool_.num_threads() * vocab_size;
  }
  void prepare(const ModelConfig&, const ModelOptions&) override {}

  int padded_head_size(int head_size) const override {
    if (head_size % 2 == 0 && head_size <= 256) return head_size;
    throw std::runtime_error("head size " + std::to_string(head_size) +
                             " is not supported: even sizes up to 256 are");
  }

  // Taken from the system as it is touched.
  void* allocate(size_t bytes) override {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return memory;
  }
  void release(void* memory, size_t bytes) override { munmap(memory, bytes); }
  void upload(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  size_t total_bytes() const override { return 0; }
  size_t free_bytes() const override { return 0; }
  bool joins() const override { return false; }  // they stay where they are in the mapped file
  Tensor place(const Tensor& host) override { return host; }
  bool is_async() const override { return false; }
  const Batch& begin_step(Arena& arena, const BatchSizes&, StepShape&) override { return arena.batch(); }
  void run(const StepShape&, const std::function<void()>& forward) override { forward(); }
  std::vector<int> recorded_sizes() const override { return {}; }
  void end_step(const BatchSizes&, const StepShape&) override {}
  void collect(Arena&, const BatchSizes&) override {}

 private:
  const Ops* const ops_;
  ThreadPool pool_;
};

}  // namespace

std::unique_ptr<Backend> open_cpu_backend(const ModelOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

}  // namespace quire
