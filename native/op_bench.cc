#include "op_bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <stdexcept>

#include "backend.h"

namespace quire {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kBlockSize = 16;
constexpr size_t kMinCalls = 3, kMaxCalls = 2000;
// Copies of a weight that are read in turn take at least this, so that none is found in a cache.
constexpr int64_t kColdBytes = int64_t{128} << 20;

// body(call) with calls counted from 0, the first of which is the warm-up.
double median_ms(double seconds, const std::function<void(int)>& body) {
  std::vector<double> times;
  body(0);
  double total = 0;
  while (times.size() < kMinCalls || (total < seconds && times.size() < kMaxCalls)) {
    const Clock::time_point start = Clock::now();
    body(static_cast<int>(times.size()) + 1);
    times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    total += times.back();
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2] * 1e3;
}

// Random words of which `kept` bits stay and `fixed` bits are set: small numbers of any float form.
void fill(void* data, size_t bytes, uint32_t kept, uint32_t fixed) {
  uint32_t state = 1;
  for (char* at = static_cast<char*>(data); bytes >= 4; at += 4, bytes -= 4) {
    state = state * 1664525 + 1013904223;
    const uint32_t word = ((state ^ state >> 15) & kept) | fixed;
    std::memcpy(at, &word, 4);
  }
}

void fill_numbers(void* data, size_t bytes, DType dtype) {
  if (dtype == DType::kF32) return fill(data, bytes, 0x807fffff, 0x3c000000);
  if (dtype == DType::kF16) return fill(data, bytes, 0x83ff83ff, 0x20002000);
  return fill(data, bytes, 0x807f807f, 0x3c003c00);
}

// One weight matrix in the host's memory, as it comes out of a file.
class HostMatrix {
 public:
  explicit HostMatrix(const OpBench& bench) {
    tensor_.rows = bench.outputs;
    tensor_.cols = bench.inputs;
    tensor_.dtype = dtype_of(bench.form);
    rounded_bits_ = bench.form == "w8" ? 8 : bench.form == "w6" ? 6 : 0;
    const int64_t count = bench.outputs * bench.inputs;
    if (tensor_.dtype == DType::kW4) {
      if (bench.inputs % bench.group != 0) {
        throw std::runtime_error("rows of " + std::to_string(bench.inputs) + " have no groups of " +
                                 std::to_string(bench.group));
      }
      const int64_t groups = count / bench.group;
      bytes_ = count / 2 + groups * 5;
      scales_.assign(groups, 1.0F / 256);
      for (int64_t i = 0; i < groups; i++) zeros_.push_back(static_cast<uint8_t>(6 + i % 4));
      data_.resize(count / 2);
      fill(data_.data(), data_.size(), 0xffffffff, 0);
      tensor_.groups = {scales_.data(), zeros_.data(), bench.group};
    } else {
      data_.resize(static_cast<size_t>(count) * dtype_size(tensor_.dtype));
      // bf16 lies in 12 bits (coded_bf16.h).
      const int bits = rounded_bits_ > 0               ? rounded_bits_
                       : tensor_.dtype == DType::kBF16 ? 12
                                                       : static_cast<int>(dtype_size(tensor_.dtype)) * 8;
      bytes_ = count * bits / 8;
      fill_numbers(data_.data(), data_.size(), tensor_.dtype);
    }
    tensor_.data = data_.data();
  }

  Tensor place(Backend& backend) const {
    return rounded_bits_ > 0 ? backend.place_rounded(tensor_, rounded_bits_) : backend.place(tensor_);
  }
  // As it is placed.
  int64_t bytes() const { return bytes_; }

 private:
  static DType dtype_of(const std::string& form) {
    if (form == "f32") return DType::kF32;
    if (form == "f16") return DType::kF16;
    if (form == "bf16" || form == "w8" || form == "w6") return DType::kBF16;
    if (form == "w4") return DType::kW4;
    throw std::runtime_error("weights: found " + form + ", allowed f32, f16, bf16, w8, w6, w4");
  }

  Tensor tensor_;
  int rounded_bits_ = 0;
  int64_t bytes_ = 0;
  std::vector<char> data_;
  std::vector<float> scales_;
  std::vector<uint8_t> zeros_;
};

class Bench {
 public:
  Bench(const OpBench& bench, Backend& backend) : bench_(bench), backend_(backend), ops_(backend.ops()) {}

