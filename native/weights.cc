#include "weights.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <stdexcept>
#include <tuple>

#include "adapters.h"
#include "float16.h"
#include "integer_rounding.h"
#include "philox.h"
#include "weight_tiles.h"

namespace quire {

namespace {

constexpr int64_t kElementsPerPiece = 1 << 16;
// Of the output head, behind layers of integers.
constexpr int kHeadBits = 6;

struct Slot {
  const char* name;
  Tensor LayerWeights::*tensor;
  int64_t rows;  // 1 for a vector
  int64_t cols;
  bool is_required;
};

std::vector<Slot> layer_slots(const ModelConfig& c) {
  const int64_t q = int64_t{c.num_heads} * c.head_size;
  const int64_t kv = int64_t{c.num_kv_heads} * c.head_size;
  const int64_t hidden = c.hidden_size;
  const int64_t inner = c.intermediate_size;
  using L = LayerWeights;
  return {{"input_norm", &L::input_norm, 1, hidden, true},
          {"q_proj", &L::q_proj, q, hidden, true},
          {"k_proj", &L::k_proj, kv, hidden, true},
          {"v_proj", &L::v_proj, kv, hidden, true},
          {"o_proj", &L::o_proj, hidden, q, true},
          {"q_bias", &L::q_bias, 1, q, false},
          {"k_bias", &L::k_bias, 1, kv, false},
          {"v_bias", &L::v_bias, 1, kv, false},
          {"o_bias", &L::o_bias, 1, hidden, false},
          {"q_norm", &L::q_norm, 1, c.head_size, c.qk_norm},
          {"k_norm", &L::k_norm, 1, c.head_size, c.qk_norm},
          {"post_attention_norm", &L::post_attention_norm, 1, hidden, true},
          {"attention_out_norm", &L::attention_out_norm, 1, hidden, c.out_norms},
          {"mlp_out_norm", &L::mlp_out_norm, 1, hidden, c.out_norms},
          {"gate_proj", &L::gate_proj, inner, hidden, c.num_experts == 0},
          {"up_proj", &L::up_proj, inner, hidden, c.num_experts == 0},
          {"down_proj", &L::down_proj, hidden, inner, c.num_experts == 0},
          {"router", &L::router, c.num_experts, hidden, c.num_experts > 0},
          {"gate_bias", &L::gate_bias, 1, inner, false},
          {"up_bias", &L::up_bias, 1, inner, false},
          {"down_bias", &L::down_bias, 1, hidden, false}};
}

TensorSource source_of(const char* slot, int layer, int expert, int64_t rows, int64_t cols) {
  TensorSource source;
  source.slot = slot;
  source.layer = layer;
  source.expert = expert;
  source.rows = rows;
  source.cols = cols;
  return source;
}

std::string shape_text(int64_t rows, int64_t cols) {
  return rows == 1 ? "[" + std::to_string(cols) + "]"
                   : "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

void check_shape(const TensorSource& source, int64_t rows, int64_t cols) {
  if (source.rows == rows && source.cols == cols) return;
  throw std::runtime_error("tensor " + source_name(source) + " has shape " +
                           shape_text(source.rows, source.cols) + ", expected " + shape_text(rows, cols));
}

// Standard normal numbers times kDummyStddev from the tensor's own stream (Box-Muller); norms are 1.
float dummy_value(const TensorSource& source, uint32_t seed, uint64_t stream, int64_t i) {
  if (source.rows == 1) return source.slot.find("norm") != std::string::npos ? 1.0f : 0.0f;
  const PhiloxBlock block = philox4x32(seed, 0, static_cast<uint64_t>(i), stream);
  const double u = (block.words[0] + 1.0) * 0x1.0p-32;
  const double angle = block.words[1] * 0x1.0p-32 * 6.283185307179586;
  return kDummyStddev * static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(angle));
}

// Matrices that have a head's size in theirs.
bool is_attention(const std::string& slot) {
  return slot == "q_proj" || slot == "k_proj" || slot == "v_proj" || slot == "o_proj";
}

// What a step reads of it.
int64_t weight_bytes(const Tensor& w) {
  const int64_t count = w.rows * w.cols;
  if (w.dtype == DType::kF8) return count + w.rows * static_cast<int64_t>(sizeof(float));
  if (w.is_coded) return count * 3 / 2;
  if (!is_integer(w.dtype)) return count * static_cast<int64_t>(dtype_size(w.dtype));
  const int64_t groups = count / w.groups.group;
  const int64_t scale_bytes = is_tiled(w.dtype) ? 2 : 4;
  return count * bits_of(w.dtype) / 8 + groups * (scale_bytes + (w.groups.zeros == nullptr ? 0 : 1));
}

std::string gib_text(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GiB", bytes / (1 << 30));
  return text;
}

// Before anything is read: a device that cannot hold the weights, and what it could hold.
void check_fit(const ModelFiles& files, const Backend& backend) {
  if (backend.total_bytes() == 0) return;
  double bytes = 0;
  for (const TensorSource& source : files.tensors) {
    const double count = static_cast<double>(source.rows) * static_cast<double>(source.cols);
    const bool in_4_bits = source.dtype == DType::kW4 && source.expert < 0;
    const bool in_8_bits = source.dtype == DType::kF8 && backend.has_f8_matmul(source.rows, source.cols);
    bytes += count * (in_4_bits ? 0.5 + 4.0 / source.group : in_8_bits ? 1 : 2);
  }
  const double free = static_cast<double>(backend.free_bytes());
  if (bytes < free) return;
  char fitting[32];
  std::snprintf(fitting, sizeof fitting, "%.1f", free / 2e9);
  throw std::runtime_error("the weights take " + gib_text(bytes) + " and " + gib_text(free) +
                           " of the GPU's " + gib_text(static_cast<double>(backend.total_bytes())) +
                           " are free: there is room for " + fitting +
                           " billion parameters in 16 bits, or nearly four times as many in 4 bits (AWQ)");
}

}  // namespace

std::string source_name(const TensorSource& source) {
  const std::string layer = source.layer < 0 ? "" : "layer " + std::to_string(source.layer) + " ";
  return layer + source.slot + (source.expert < 0 ? "" : " of expert " + std::to_string(source.expert));
}

uint64_t stream_of(const TensorSource& source) {
  uint64_t hash = 1469598103934665603u;  // FNV-1a
  for (char c : source_name(source)) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

Weights::Weights(const ModelConfig& config, const ModelFiles& files, const ModelOptions& options,
                 Backend& backend)
    : pool_(options.threads, options.cpu_affinity) {
  check_fit(files, backend);
  for (const std::string& path : files.paths) map_file(path);
  std::map<std::tuple<int, int, std::string>, const TensorSource*> sources;
  for (const TensorSource& source : files.tensors) {
    sources[{source.layer, source.expert, source.slot}] = &source;
  }
  const auto find = [&](const TensorSource& wanted, bool is_required) {
    const auto found = sources.find({wanted.layer, wanted.expert, wanted.slot});
    if (found == sources.end()) {
      if (is_required) throw std::runtime_error("tensor " + source_name(wanted) + " is missing");
      return Tensor{};
    }
    check_shape(*found->second, wanted.rows, wanted.cols);
    return prepare(*found->second, config, options, backend);
  };
  const int64_t vocab = config.vocab_size, hidden = config.hidden_size;
  // With integer weights in the layers, a head in 16 bits would be most of what a step reads.
  const int layer_bits = options.quantization == Quantization::kInt8 ? 8 : 0;
  const bool has_integers = std::any_of(files.tensors.begin(), files.tensors.end(),
                                        [](const TensorSource& source) { return is_integer(source.dtype); });
  const bool rounds_head =
      options.quantization == Quantization::kAuto && has_integers && backend.has_int8_activations();
  const int head_bits = rounds_head ? kHeadBits : layer_bits;
  const auto placed = [&](const TensorSource& source, bool is_required, int rounded_bits) {
    return put(find(source, is_required), backend, rounded_bits);
  };
  final_norm = placed(source_of("final_norm", -1, -1, 1, hidden), true, 0);
  lm_head = placed(source_of("lm_head", -1, -1, vocab, hidden), false, head_bits);
  const Tensor table = find(source_of("embed_tokens", -1, -1, vocab, hidden), true);
  if (!lm_head && head_bits == 0) {
    lm_head = embed_tokens = put(table, backend, 0);
  } else {
    if (!lm_head) lm_head = put(table, backend, head_bits);
    embed_tokens = put_rows(table, backend);
  }
  layers.resize(config.num_layers);
  for (int layer = 0; layer < config.num_layers; layer++) {
    place_layer(layer, config, backend, layer_bits, find);
    passing_.clear();
    forget_pages();
  }
}

void Weights::place_layer(int layer, const ModelConfig& config, Backend& backend, int rounded_bits,
                          const std::function<Tensor(const TensorSource&, bool)>& find) {
  LayerWeights& w = layers[layer];
  const std::vector<Slot> slots = layer_slots(config);
  for (const Slot& slot : slots) {
    w.*slot.tensor = find(source_of(slot.name, layer, -1, slot.rows, slot.cols), slot.is_required);
  }
  const auto joins = [&](const Tensor& part) {
    return part && backend.joins(rounded_bits > 0 && can_be_rounded(part) ? DType::kW8 : part.dtype);
  };
  if (joins(w.q_proj)) {
    join_matrices(w.qkv_proj, w.qkv_bias, {&w.q_proj, &w.k_proj, &w.v_proj},
                  {&w.q_bias, &w.k_bias, &w.v_bias}, backend, rounded_bits);
  }
  if (joins(w.gate_proj)) {
    join_matrices(w.gate_up_proj, w.gate_up_bias, {&w.gate_proj, &w.up_proj}, {&w.gate_bias, &w.up_bias},
                  backend, rounded_bits);
  }
  for (const Slot& slot : slots) {
    w.*slot.tensor = put(w.*slot.tensor, backend, projection_of(slot.name) >= 0 ? rounded_bits : 0);
  }
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  for (int expert = 0; expert < config.num_experts; expert++) {
    const auto placed = [&](const char* slot, int64_t rows, int64_t cols) {
      return put(find(source_of(slot, layer, expert, rows, cols), true), backend, rounded_bits);
    };
    w.expert_gate.push_back(placed("gate_proj", inner, hidden));
    w.expert_up.push_back(placed("up_proj", inner, hidden));
    w.expert_down.push_back(placed("down_proj", hidden, inner));
  }
}

Weights::~Weights() {
  for (const Mapping& mapping : mappings_) munmap(mapping.data, static_cast<size_t>(mapping.size));
}

void Weights::map_file(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw std::runtime_error("cannot open " + path + ": " + std::strerror(errno));
  struct stat status;
  void* data = MAP_FAILED;
  if (fstat(file, &status) == 0 && status.st_size > 0) {
    data = mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file, 0);
  }
  const int error = errno;
  close(file);
  if (data == MAP_FAILED) throw std::runtime_error("cannot map " + path + ": " + std::strerror(error));
  mappings_.push_back({data, status.st_size});
}

void* Weights::allocate(int64_t bytes) {
  std::unique_ptr<char[]> memory(new char[static_cast<size_t>(bytes)]);
  void* start = memory.get();
  passing_[start] = std::move(memory);
  return start;
}

void Weights::keep(const void* memory) {
  const auto found = passing_.find(memory);
  if (found != passing_.end()) kept_.insert(passing_.extract(found));
}

const char* Weights::part(const TensorSource& source, const FilePart& part, int64_t expected_bytes) {
  if (part.file < 0 || part.file >= static_cast<int>(mappings_.size()) || part.bytes != expected_bytes ||
      part.offset < 0 || part.offset > mappings_[part.file].size - expected_bytes) {
    throw std::runtime_error("tensor " + source_name(source) + " lies outside its file: " +
                             std::to_string(expected_bytes) + " bytes at " + std::to_string(part.offset));
  }
  const char* data = static_cast<const char*>(mappings_[part.file].data) + part.offset;
  read_.push_back({data, expected_bytes});
  return data;
}

void Weights::forget_pages() {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (const auto& [data, bytes] : read_) {
    const uintptr_t start = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
    const uintptr_t end = reinterpret_cast<uintptr_t>(data + bytes) / page * page;
    if (start < end) madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
  }
  read_.clear();
}

Tensor Weights::prepare(const TensorSource& source, const ModelConfig& config, const ModelOptions& options,
                        const Backend& backend) {
  const int padded = backend.padded_head_size(config.head_size);
  Tensor host = read(source, options, backend);
  // What the backend has no kernels for in this form becomes plain numbers.
  const bool is_plain_shape = source.expert < 0 && (padded == config.head_size || !is_attention(source.slot));
  const bool has_w4 = is_plain_shape || backend.total_bytes() == 0;
  const bool has_f8 = is_plain_shape && backend.has_f8_matmul(host.rows, host.cols);
  if ((host.dtype == DType::kW4 && !has_w4) || (host.dtype == DType::kF8 && !has_f8)) {
    host = widen(host, options);
  }
  if (config.norm_offset && source.slot.find("norm") != std::string::npos) host = plus_one(host);
  if (padded != config.head_size) host = pad_heads(host, source.slot, config.head_size, padded);
  return host;
}

Tensor Weights::put(const Tensor& host, Backend& backend, int rounded_bits) {
  if (!host) return host;
  const bool is_rounded = rounded_bits > 0 && can_be_rounded(host);
  return take({host}, is_rounded ? backend.place_rounded(host, rounded_bits) : backend.place(host));
}

Tensor Weights::put_rows(const Tensor& host, Backend& backend) {
  return take({host}, backend.place_rows(host));
}

Tensor Weights::take(const std::vector<Tensor>& hosts, const Tensor& placed) {
  for (const Tensor& host : hosts) {
    const auto has_host = [&](const Mapping& mapping) {
      const char* start = static_cast<const char*>(mapping.data);
      return host.data >= start && host.data < start + mapping.size;
    };
    // What has several parts in a file is noted as they are found (part).
    const bool is_noted = host.dtype == DType::kAwq || placed.data == host.data;
    if (!is_noted && std::any_of(mappings_.begin(), mappings_.end(), has_host)) {
      read_.push_back({static_cast<const char*>(host.data), weight_bytes(host)});
    }
  }
  keep(placed.data);
  keep(placed.groups.scales);
  keep(placed.groups.zeros);
  bytes_ += weight_bytes(placed);
  return placed;
}

Tensor Weights::join(const std::vector<Tensor>& parts) {
  Tensor joined = parts[0];
  joined.rows = 0;
  for (const Tensor& part : parts) joined.rows += part.rows;
  // Rows lie one after the other in every form.
  const auto stack = [&](int64_t bytes_per_row, const auto& data_of) {
    char* to = static_cast<char*>(allocate(joined.rows * bytes_per_row));
    const char* start = to;
    for (const Tensor& part : parts) {
      std::memcpy(to, data_of(part), static_cast<size_t>(part.rows * bytes_per_row));
      to += part.rows * bytes_per_row;
    }
    return static_cast<const void*>(start);
  };
  if (joined.dtype == DType::kF8) {
    joined.row_scales =
        static_cast<const float*>(stack(sizeof(float), [](const Tensor& part) { return part.row_scales; }));
  }
  if (joined.dtype != DType::kW4) {
    const int64_t row = joined.cols * static_cast<int64_t>(dtype_size(joined.dtype));
    joined.data = stack(row, [](const Tensor& part) { return part.data; });
    return joined;
  }
  const int64_t groups = joined.cols / joined.groups.group;
  joined.data = stack(joined.cols / 2, [](const Tensor& part) { return part.data; });
  joined.groups.scales =
      static_cast<const float*>(stack(groups * 4, [](const Tensor& part) { return part.groups.scales; }));
  joined.groups.zeros =
      static_cast<const uint8_t*>(stack(groups, [](const Tensor& part) { return part.groups.zeros; }));
  return joined;
}

Tensor Weights::put_joined(const std::vector<Tensor>& parts, Backend& backend, int rounded_bits) {
  const Tensor& first = parts[0];
  for (const Tensor& part : parts) {
    if (!part || part.dtype != first.dtype || part.cols != first.cols ||
        part.groups.group != first.groups.group || (backend.packs_tiles() && part.rows % kTileRows != 0)) {
      return {};
    }
  }
  if (!backend.packs_tiles()) return put(join(parts), backend, rounded_bits);
  return take(parts, backend.place_stacked(parts, is_integer(first.dtype) ? 0 : rounded_bits));
}

void Weights::join_matrices(Tensor& joined, Tensor& joined_bias, const std::vector<Tensor*>& parts,
                            const std::vector<Tensor*>& biases, Backend& backend, int rounded_bits) {
  std::vector<Tensor> matrices;
  for (const Tensor* part : parts) matrices.push_back(*part);
  joined = put_joined(matrices, backend, rounded_bits);
  if (!joined) return;
  auto* sums = static_cast<float*>(allocate(joined.rows * static_cast<int64_t>(sizeof(float))));
  bool has_bias = false;
  int64_t at = 0;
  for (size_t p = 0; p < parts.size(); p++) {
    for (int64_t i = 0; i < parts[p]->rows; i++) {
      sums[at++] = *biases[p] ? element(biases[p]->data, biases[p]->dtype, i) : 0;
    }
    has_bias = has_bias || *biases[p];
    parts[p]->data = nullptr;
    biases[p]->data = nullptr;
  }
  if (has_bias) joined_bias = put({sums, DType::kF32, 1, joined.rows}, backend);
}

Tensor Weights::plus_one(const Tensor& norm) {
  auto* values = static_cast<float*>(allocate(norm.cols * static_cast<int64_t>(sizeof(float))));
  for (int64_t i = 0; i < norm.cols; i++) values[i] = 1 + element(norm.data, norm.dtype, i);
  return {values, DType::kF32, 1, norm.cols};
}

Tensor Weights::pad_heads(const Tensor& tensor, const std::string& slot, int head_size, int padded) {
  const bool is_projection = slot[0] == 'q' || slot[0] == 'k' || slot[0] == 'v';
  const bool pads_rows = is_projection && slot.find("_proj") != std::string::npos;
  const bool pads_cols = slot == "o_proj" || (is_projection && !pads_rows);
  if (!pads_rows && !pads_cols) return tensor;
  const auto widen = [&](int64_t size) { return size / head_size * padded; };
  const auto moved = [&](int64_t i) { return i / head_size * padded + i % head_size; };
  Tensor out = tensor;
  out.rows = pads_rows ? widen(tensor.rows) : tensor.rows;
  out.cols = pads_cols ? widen(tensor.cols) : tensor.cols;
  const size_t bytes = static_cast<size_t>(out.rows * out.cols) * dtype_size(out.dtype);
  void* data = allocate(static_cast<int64_t>(bytes));
  std::memset(data, 0, bytes);
  for (int64_t row = 0; row < tensor.rows; row++) {
    for (int64_t col = 0; col < tensor.cols; col++) {
      const int64_t to = (pads_rows ? moved(row) : row) * out.cols + (pads_cols ? moved(col) : col);
      set_element(data, out.dtype, to, element(tensor.data, tensor.dtype, row * tensor.cols + col));
    }
  }
  out.data = data;
  return out;
}

Tensor Weights::read(const TensorSource& source, const ModelOptions& options, const Backend& backend) {
  if (source.dtype == DType::kW4) return read_awq(source, backend.packs_tiles());
  if (source.dtype == DType::kF8) return read_f8(source);
  const int64_t count = source.rows * source.cols;
  const bool is_matrix = source.rows > 1;
  const DType dtype = !is_matrix ? DType::kF32 : options.keep_dtype ? source.dtype : options.dtype;
  const int64_t bytes = count * static_cast<int64_t>(dtype_size(dtype));
  const int64_t num_pieces = (count + kElementsPerPiece - 1) / kElementsPerPiece;
  const auto fill = [&](const auto& value_of) {
    void* data = allocate(bytes);
    pool_.parallel_for(num_pieces, [&](int64_t piece, int) {
      const int64_t last = std::min(count, (piece + 1) * kElementsPerPiece);
      for (int64_t i = piece * kElementsPerPiece; i < last; i++) set_element(data, dtype, i, value_of(i));
    });
    return Tensor{data, dtype, source.rows, source.cols};
  };
  if (source.file < 0) {
    const uint64_t stream = stream_of(source);
    return fill([&](int64_t i) { return dummy_value(source, options.seed, stream, i); });
  }
  const int64_t source_bytes = count * static_cast<int64_t>(dtype_size(source.dtype));
  if (source.file >= static_cast<int>(mappings_.size()) || source.bytes != source_bytes ||
      source.offset < 0 || source.offset > mappings_[source.file].size - source_bytes) {
    throw std::runtime_error("tensor " + source_name(source) + " lies outside its file: " +
                             std::to_string(source_bytes) + " bytes at " + std::to_string(source.offset));
  }
  const char* data = static_cast<const char*>(mappings_[source.file].data) + source.offset;
  const bool is_aligned = reinterpret_cast<uintptr_t>(data) % dtype_size(source.dtype) == 0;
  if (dtype == source.dtype && is_aligned) return {data, dtype, source.rows, source.cols};
  return fill([&](int64_t i) { return element(data, source.dtype, i); });
}

}  // namespace quire