  std::vector<double> matmul() {
    const HostMatrix first(bench_);
    const auto copies = static_cast<size_t>(std::max<int64_t>(1, kColdBytes / first.bytes()));
    std::vector<HostMatrix> hosts;
    hosts.reserve(copies);
    std::vector<Tensor> weights;
    for (size_t i = 0; i < copies; i++) {
      hosts.emplace_back(bench_);
      weights.push_back(hosts.back().place(backend_));
    }
    return each([&](int rows) {
      const BackendMemory x = numbers(int64_t{rows} * bench_.inputs);
      const BackendMemory out = numbers(int64_t{rows} * bench_.outputs);
      return time([&](int call) {
        ops_.matmul(
            {out.get(), x.get(), &weights[call % copies], nullptr, rows, bench_.inputs, bench_.outputs},
            backend_.executor());
      });
    });
  }

  // One query of each of `rows` sequences, or `rows` queries of one sequence that has no more.
  std::vector<double> attention(bool is_decode) {
    return each([&](int rows) {
      const int seqs = is_decode ? rows : 1;
      const int context = is_decode ? bench_.context : rows;
      const int blocks = (context - 1) / kBlockSize + 1;
      std::vector<int32_t> starts(seqs + 1), lens(seqs, context), seq_rows(seqs), table(seqs * blocks);
      for (int i = 0; i <= seqs; i++) starts[i] = is_decode ? i : i * rows;
      for (int i = 0; i < seqs; i++) seq_rows[i] = i;
      // Blocks lie scattered, as they do after a while of serving.
      for (size_t i = 0; i < table.size(); i++) {
        table[i] = static_cast<int32_t>((i * 7919) % table.size()) + 1;
      }
      const KeysAndValues kept = keys_and_values(static_cast<int>(table.size()) + 1);
      const int64_t q_size = int64_t{bench_.num_heads} * bench_.head_size;
      const BackendMemory q = numbers(rows * q_size), out = numbers(rows * q_size);
      AttentionArgs args{};
      args.out = out.get();
      args.q = q.get();
      args.q_stride = q_size;
      args.cache = &kept.cache;
      args.query_start_loc = starts.data();
      args.context_lens = lens.data();
      args.seq_rows = seq_rows.data();
      args.block_table = table.data();
      args.max_blocks_per_seq = blocks;
      args.num_seqs = seqs;
      args.num_heads = bench_.num_heads;
      args.scale = 1 / std::sqrt(static_cast<float>(bench_.head_size));
      args.num_decodes = is_decode || rows == 1 ? seqs : 0;
      args.max_queries = is_decode ? 1 : rows;
      args.max_context_len = context;
      return time([&](int) { ops_.attention(args, backend_.executor()); });
    });
  }

  std::vector<double> rope_and_cache() {
    return each([&](int rows) {
      const KeysAndValues kept = keys_and_values((rows - 1) / kBlockSize + 2);
      const int64_t width = int64_t{bench_.num_heads + 2 * bench_.num_kv_heads} * bench_.head_size;
      const BackendMemory qkv = numbers(rows * width);
      std::vector<float> table(static_cast<size_t>(rows) * bench_.head_size, 0.7F);
      std::vector<int32_t> slots(rows);
      for (int i = 0; i < rows; i++) slots[i] = kBlockSize + i;
      const int freqs = bench_.head_size / 2;
      return time([&](int) {
        ops_.rope_and_cache({qkv.get(), &kept.cache, slots.data(), table.data(), nullptr, nullptr, 1e-5F,
                             rows, bench_.num_heads, freqs, bench_.head_size},
                            backend_.executor());
      });
    });
  }

  std::vector<double> rms_norm() {
    const std::vector<float> ones(bench_.outputs, 1);
    const Tensor weight = {ones.data(), DType::kF32, 1, bench_.outputs};
    const int size = static_cast<int>(bench_.outputs);
    return each([&](int rows) {
      const BackendMemory x = numbers(rows * bench_.outputs), out = numbers(rows * bench_.outputs);
      BackendMemory residual(backend_, static_cast<size_t>(rows * bench_.outputs) * sizeof(float));
      return time([&](int) {
        ops_.rms_norm({out.get(), f32(residual.get()), x.get(), &weight, rows, size, 1e-5F},
                      backend_.executor());
      });
    });
  }

  std::vector<double> silu_mul() {
    return each([&](int rows) {
      const BackendMemory gate_up = numbers(2 * rows * bench_.outputs), out = numbers(rows * bench_.outputs);
      return time([&](int) {
        ops_.silu_mul({out.get(), gate_up.get(), rows, static_cast<int>(bench_.outputs)},
                      backend_.executor());
      });
    });
  }

  // Greedy, without log-probabilities.
  std::vector<double> sample() {
    const int vocab_size = static_cast<int>(bench_.outputs);
    const BackendMemory scratch(backend_, backend_.sample_scratch(vocab_size) * sizeof(float));
    return each([&](int rows) {
      const BatchSizes sizes = {rows, rows, 1, 0, vocab_size, 0};
      const Arena arena(sizes);
      const Batch& batch = arena.batch();
      for (int i = 0; i < rows; i++) {
        batch.logits_rows[i] = i;
        batch.target_token_ids[i] = batch.num_logprobs[i] = batch.grammar_rows[i] = -1;
        batch.temperature[i] = 0;
        batch.top_p[i] = batch.repetition_penalty[i] = 1;
        batch.token_count_start[i + 1] = batch.logit_bias_start[i + 1] = 0;
      }
      BackendMemory logits(backend_, static_cast<size_t>(rows) * vocab_size * sizeof(float));
      fill_numbers(logits.get(), logits.bytes(), DType::kF32);
      return time([&](int) {
        ops_.sample({f32(logits.get()), &batch, sizes, 0, rows, vocab_size, f32(scratch.get())},
                    backend_.executor());
      });
    });
  }

 private:
  struct KeysAndValues {
    BackendMemory k, v;
    KvCache cache;
  };

  template <typename Body>
  std::vector<double> each(const Body& body) {
    std::vector<double> times;
    for (int rows : bench_.rows) times.push_back(body(rows));
    return times;
  }

  double time(const std::function<void(int)>& body) { return median_ms(bench_.seconds, body); }

  // Activations.
  BackendMemory numbers(int64_t count) {
    BackendMemory memory(backend_, static_cast<size_t>(count) * dtype_size(ops_.activations));
    fill_numbers(memory.get(), memory.bytes(), ops_.activations);
    return memory;
  }

  KeysAndValues keys_and_values(int num_blocks) {
    const size_t bytes = size_t{2} * num_blocks * bench_.num_kv_heads * kBlockSize * bench_.head_size;
    KeysAndValues made = {BackendMemory(backend_, bytes), BackendMemory(backend_, bytes), {}};
    fill_numbers(made.k.get(), bytes, DType::kBF16);
    fill_numbers(made.v.get(), bytes, DType::kBF16);
    made.cache = {made.k.get(), made.v.get(),        DType::kBF16,    num_blocks,
                  kBlockSize,   bench_.num_kv_heads, bench_.head_size};
    return made;
  }

  const OpBench& bench_;
  Backend& backend_;
  const Ops& ops_;
};

}  // namespace

std::vector<double> bench_op(const OpBench& bench) {
  if (bench.rows.empty() || *std::min_element(bench.rows.begin(), bench.rows.end()) < 1) {
    throw std::runtime_error("rows: at least one is needed, and each is 1 or more");
  }
  ModelOptions options{};
  options.backend = "cpu";
  options.cpu_variant = bench.cpu_variant;
  options.kv_cache_dtype = DType::kBF16;
  options.threads = bench.threads;
  options.rounds_activations = bench.rounds_activations;
  options.sizes.max_num_batched_tokens = *std::max_element(bench.rows.begin(), bench.rows.end());
  ModelConfig config{};
  config.hidden_size = static_cast<int>(bench.inputs);
  const std::unique_ptr<Backend> backend = open_cpu_backend(options);
  backend->prepare(config, options);
  Bench run(bench, *backend);
  if (bench.op == "matmul") return run.matmul();
  if (bench.op == "attention_decode") return run.attention(true);
  if (bench.op == "attention_prefill") return run.attention(false);
  if (bench.op == "rope_and_cache") return run.rope_and_cache();
  if (bench.op == "rms_norm") return run.rms_norm();
  if (bench.op == "silu_mul") return run.silu_mul();
  if (bench.op == "sample") return run.sample();
  throw std::runtime_error("there is no op " + bench.op + " to measure");
}

}  // namespace quire
